"""Clients of the `elasticsearch` package, of three majors, do what those of opensearch-py do."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elastic_proxy import USER, Elastic, ElasticProxy
from opensearchpy import AsyncOpenSearch, OpenSearch

import latent_ingest.connector
from latent_ingest.connector import (
    AsyncSearcher,
    Connection,
    EngineError,
    EnrichJob,
    IndexMeta,
    Ingest,
    IngestJob,
    InputError,
    LatentEncoder,
    MismatchError,
    QueryEncoder,
    QueryRewriter,
    Searcher,
    explain,
    open_index,
)
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.evaluation.evaluation import Evaluation, Plan
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.tuning.splits import Split
from latent_ingest.connector.tuning.tuning import Tuning

PACKAGES = (
    "elasticsearch7",
    pytest.param("elasticsearch8", marks=pytest.mark.slow),
    "elasticsearch9",
)
QUESTION = "how do bees tell of flowers"
ROWS = [
    {"_id": "bees", "text": "Honey insects dance to tell their hive where nectar is."},
    {"_id": "loans", "text": "The bank raised its interest rate on mortgages by a percent."},
    {"_id": "rain", "text": "Heavy precipitation flooded the valley after the storm."},
]


@pytest.fixture(scope="module")
def listening(elasticsearch_url: str) -> Iterator[tuple[ElasticProxy, str]]:
    proxy = ElasticProxy(elasticsearch_url)
    with proxy.listening(Elastic) as url:
        yield proxy, url


@pytest.fixture
def proxy(listening: tuple[ElasticProxy, str]) -> Iterator[ElasticProxy]:
    yield listening[0]
    listening[0].refuse = lambda path: None


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


Open = Callable[..., Any]


@pytest.fixture
def opened(package: Any, listening: tuple[ElasticProxy, str]) -> Iterator[Open]:
    """Open a client with the login, which leaves retries to us."""
    clients = []
    name = "http_auth" if package.__name__ == "elasticsearch7" else "basic_auth"

    def open_client(url: str = listening[1], kind: str = "Elasticsearch", **options: Any) -> Any:
        options = {name: USER, "max_retries": 0, **options}
        client = getattr(package, kind)(url, **options)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        if not inspect.iscoroutinefunction(client.close):
            client.close()


@pytest.fixture
def theirs(opened: Open) -> Any:
    """A client of `elasticsearch`."""
    return opened()


@pytest.fixture
def index(elasticsearch: OpenSearch, new_index: Any) -> str:
    name: str = new_index(elasticsearch)
    return name


@pytest.fixture(autouse=True)
def corpus() -> Path:
    path = Path("corpus.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def found(answer: dict[str, Any]) -> dict[str, float]:
    return {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


def calls(client: Any, index: str, encoder: LatentEncoder) -> dict[str, Callable[[], Any]]:
    """A call of each public name that takes a client."""
    meta = IndexMeta.of(encoder, latent_ingest.mappings.MappingConfig())
    rewriter = QueryRewriter(encoder)
    return {
        "EnrichJob": lambda: EnrichJob(client, index, encoder=encoder).run(),
        "IndexMeta.read": lambda: IndexMeta.read(client, index),
        "Ingest": lambda: Ingest(client, index, encoder, meta, "corpus.jsonl").run(),
        "IngestJob": lambda: IngestJob(client, "corpus.jsonl", index=index, encoder=encoder).run(),
        "QueryRewriter.from_index": lambda: QueryRewriter.from_index(client, index, encoder),
        "Searcher": lambda: Searcher(client, index, [encoder]),
        "explain": lambda: explain(client, rewriter, QUESTION, "bees"),
        "open_index": lambda: open_index(client, index, encoder, {}),
    }


def inner_calls(client: Any, index: str, encoder: LatentEncoder) -> list[Callable[[], Any]]:
    """Calls of what the commands `verify`, `tune` and `evaluate` use."""
    split = Split(Collection("none", None, {}, {}), None, "none")
    return [
        lambda: Index.find(client, index),
        lambda: Tuning(client, index, split),
        lambda: Evaluation(client, encoder, [], Plan.of()),
    ]


def test_the_calls_are_of_all_public_names_that_take_a_client(encoder: LatentEncoder) -> None:
    taking = {"AsyncSearcher.open"}
    for name in latent_ingest.connector.__all__:
        thing = getattr(latent_ingest.connector, name)
        methods = {
            f"{name}.{method}": getattr(thing, method)
            for method in dir(thing)
            if inspect.isclass(thing) and not method.startswith("_")
        }
        taken = {} if name.endswith("Error") else {name: thing, **methods}
        for called, function in taken.items():
            if callable(function) and "client" in inspect.signature(function).parameters:
                taking.add(called)
    # Made by `open`, and of indices that were read.
    internal = {"AsyncSearcher", "QueryRewriter.for_indices"}
    assert taking - internal == {*calls(None, "", encoder), "AsyncSearcher.open"}


def test_jobs_and_readers_give_what_they_give_with_opensearch_py(
    theirs: Any,
    elasticsearch: OpenSearch,
    index: str,
    new_index: Any,
    corpus: Path,
    encoder: LatentEncoder,
) -> None:
    result = IngestJob(theirs, corpus, index=index, encoder=encoder).run()
    assert result.ok
    assert result.report.indexed == len(ROWS)
    assert open_index(theirs, index, encoder, {}) == IndexMeta.read(theirs, index)

    rewriter = QueryRewriter.from_index(theirs, index, encoder)
    ours = QueryRewriter.from_index(elasticsearch, index, encoder)
    body = rewriter.rewrite(QUESTION)
    assert body == ours.rewrite(QUESTION)
    assert rewriter.latent_boost == ours.latent_boost
    assert rewriter.statistics
    assert rewriter.statistics.source == "index"
    expected = found(elasticsearch.search(index=index, body=body))
    assert max(expected, key=expected.__getitem__) == "bees"
    assert found(theirs.search(index=index, body=body)) == expected
    answer = Searcher(theirs, index, [encoder]).search(QUESTION)
    assert isinstance(answer, dict)
    assert found(answer) == expected
    explanation = explain(theirs, rewriter, QUESTION, "bees")
    assert explanation == explain(elasticsearch, ours, QUESTION, "bees")
    assert explanation.contributions

    plain = new_index(elasticsearch)
    for row in ROWS:
        elasticsearch.index(index=plain, id=row["_id"], body={"text": row["text"]}, refresh=True)
    added = EnrichJob(theirs, plain, encoder=encoder, text_fields=["text"]).run()
    assert (added.ok, added.report.encoded) == (True, len(ROWS))
    latent = QueryRewriter.from_index(theirs, plain, encoder).rewrite(QUESTION, form="latent")
    assert ids(elasticsearch.search(index=plain, body=latent))[0] == "bees"


def test_an_index_that_is_missing(theirs: Any, index: str, encoder: LatentEncoder) -> None:
    assert IndexMeta.read(theirs, index) is None
    for name in ("QueryRewriter.from_index", "Searcher"):
        with pytest.raises(MismatchError, match=f"no index or alias {index}"):
            calls(theirs, index, encoder)[name]()


def test_nothing_that_listens(opened: Open, corpus: Path, encoder: LatentEncoder) -> None:
    """At once, or as long as a run waits, in one line."""
    url = f"http://127.0.0.1:{free_port()}"
    nobody = opened(url)
    readers = calls(nobody, "papers", encoder)
    del readers["Ingest"]  # waits for minutes
    for call in readers.values():
        with pytest.raises(EngineError, match=f"^nothing answers at {url} .*refused") as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1
    meta = IndexMeta.of(encoder, latent_ingest.mappings.MappingConfig())
    with pytest.raises(EngineError, match=r"^nothing answers at .* gave up after 0\.1 s"):
        Ingest(nobody, "papers", encoder, meta, corpus, give_up_after=0.1).run()


def test_tls_where_there_is_none(
    opened: Open, listening: tuple[ElasticProxy, str], encoder: LatentEncoder
) -> None:
    url = listening[1].replace("http:", "https:")
    with pytest.raises(EngineError, match=f"^TLS failure at {url}.*or write http://"):
        QueryRewriter.from_index(opened(url), "papers", encoder)


def test_a_login_that_is_refused_or_may_not(
    opened: Open, proxy: ElasticProxy, encoder: LatentEncoder
) -> None:
    proxy.refuse = lambda path: 401
    for call in calls(opened(), "papers", encoder).values():
        with pytest.raises(EngineError, match="client's login, or requires one"):
            call()
    for call in inner_calls(opened(), "papers", encoder):
        with pytest.raises(EngineError, match="client's login, or requires one"):
            call()
    proxy.refuse = lambda path: 403 if path != "/" else None
    for call in calls(opened(), "papers", encoder).values():
        with pytest.raises(EngineError, match=r"forbids this \(not /"):
            call()


def test_a_login_that_may_only_search(
    theirs: Any, proxy: ElasticProxy, index: str, corpus: Path, encoder: LatentEncoder
) -> None:
    assert IngestJob(theirs, corpus, index=index, encoder=encoder).run().ok
    allowed = ("/", f"/{index}/_search", f"/{index}/_mapping")
    proxy.refuse = lambda path: None if path in allowed else 403
    proxy.paths.clear()
    searcher = Searcher(theirs, index, [encoder])
    assert ids(searcher.search(QUESTION))[0] == "bees"
    assert searcher.rewriter.statistics
    assert "forbids this" in (searcher.rewriter.statistics.problem or "")
    assert {f"/{index}/_field_caps", "/_cluster/settings"} <= set(proxy.paths)


def test_an_alias_that_moves_while_a_searcher_serves(
    theirs: Any,
    elasticsearch: OpenSearch,
    new_index: Any,
    encoder: LatentEncoder,
) -> None:
    first, second, alias = two_indices(theirs, elasticsearch, new_index, encoder)
    searcher = Searcher(theirs, alias, [encoder], renew_seconds=3600)
    assert searcher.search(QUESTION, size=1)["hits"]["hits"][0]["_index"] == first
    elasticsearch.indices.put_alias(index=second, name=alias)
    elasticsearch.indices.delete(index=first)
    assert searcher.search(QUESTION, size=1)["hits"]["hits"][0]["_index"] == second


def two_indices(
    theirs: Any, elasticsearch: OpenSearch, new_index: Any, encoder: LatentEncoder
) -> tuple[str, str, str]:
    """Two indices of the corpus, and an alias of the first."""
    names = new_index(elasticsearch), new_index(elasticsearch)
    for name in names:
        assert IngestJob(theirs, "corpus.jsonl", index=name, encoder=encoder).run().ok
    alias = f"{names[0]}-alias"
    elasticsearch.indices.put_alias(index=names[0], name=alias)
    return (*names, alias)


def test_an_answer_that_comes_late(
    opened: Open, proxy: ElasticProxy, index: str, encoder: LatentEncoder
) -> None:
    client = opened(**{"timeout" if "7" in opened_by(opened) else "request_timeout": 0.1})
    client.info()
    proxy.refuse = lambda path: 0
    with pytest.raises(EngineError, match=r"did not answer within 0\.1 s"):
        QueryRewriter.from_index(client, index, encoder)


def opened_by(opened: Open) -> str:
    """Name of the package of a client."""
    return type(opened()).__module__.split(".")[0]


def test_requests_that_are_turned_away_are_sent_again(
    theirs: Any,
    proxy: ElasticProxy,
    index: str,
    corpus: Path,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By us: the client itself does not retry. A wait of the engine's choice is kept."""
    monkeypatch.setattr(retry, "WAIT", lambda state: 0)
    times: dict[str, int] = {}

    def twice(path: str) -> int | None:
        times[path] = times.get(path, 0) + 1
        return 429 if path.endswith(("_bulk", "_settings")) and times[path] < 3 else None

    proxy.refuse = twice
    result = IngestJob(theirs, corpus, index=index, encoder=encoder).run()
    assert result.ok
    assert result.report.indexed == len(ROWS)
    assert [count for path, count in times.items() if path.endswith("_bulk")] == [3]


def test_an_event_loop(
    opened: Open,
    theirs: Any,
    elasticsearch: OpenSearch,
    proxy: ElasticProxy,
    new_index: Any,
    encoder: LatentEncoder,
) -> None:
    first, second, alias = two_indices(theirs, elasticsearch, new_index, encoder)

    async def main() -> None:
        client = opened(kind="AsyncElasticsearch")
        nobody = opened(f"http://127.0.0.1:{free_port()}", kind="AsyncElasticsearch")
        try:
            searching = await AsyncSearcher.open(client, alias, [encoder], renew_seconds=3600)
            answer = await searching.search(QUESTION, size=1)
            assert [(h["_index"], h["_id"]) for h in answer["hits"]["hits"]] == [(first, "bees")]
            elasticsearch.indices.put_alias(index=second, name=alias)
            elasticsearch.indices.delete(index=first)
            answer = await searching.search(QUESTION, size=1)
            assert [(h["_index"], h["_id"]) for h in answer["hits"]["hits"]] == [(second, "bees")]
            with pytest.raises(MismatchError, match="no index or alias nowhere"):
                await AsyncSearcher.open(client, "nowhere", [encoder])
            with pytest.raises(EngineError, match="nothing answers at"):
                await AsyncSearcher.open(nobody, alias, [encoder])
            proxy.refuse = lambda path: 403
            with pytest.raises(EngineError, match="forbids this"):
                await searching.search(QUESTION)
            for call in calls(client, alias, encoder).values():
                with pytest.raises(InputError, match=r"use AsyncSearcher\.open\(client, \.\.\.\)"):
                    call()
        finally:
            await client.close()
            await nobody.close()

    asyncio.run(main())


def test_a_blocking_client_is_no_asynchronous_one(theirs: Any, encoder: LatentEncoder) -> None:
    for client in (theirs, OpenSearch("http://localhost:9200")):
        with pytest.raises(InputError, match=r"synchronous; use Searcher\(client, \.\.\.\)"):
            asyncio.run(AsyncSearcher.open(client, "papers", [encoder]))


@pytest.mark.parametrize("client", ["http://localhost:9200", Connection("http://here"), None])
def test_what_is_no_client(client: Any, encoder: LatentEncoder) -> None:
    for call in calls(client, "papers", encoder).values():
        with pytest.raises(InputError, match="is not a client; give one of class OpenSearch"):
            call()


def test_an_asynchronous_client_of_opensearch_py(encoder: LatentEncoder) -> None:
    async def main() -> None:
        async with AsyncOpenSearch("http://localhost:9200") as client:
            for call in calls(client, "papers", encoder).values():
                with pytest.raises(InputError, match=r"use AsyncSearcher\.open\(client, \.\.\.\)"):
                    call()

    asyncio.run(main())


def test_an_engine_that_the_client_refuses(
    opened: Open, opensearch_url: str, elasticsearch_url: str
) -> None:
    """It checks the product, so the engine needs the other client."""
    for url in (opensearch_url, elasticsearch_url):
        for _ in range(2):
            with pytest.raises(EngineError, match="give a client of opensearch-py") as raised:
                QueryRewriter.from_index(opened(url), "*", QueryEncoder())
            assert str(raised.value).startswith(url)


def test_a_client_that_the_application_made_speaks_of_its_own_settings(
    proxy: ElasticProxy, listening: tuple[ElasticProxy, str], encoder: LatentEncoder
) -> None:
    url = listening[1]
    stranger = OpenSearch(url, timeout=0.1, max_retries=0)
    with pytest.raises(EngineError, match="refuses the client's login, or requires one"):
        QueryRewriter.from_index(stranger, "papers", encoder)
    proxy.refuse = lambda path: 0
    late = OpenSearch(url, timeout=0.1, max_retries=0, http_auth=USER)
    with pytest.raises(EngineError, match=r"did not answer within 0\.1 s"):
        QueryRewriter.from_index(late, "papers", encoder)
