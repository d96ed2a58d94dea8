"""BM25 in memory, against the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import bm25 as reference

from latent_ingest.connector.bm25 import MemoryBM25, stored_lengths

documents = st.lists(
    st.dictionaries(st.integers(0, 9), st.integers(0, 500), max_size=6), max_size=8
)


@given(documents, st.dictionaries(st.integers(0, 9), st.floats(0.5, 3), max_size=6))
def test_scores_are_those_of_the_plain_formula(
    documents: list[dict[int, int]], query: dict[int, float]
) -> None:
    memory = MemoryBM25(
        np.array([term for d in documents for term in d], np.int32),
        np.array([tf for d in documents for tf in d.values()], np.int64),
        np.cumsum([0, *map(len, documents)]),
        10,
        k1=2.0,
        b=0.7,
        exact_lengths=False,
    )
    got = memory.scores(np.array(list(query), np.int32), np.array(list(query.values()), np.float32))
    counted = [{str(t): tf for t, tf in d.items() if tf} for d in documents]
    named = {str(term): weight for term, weight in query.items()}
    if not any(counted):
        assert not got.any()
        return
    plain = reference.BM25(counted, k1=2.0, b=0.7)
    assert got.tolist() == pytest.approx([plain.score(named, d) for d in counted], rel=1e-5)


def test_a_ranking_has_the_best_first_and_no_zero_scores() -> None:
    memory = MemoryBM25(np.array([0, 0, 1], np.int32), np.array([1, 3, 1]), np.arange(4), 2)
    query = np.array([0], np.int32), np.ones(1, np.float32)
    assert list(memory.ranking(["a", "b", "c"], *query, 5)) == ["b", "a"]
    assert list(memory.ranking(["a", "b", "c"], *query, 1)) == ["b"]


def test_lengths_are_stored_as_the_engine_stores_them() -> None:
    lengths = np.array([*range(3000), 123_456, 2**31 - 1])
    wanted = [reference.stored_length(length) for length in lengths.tolist()]
    assert stored_lengths(lengths).tolist() == wanted
    assert wanted[343] == 312
