"""Searches by an alias, also while it moves to another model."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from opensearchpy import OpenSearch
from versions import (
    ROWS,
    Run,
    built,
    error,
    write,
)

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher

QUESTIONS = ["how do bees tell of flowers", "cost of a loan", "bad weather"]


def test_search_rewrite_and_verify_take_the_alias(
    run: Run, alias: str, model: Any, encoder: LatentEncoder, other: LatentEncoder
) -> None:
    index = built(run, alias)
    file = write(ROWS)
    hits = json.loads(run("search", QUESTIONS[0], "--index", alias, "--json").stdout)["hits"]
    assert [hits["hits"][0][name] for name in ("_index", "_id")] == [index, "bees"]
    assert json.loads(run("rewrite", QUESTIONS[0], "--index", alias).stdout)["query"]
    assert f"index {index} is exactly" in run("verify", file, "--index", alias).stdout
    model(other)
    second = built(run, alias)
    model(encoder)
    refused = error(run("search", QUESTIONS[0], "--index", alias, code=1))
    assert f"index {second} was made by model Other Model!" in refused


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


def test_searches_while_the_model_changes_neither_fail_nor_mix(
    run: Run, client: OpenSearch, opensearch_url: str, alias: str, model: Any,
    encoder: LatentEncoder, other: LatentEncoder,
) -> None:  # fmt: skip
    """Both models give the same scores in an index of their own, and others in the other's."""
    indices = {encoder: built(run, alias)}
    searcher = Searcher(client, alias, [encoder, other])
    found = {question: scores(searcher.search(question, form="latent")) for question in QUESTIONS}
    assert all(found.values())
    pure = {question: pytest.approx(answer, rel=1e-4) for question, answer in found.items()}
    for question, expected in pure.items():
        foreign = QueryRewriter(other).rewrite(question, form="latent")
        assert scores(client.search(index=alias, body=foreign)) != expected, "a mix would show"

    ended = threading.Event()
    wrong: list[Any] = []
    asked: set[str] = set()
    done = [0] * 3

    def ask(number: int, renew_seconds: float) -> None:
        own = Connection(opensearch_url).open()
        searching = Searcher(own, alias, [encoder, other], renew_seconds=renew_seconds)
        while not ended.is_set():
            for question in QUESTIONS:
                try:
                    answer = searching.search(question, form="latent")
                except Exception as error:
                    wrong.append(error)
                    return
                asked.update(hit["_index"] for hit in answer["hits"]["hits"])
                if scores(answer) != pure[question]:
                    wrong.append((question, answer))
                done[number] += 1
        own.close()

    # The last does not look the alias up again but when its index is gone.
    threads = [
        threading.Thread(target=ask, args=(number, seconds))
        for number, seconds in enumerate((0, 0.05, 3600))
    ]
    for thread in threads:
        thread.start()
    try:
        for chosen in (other, encoder, other):
            model(chosen)
            indices[chosen] = built(run, alias)
            run("prune", "--alias", alias, "--keep", "1", "--yes")
        for _ in range(4):
            for chosen in (encoder, other):
                before = sum(done)
                run("rollback", "--alias", alias, "--to", indices[chosen])
                deadline = time.monotonic() + 30
                while sum(done) < before + 6 and time.monotonic() < deadline:
                    time.sleep(0.01)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(done) > 10
    assert len(asked) == 4, "every version was searched"


def test_a_searcher_keeps_its_index_while_the_new_model_is_not_loaded(
    run: Run, client: OpenSearch, alias: str, model: Any, encoder: LatentEncoder,
    other: LatentEncoder,
) -> None:  # fmt: skip
    with pytest.raises(MismatchError, match=f"no index or alias {alias}"):
        Searcher(client, alias, [encoder])
    first = built(run, alias)
    searcher = Searcher(client, alias, [encoder], renew_seconds=0)
    model(other)
    second = built(run, alias)
    assert searcher.search(QUESTIONS[0])["hits"]["hits"][0]["_index"] == first
    both = Searcher(client, alias, [encoder, other])
    assert both.index == second
    client.indices.delete(index=first)
    with pytest.raises(MismatchError, match=r"Other Model! .* none of those loaded here: minilm"):
        searcher.search(QUESTIONS[0])
