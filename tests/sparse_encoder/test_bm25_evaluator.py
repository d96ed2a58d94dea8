"""The evaluator's numbers are those of BM25 over counts, and of the dot product."""

from __future__ import annotations

import math

import pytest
from reference.bm25 import BM25
from sentence_transformers import SparseEncoder

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.sentence_transformers import LatentBM25Evaluator


def ndcg(scores: dict[str, float], relevant: str) -> float:
    """nDCG@10 of one relevant document."""
    ranked = sorted(scores, key=lambda document: -scores[document])
    place = ranked.index(relevant)
    return 1 / math.log2(place + 2) if place < 10 and scores[relevant] > 0 else 0.0


def test_the_numbers_are_those_of_the_formulas(
    small: SparseEncoder, documents: list[dict[str, str]]
) -> None:
    """With an untrained model, so that neither ranking is perfect."""
    corpus = {document["_id"]: document["text"] for document in documents}
    queries = {f"about {name}": " ".join(text.split()[2:5]) for name, text in corpus.items()}
    relevant = {query: {query.removeprefix("about ")} for query in queries}
    evaluator = LatentBM25Evaluator(queries, corpus, relevant, k1=1.5, b=0.6, batch_size=7)
    got = evaluator(small)

    def vectors(texts: list[str]) -> list[dict[str, float]]:
        rows = small.encode(texts).to_dense()
        return [{str(int(i)): float(row[i]) for i in row.nonzero()} for row in rows]

    stored = dict(zip(corpus, vectors(list(corpus.values())), strict=True))
    counts = {
        name: {term: n for term, value in row.items() if (n := round(math.sqrt(value)))}
        for name, row in stored.items()
    }
    bm25 = BM25(list(counts.values()), k1=1.5, b=0.6)
    by_bm25, by_dot = [], []
    for query, row in zip(queries, vectors(list(queries.values())), strict=True):
        (wanted,) = relevant[query]
        asked = {term: math.sqrt(value) for term, value in row.items()}
        scores = {name: bm25.score(asked, counts[name]) for name in corpus}
        by_bm25.append(ndcg(scores, wanted))
        dots = {n: sum(v * stored[n].get(t, 0.0) for t, v in row.items()) for n in corpus}
        by_dot.append(ndcg(dots, wanted))
    assert got["bm25_ndcg@10"] == pytest.approx(sum(by_bm25) / len(corpus), abs=1e-6)
    assert got["dot_ndcg@10"] == pytest.approx(sum(by_dot) / len(corpus), abs=1e-6)
    assert 0.2 < got["dot_ndcg@10"] < got["bm25_ndcg@10"] < 0.99
    assert set(got) == {"bm25_ndcg@10", "bm25_r@100", "dot_ndcg@10", "dot_r@100"}
    assert evaluator.primary_metric == "bm25_ndcg@10"


def test_grades_count_and_ids_of_queries_are_their_own(shipped: SparseEncoder) -> None:
    """A document with the id of the query is treated like any other."""
    corpus = {"a": "bees dance to tell the hive", "b": "bees make honey", "c": "a bank loan"}
    queries = {"a": "bees dance to tell the hive", "unjudged": "x"}
    evaluator = LatentBM25Evaluator(
        queries, corpus, {"a": {"b": 2, "a": 1}}, measures=["RR@10", "nDCG@10"], name="own"
    )
    got = evaluator(shipped)
    assert evaluator.primary_metric == "own_bm25_rr@10"
    for system in ("bm25", "dot"):
        assert got[f"own_{system}_rr@10"] == 1.0
        best = 2 + 1 / math.log2(3)
        assert got[f"own_{system}_ndcg@10"] == pytest.approx((1 + 2 / math.log2(3)) / best)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="no query with a judgement"):
        LatentBM25Evaluator({"1": "x"}, {"a": "y"}, {"2": {"a"}})
    with pytest.raises(InputError, match="nothing to evaluate"):
        LatentBM25Evaluator({"1": "x"}, {}, {"1": {"a"}})
    with pytest.raises(InputError, match="measure 'best'"):
        LatentBM25Evaluator({"1": "x"}, {"a": "y"}, {"1": {"a"}}, measures=["best"])
