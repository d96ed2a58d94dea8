"""The engine's term frequencies and scores are those of the counts that were indexed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from reference.bm25 import BM25

from latent_ingest.connector import terms
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

QUESTIONS = [
    "find files whose names look like a pattern",
    "stop waiting after some seconds",
    "encode and decode text",
    "an error is raised when a value is missing",
]


def latent_counts(encoder: LatentEncoder, texts: list[str], scale: float) -> list[dict[str, int]]:
    """Return term → frequency per text, from the model directly."""
    return [
        {
            terms.term(latent): tf
            for latent, tf in zip(
                indices.tolist(), terms.counts(values, scale).tolist(), strict=True
            )
            if tf
        }
        for indices, values in encoder.encode(texts)
    ]


def all_hits(client: OpenSearch, index: str, body: dict[str, Any]) -> dict[str, float]:
    hits = client.search(index=index, body=body)["hits"]["hits"]
    return {hit["_id"]: hit["_score"] for hit in hits}


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_scores_equal_a_plain_bm25(
    every: OpenSearch,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    corpus: Path,
    scale: float,
) -> None:
    """They agree to 1e-4, with Lucene's one-byte lengths; before OpenSearch 3, times k1 + 1."""
    index = new_index(every)
    report = load(every, index, corpus, wanted={"scale": scale})
    assert report.indexed == len(documents)
    texts = [f"{document['title']} {document['text']}" for document in documents]
    counted = latent_counts(encoder, texts, scale)
    rewriter = QueryRewriter.from_index(every, index, encoder)
    version = every.info()["version"]
    keeps_factor = version.get("distribution") != "opensearch" or version["number"] < "3"
    bm25 = BM25(counted, k1=2 * scale, b=0.7, factor=keeps_factor)
    compared = 0
    for question in QUESTIONS:
        query = {item.term: round(item.weight, 4) for item in rewriter.terms(question)}
        expected = {
            document["_id"]: score
            for document, tf in zip(documents, counted, strict=True)
            if (score := bm25.score(query, tf))
        }
        got = all_hits(every, index, rewriter.rewrite(question, form="latent", size=1000))
        assert got == pytest.approx(expected, rel=1e-4)
        compared += len(got)
    assert compared > 200


@pytest.mark.parametrize("spelling", terms.SPELLINGS)
def test_frequencies_in_the_engine_are_ours(
    client: OpenSearch,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    corpus: Path,
    spelling: str,
) -> None:
    """`_explain` shows the exact frequency of every latent of five documents."""
    index = new_index()
    load(client, index, corpus, wanted={"spelling": spelling})
    several = 0
    for document in documents[::18]:
        (counted,) = latent_counts(encoder, [f"{document['title']} {document['text']}"], 1.0)
        clauses = [{"term": {"latent": {"value": name, "_name": name}}} for name in counted]
        explained: dict[str, int] = {}
        for start in range(0, len(clauses), 500):
            part = clauses[start : start + 500]
            answer = client.explain(
                index=index, id=document["_id"], body={"query": {"bool": {"should": part}}}
            )
            explained |= dict(frequencies(answer["explanation"]))
        assert explained == counted
        several += sum(tf > 1 for tf in counted.values())
    assert several > 50


def frequencies(explanation: dict[str, Any]) -> list[tuple[str, int]]:
    """Term and frequency of each term's part of an explanation."""
    description = explanation["description"]
    if description.startswith("weight(latent:"):
        name = description.removeprefix("weight(latent:").split(" ")[0]
        return [(name, frequency(explanation))]
    return [pair for part in explanation["details"] for pair in frequencies(part)]


def frequency(explanation: dict[str, Any]) -> int:
    if explanation["description"].startswith(("freq", "termFreq")):
        return int(explanation["value"])
    return next((f for part in explanation["details"] if (f := frequency(part))), 0)


def test_both_spellings_give_the_same_scores(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder, corpus: Path
) -> None:
    indices = {spelling: new_index() for spelling in terms.SPELLINGS}
    for spelling, index in indices.items():
        load(client, index, corpus, wanted={"spelling": spelling})
    for question in QUESTIONS:
        for form in ("latent", "two_phase", "hybrid"):
            ranked = []
            for index in indices.values():
                rewriter = QueryRewriter.from_index(client, index, encoder)
                hits = all_hits(client, index, rewriter.rewrite(question, form=form, size=20))
                ranked.append(list(hits.items()))
            assert len(ranked[0]) == 20
            assert ranked[0] == ranked[1]


def test_the_stored_string_parses_back_to_the_counts(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    index = new_index()
    text = "does vitamin D prevent falls in older adults"
    load(client, index, [json.dumps({"_id": "a", "text": text})], wanted={"spelling": "delimited"})
    stored = client.get(index=index, id="a")["_source"]["latent"]
    (counted,) = latent_counts(encoder, [text], 1.0)
    named = {terms.term(latent): tf for latent, tf in terms.parse(stored, "delimited").items()}
    assert named == counted
