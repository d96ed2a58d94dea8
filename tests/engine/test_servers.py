"""Many threads and an event loop at once get the same results as one thread."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import AsyncSearcher, Searcher

THREADS = 16
TASKS = 16
QUESTIONS = [
    "how do bees tell of flowers", "cost of a loan", "bad weather", "a winning move",
    "what to eat in the morning", "an interest in money", "insects", "a queen",
    "how long does it rise", "storms in the mountains",
]  # fmt: skip
ROWS = [
    '{"_id": "bees", "text": "Honey insects dance to tell their hive where nectar is."}',
    '{"_id": "loans", "text": "The bank raised its interest rate on mortgages by a percent."}',
    '{"_id": "rain", "text": "Heavy precipitation flooded the valley after the storm."}',
    '{"_id": "chess", "text": "She sacrificed her queen and gave checkmate two moves later."}',
    '{"_id": "bread", "text": "Knead the dough, let it rise, and bake it until it is brown."}',
]


@pytest.fixture(autouse=True, scope="module")
def remembered_encodings() -> None:
    """Nothing is remembered here: threads use the model at the same time."""


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


def shuffled(number: int) -> Iterator[str]:
    yield from random.Random(number).sample(QUESTIONS, len(QUESTIONS))


@contextmanager
def running(threads: list[threading.Thread]) -> Iterator[None]:
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def test_threads_and_a_loop_get_what_one_thread_gets(
    client: OpenSearch, opensearch_url: str, index: str, load: Any, encoder: LatentEncoder
) -> None:
    """The cache is smaller than the number of questions, so that encoding never stops."""
    load(client, index, ROWS)
    alone = QueryRewriter.from_index(client, index, QueryEncoder(encoder, cache_size=0))
    bodies = {question: alone.rewrite(question) for question in QUESTIONS}
    expected = {q: scores(client.search(index=index, body=body)) for q, body in bodies.items()}
    assert all(expected.values())
    assert len({max(found, key=found.__getitem__) for found in expected.values()}) == len(ROWS)

    queries = QueryEncoder(encoder, cache_size=4)
    searcher = Searcher(client, index, [queries], renew_seconds=0.01, statistics_seconds=0.01)
    wrong: list[Any] = []

    def as_body(question: str) -> Any:
        return {"query": {"match": {"words": {"query": question}}}, "track_total_hits": False}

    def check(question: str, body: Any, found: dict[str, float]) -> None:
        # The texts of a batch change the last digits of a float.
        if found != pytest.approx(expected[question], rel=1e-3):
            wrong.append((question, found))
        if same(body) != pytest.approx(same(bodies[question]), rel=1e-3):
            wrong.append((question, body))

    def in_a_thread(number: int) -> None:
        try:
            for question in shuffled(number):
                rewriter = searcher.rewriter
                check(question, rewriter.rewrite(question), scores(searcher.search(question)))
                body = rewriter.rewrite_body(as_body(question))
                check(question, body, scores(searcher.search(as_body(question))))
        except Exception as error:
            wrong.append(error)

    async def in_a_task(number: int, searching: AsyncSearcher) -> None:
        for question in shuffled(number):
            body = await searching.rewriter.rewrite_async(question)
            check(question, body, scores(await searching.search(question)))
            body = await searching.rewriter.rewrite_async(as_body(question))
            check(question, body, scores(await searching.search(as_body(question))))

    async def loop() -> None:
        async with AsyncOpenSearch(opensearch_url) as on_loop:
            searching = await AsyncSearcher.open(on_loop, index, [queries], renew_seconds=0.01)
            assert searching.index == index
            await asyncio.gather(*(in_a_task(number, searching) for number in range(TASKS)))

    with running([threading.Thread(target=in_a_thread, args=(n,)) for n in range(THREADS)]):
        asyncio.run(loop())
    assert wrong == []
    info = queries.cache_info()
    assert info.hits + info.misses == 4 * (THREADS + TASKS) * len(QUESTIONS)
    assert info.misses > len(QUESTIONS)
    assert info.hits > 0
    assert info.currsize <= info.maxsize == 4


def same(body: dict[str, Any]) -> dict[str, float]:
    """Terms and weights of a hybrid request."""
    _, latent = body["query"]["bool"]["should"]
    clauses = [clause["term"]["latent"] for clause in latent["bool"]["should"]]
    return {clause["value"]: clause["boost"] for clause in clauses}


def test_the_loop_goes_on_while_a_thread_encodes(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    """Another thread holds the model; the loop turns all the same, and answers what is kept, of
    questions and bodies."""
    load(client, index, ROWS)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    kept = rewriter.rewrite(QUESTIONS[0])

    def body(*questions: str) -> Any:
        return {"query": {"bool": {"should": [{"match": {"text": q}} for q in questions]}}}

    kept_body = rewriter.rewrite_body(body(QUESTIONS[0]))

    async def main() -> None:
        with encoder.backbone.lock:
            new = asyncio.create_task(rewriter.rewrite_async(QUESTIONS[1]))
            asked = body(QUESTIONS[0], QUESTIONS[2])
            whole = asyncio.create_task(rewriter.rewrite_async(asked))
            for _ in range(10):
                await asyncio.sleep(0)
                for asked_before, answer in ((QUESTIONS[0], kept), (body(QUESTIONS[0]), kept_body)):
                    made = rewriter.rewrite_async(asked_before)
                    assert await asyncio.wait_for(made, 60) == answer
            assert not new.done()
            assert not whole.done()
        assert same(await new) == pytest.approx(same(rewriter.rewrite(QUESTIONS[1])), rel=1e-3)
        assert await whole == rewriter.rewrite_body(asked)

    asyncio.run(main())


def test_an_async_searcher_follows_its_alias_and_says_what_is_wrong(
    client: OpenSearch, opensearch_url: str, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    first, second = new_index(), new_index()
    alias = f"{first}-alias"
    for index in (first, second):
        load(client, index, ROWS)
    client.indices.put_alias(index=first, name=alias)

    async def main() -> None:
        async with AsyncOpenSearch(opensearch_url) as on_loop:
            searching = await AsyncSearcher.open(on_loop, alias, [encoder], renew_seconds=3600)
            answer = await searching.search(QUESTIONS[0], size=1)
            assert [(h["_index"], h["_id"]) for h in answer["hits"]["hits"]] == [(first, "bees")]
            with pytest.raises(InputError, match="use one of"):
                await searching.search(QUESTIONS[0], form="dense")
            client.indices.put_alias(index=second, name=alias)
            client.indices.delete(index=first)
            body = {"query": {"match": {"text": QUESTIONS[0]}}, "size": 1}
            answer = await searching.search(body, form="latent")
            assert [(h["_index"], h["_id"]) for h in answer["hits"]["hits"]] == [(second, "bees")]
            with pytest.raises(InputError, match="matching 'all'"):
                await searching.search(body, matching="all")
            client.indices.delete(index=second)
            with pytest.raises(MismatchError, match=f"no index or alias {alias}"):
                await searching.search(QUESTIONS[0])
            with pytest.raises(MismatchError, match="no index or alias nowhere"):
                await AsyncSearcher.open(on_loop, "nowhere", [encoder])
        async with AsyncOpenSearch(f"http://127.0.0.1:{free_port()}", max_retries=0) as nobody:
            with pytest.raises(EngineError, match="nothing answers at"):
                await AsyncSearcher.open(nobody, alias, [encoder])

    asyncio.run(main())


def test_many_questions_are_rewritten_as_each_alone(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    load(client, index, ROWS)
    queries = QueryEncoder(encoder, cache_size=3)
    rewriter = QueryRewriter.from_index(client, index, queries)
    many = rewriter.rewrite_many([*QUESTIONS, QUESTIONS[0]], size=3)
    assert queries.cache_info()[:2] == (1, len(QUESTIONS))
    assert many[0] == many[-1]
    for question, body in zip(QUESTIONS, many, strict=False):
        assert body["size"] == 3
        assert same(body) == pytest.approx(same(rewriter.rewrite(question)), rel=1e-3)
    assert rewriter.rewrite_many([]) == []
    with pytest.raises(InputError, match="empty"):
        rewriter.rewrite_many([" "])


def test_errors_of_the_engine_while_it_is_looked_up_again(
    client: OpenSearch, opensearch_url: str, index: str, load: Any, encoder: LatentEncoder
) -> None:
    load(client, index, ROWS)
    own = Connection(opensearch_url).open()
    searcher = Searcher(own, index, [encoder], renew_seconds=0)
    client.indices.delete(index=index)
    with pytest.raises(MismatchError, match=f"no index or alias {index}"):
        searcher.search(QUESTIONS[0])
    own.close()


def test_an_asynchronous_client_is_sent_to_the_searcher_for_it(opensearch_url: str) -> None:
    async def open_on_loop() -> None:
        async with AsyncOpenSearch(opensearch_url) as on_loop:
            with pytest.raises(InputError, match=r"use AsyncSearcher\.open\(client, \.\.\.\)"):
                QueryRewriter.from_index(on_loop, "papers")

    asyncio.run(open_on_loop())
