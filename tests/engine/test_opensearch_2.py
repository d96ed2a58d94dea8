"""OpenSearch 2.19 finds what OpenSearch 3 finds. More tests run on it in `make test-slow`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

from .test_scores import QUESTIONS


def test_opensearch_2_finds_what_opensearch_3_finds(
    opensearch_2: OpenSearch,
    client: OpenSearch,
    new_index: Any,
    load: Any,
    corpus: Path,
    documents: list[dict[str, str]],
    encoder: LatentEncoder,
) -> None:
    """Its BM25 has a factor of k1 + 1, which differs for words and latent terms."""
    rankings = []
    for engine in (client, opensearch_2):
        index = new_index(engine)
        assert load(engine, index, corpus).indexed == len(documents)
        rewriter = QueryRewriter.from_index(engine, index, encoder)
        found = {}
        for form in ("latent", "hybrid", "hybrid_two_phase", "auto"):
            for question in QUESTIONS:
                body = rewriter.rewrite(question, form=form)
                hits = engine.search(index=index, body=body)["hits"]["hits"]
                assert len(hits) == 10
                found[form, question] = [(hit["_id"], hit["_score"]) for hit in hits]
        rankings.append(found)
    third, second = rankings
    for (form, question), expected in third.items():
        factor = 3.0 if form == "latent" else 2.2  # k1 + 1 of latent terms, and of words
        ids = [name for name, _ in second[form, question]]
        assert ids == [name for name, _ in expected]
        scores = [score for _, score in second[form, question]]
        assert scores == pytest.approx([score * factor for _, score in expected], rel=1e-4)
