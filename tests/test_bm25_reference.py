"""The plain BM25 itself, against numbers from elsewhere."""

from __future__ import annotations

import math

import pytest
from reference.bm25 import BM25, stored_length


@pytest.mark.parametrize(
    ("length", "stored"), [(0, 0), (24, 24), (39, 39), (40, 40), (41, 40), (343, 312), (100, 96)]
)
def test_lengths_are_truncated_as_lucene_does(length: int, stored: int) -> None:
    """Lucene's own table: exact to 40, 343 becomes 312, 100 becomes 96."""
    assert stored_length(length) == stored


def test_one_term_by_hand() -> None:
    bm25 = BM25([{"a": 2}, {"b": 2}], k1=1.2, b=0.75)
    assert bm25.score({"a": 3.0}, {"a": 2}) == pytest.approx(3 * math.log(2) * 2 / 3.2)
