"""Document frequencies read from the engine are exact, and terms are chosen by them."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from faults import FaultProxy
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.querying.indices.statistics import (
    DocumentFrequencies,
    IndexStatistics,
    read_frequencies,
)
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.mappings import MappingConfig, index_body

TEXTS = [
    "Honey insects dance to tell their hive where nectar can be gathered.",
    "The bank raised its interest rate on mortgages by half a percent.",
    "A four-stroke motor burns petrol in its cylinders.",
    "Knead the dough, let it rise, and bake the loaf until the crust is brown.",
    "She sacrificed her queen and gave checkmate two moves later.",
    "Heavy precipitation flooded the valley after the storm.",
    "Bees gather honey.",
]
QUESTION = "how do bees tell each other where flowers are"


def lines(texts: list[str] = TEXTS) -> list[str]:
    return [json.dumps({"_id": str(number), "text": text}) for number, text in enumerate(texts)]


def of(encoder: LatentEncoder, texts: list[str] = TEXTS) -> NDArray[np.int64]:
    """Return the number of texts with each latent, at scale 1."""
    counted = np.zeros(encoder.n_latents, dtype=np.int64)
    for latents, values in encoder.encode(texts):
        counted[latents[terms.counts(values) > 0]] += 1
    return counted


def make(
    client: OpenSearch, index: str, encoder: LatentEncoder, shards: int, **config: Any
) -> None:
    mapping = MappingConfig(**config)
    body = index_body(mapping, IndexMeta.of(encoder, mapping).to_json())
    body["settings"]["number_of_shards"] = shards
    client.indices.create(index=index, body=body)


@pytest.mark.parametrize("shards", [1, 3])
def test_frequencies_are_those_of_the_documents_of_all_shards(
    every: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder, shards: int
) -> None:
    index = new_index(every)
    make(every, index, encoder, shards)
    load(every, index, lines())
    found = read_frequencies(every, [index], "latent", encoder.n_latents)
    assert (found.n_documents, found.every_shard) == (len(TEXTS), True)
    assert found.counts.sum() > 200
    np.testing.assert_array_equal(found.counts, of(encoder))
    idf = found.idf()
    common = int(found.counts.argmax())
    df = found.counts[common]
    assert idf[common] == pytest.approx(np.log(1 + (len(TEXTS) - df + 0.5) / (df + 0.5)))
    assert not idf[found.counts == 0].any(), "what is not in the index is of no use"


def test_delimited_counts_are_counted_too_and_indices_are_added_up(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    one, other = new_index(), new_index()
    load(client, one, lines(), wanted={"spelling": "delimited"})
    load(client, other, lines(TEXTS[:2]))
    found = read_frequencies(client, [one, other], "latent", encoder.n_latents)
    assert found.n_documents == len(TEXTS) + 2
    np.testing.assert_array_equal(found.counts, of(encoder) + of(encoder, TEXTS[:2]))


def test_some_of_many_shards_stand_for_all(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    """Other shards may have a latent that these lack, so it counts as rare, not as absent."""
    index = new_index()
    make(client, index, encoder, 12)
    load(client, index, lines())
    found = read_frequencies(client, [index], "latent", encoder.n_latents)
    assert not found.every_shard
    assert 0 < found.n_documents < len(TEXTS)
    assert found.idf().min() > 0


def test_some_of_many_indices_stand_for_all(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    """All names together are too long for the URL of one request."""
    index = new_index()
    load(client, index, lines())
    one = read_frequencies(client, [index], "latent", encoder.n_latents)
    found = read_frequencies(client, [index] * 200, "latent", encoder.n_latents)
    assert not found.every_shard
    np.testing.assert_array_equal(found.counts, one.counts)


def test_terms_are_chosen_by_what_is_in_the_index(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    load(client, index, lines())
    rewriter = QueryRewriter.from_index(client, index, encoder, statistics_seconds=3600)
    statistics = rewriter.statistics
    assert statistics
    assert (statistics.source, statistics.problem) == ("index", None)
    latents, values = encoder.encode([QUESTION], kind="query")[0]
    df = of(encoder)[latents].astype(np.float64)
    gain = terms.weights(values) * np.log1p((len(TEXTS) - df + 0.5) / (df + 0.5)) * (df > 0)
    found = {item.term: item.weight * item.idf for item in rewriter.terms(QUESTION)}
    assert found == pytest.approx(
        {terms.term(i): g for i, g in zip(latents.tolist(), gain, strict=True)}, rel=1e-4
    )
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert min(found.values()) == 0 < max(found.values())
    by_model = QueryRewriter.from_index(client, index, encoder, statistics_seconds=None)
    assert by_model.statistics is None
    assert [t.term for t in by_model.terms(QUESTION)] != list(found)


def test_without_rights_the_models_own_are_taken_and_it_is_said(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    load(client, index, lines())
    expected = QueryRewriter(encoder).terms(QUESTION)
    client.indices.put_settings(index=index, body={"index.blocks.read": True})
    with caplog.at_level(logging.WARNING):
        rewriter = QueryRewriter.from_index(client, index, encoder, statistics_seconds=0)
    assert rewriter.statistics
    assert rewriter.statistics.source == "model"
    assert "set index.blocks.read to null" in str(rewriter.statistics.problem)
    (said,) = (r.getMessage() for r in caplog.records if r.name.startswith("latent_ingest"))
    assert f"no document frequencies for {index}; terms are chosen by those stored with" in said
    assert rewriter.terms(QUESTION) == expected
    client.indices.put_settings(index=index, body={"index.blocks.read": False})
    rewriter.statistics.refresh()
    assert (rewriter.statistics.source, rewriter.statistics.problem) == ("index", None)
    client.indices.put_settings(index=index, body={"index.blocks.read": True})
    rewriter.statistics.refresh()
    assert rewriter.statistics.source == "index", "those of before are better than none"
    assert rewriter.statistics.problem


def test_an_index_without_documents_has_no_statistics(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    make(client, index, encoder, 1)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    assert rewriter.statistics
    assert rewriter.statistics.source == "model"
    assert rewriter.statistics.problem == "the index has no documents yet"
    assert rewriter.terms(QUESTION) == QueryRewriter(encoder).terms(QUESTION)


def pretend(rewriter: QueryRewriter, n_documents: int) -> None:
    """As if the index had had so many documents when it was asked, a tenth with each latent."""
    statistics = rewriter.statistics
    assert statistics
    assert statistics.frequencies
    counts = np.full_like(statistics.frequencies.counts, n_documents // 10)
    statistics.frequencies = DocumentFrequencies(counts, n_documents, every_shard=True)
    statistics._idf = statistics.frequencies.idf()


@pytest.mark.parametrize("state", ["empty", "loaded since", "one document", "deleted", "older"])
def test_a_question_is_answered_whatever_is_known_of_the_index(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder, state: str
) -> None:
    """And the report names what `auto` went by."""
    n_loaded = {"one document": 1, "deleted": len(TEXTS), "older": len(TEXTS)}.get(state, 0)
    make(client, index, encoder, 1)
    if n_loaded:
        load(client, index, lines(TEXTS[:n_loaded]))
    if state == "deleted":
        for number in range(1, n_loaded):
            client.delete(index=index, id=str(number))
        client.indices.refresh(index=index)
    rewriter = QueryRewriter.from_index(client, index, encoder, statistics_seconds=3600)
    if state == "loaded since":
        load(client, index, lines())
    if state == "older":
        pretend(rewriter, 100_000_000)
    body, report = rewriter.rewrite_and_report(QUESTION, head_terms=32)
    exact = client.search(index=index, body=rewriter.rewrite(QUESTION, form="hybrid"))["hits"]
    found = client.search(index=index, body=body)["hits"]["hits"]
    ids = [hit["_id"] for hit in exact["hits"]]
    assert len(ids) == {"empty": 0, "one document": 1, "deleted": 1}.get(state, len(TEXTS))
    # Few heads find few of these documents: those of old statistics have the best ones.
    assert [hit["_id"] for hit in found] == (ids[: len(found)] if state == "older" else ids)
    assert bool(found) == bool(ids)
    said = next(line for line in report.lines() if line.startswith("form: "))
    if state == "older":
        assert said.startswith("form: hybrid_two_phase (auto: latent terms take some ")
        assert said.endswith(" in an index of 100,000,000 documents)")
    elif n_loaded:
        assert said == "form: hybrid (auto: one phase costs less)"
    else:
        assert said == "form: hybrid (auto: document frequencies are unknown)"


def test_two_phases_begin_in_smaller_indices_where_the_engine_does_not_skip_in_blocks(
    either: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    index = new_index(either)
    make(either, index, encoder, 1)
    load(either, index, lines())
    rewriter = QueryRewriter.from_index(either, index, encoder, statistics_seconds=3600)
    pretend(rewriter, 50_000)
    _, report = rewriter.rewrite_and_report(QUESTION)
    engine = EngineInfo.read(either)
    old = engine.distribution == "elasticsearch" or engine.version < (3,)
    assert report.form == ("hybrid_two_phase" if old else "hybrid")


class Holding(FaultProxy):
    """Blocks a request for statistics until it is released."""

    def __init__(self, engine: str) -> None:
        super().__init__(engine, seed=0, chance=0, others=0)
        self.may_go_on = threading.Event()

    def choose(self, path: str, _body: bytes) -> str | None:
        if "_termvectors" in path:
            self.may_go_on.wait(30)
        return None


class Refusing(FaultProxy):
    """Refuses requests for statistics, as a service that lacks `_termvectors`."""

    def choose(self, path: str, _body: bytes) -> str | None:
        return "403" if "_termvectors" in path else None


def test_an_engine_that_refuses_termvectors_answers_questions(
    opensearch_url: str, index: str, load: Any, encoder: LatentEncoder, client: OpenSearch
) -> None:
    load(client, index, lines())
    proxy = Refusing(opensearch_url, seed=0)
    with proxy.listening() as url, closing(Connection(url).open()) as refused:
        rewriter = QueryRewriter.from_index(refused, index, encoder)
        assert rewriter.statistics
        assert (rewriter.statistics.source, rewriter.statistics.frequencies) == ("model", None)
        assert "forbids this" in str(rewriter.statistics.problem)
        body, report = rewriter.rewrite_and_report(QUESTION)
        assert refused.search(index=index, body=body)["hits"]["hits"]
    said = next(line for line in report.lines() if line.startswith("form: "))
    assert said == "form: hybrid (auto: document frequencies are unknown)"


def test_old_numbers_are_renewed_meanwhile_and_nobody_waits(
    client: OpenSearch, opensearch_url: str, index: str, load: Any, encoder: LatentEncoder
) -> None:
    load(client, index, lines())
    proxy = Holding(opensearch_url)
    with proxy.listening() as url, closing(Connection(url).open()) as slow:
        statistics = IndexStatistics(slow, [index], "latent", encoder.n_latents, max_age=0)
        assert [statistics.idf() for _ in range(50)] == [None] * 50
        assert [t.name for t in threading.enumerate()].count("latent-statistics") == 1
        proxy.may_go_on.set()
        until(lambda: statistics.frequencies is not None)
        before = statistics.idf()
        assert before is not None
        load(client, index, ['{"_id": "new", "text": "a further document, of other things"}'])

        def renewed() -> bool:
            statistics.idf()
            found = statistics.frequencies
            return found is not None and found.n_documents == len(TEXTS) + 1

        until(renewed)
        until(lambda: statistics.idf() is not before)
        statistics.refresh()  # waits for the thread that may be at it
        assert statistics.age is not None


def until(true: Any) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_latent_that_all_documents_have_counts_for_something() -> None:
    all_have = DocumentFrequencies(np.array([5, 1, 0]), 5, every_shard=True)
    assert all_have.idf()[0] > 0
    assert replace(all_have, every_shard=False).idf()[2] > all_have.idf()[1]
