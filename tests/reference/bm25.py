"""BM25 as Lucene 10 scores it, in plain Python: lengths in one byte, no factor k1 + 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def stored_length(length: int) -> int:
    """A field length as Lucene's `SmallFloat.intToByte4` stores it: exact up to 40."""
    if length < 24:
        return length
    number = length - 24
    shift = max(number.bit_length() - 4, 0)
    return 24 + ((number >> shift) << shift)


class BM25:
    """BM25 scores of documents; each is a dictionary of term → frequency."""

    def __init__(
        self, documents: Sequence[Mapping[str, int]], *, k1: float, b: float, factor: bool = False
    ) -> None:
        """`factor` keeps the constant k1 + 1, as Lucene's LegacyBM25Similarity does."""
        self.documents = [document for document in documents if document]
        self.k1, self.b = k1, b
        self.factor = k1 + 1 if factor else 1.0
        lengths = [sum(document.values()) for document in self.documents]
        self.average = sum(lengths) / len(lengths)

    def idf(self, term: str) -> float:
        df = sum(term in document for document in self.documents)
        return math.log(1 + (len(self.documents) - df + 0.5) / (df + 0.5))

    def score(self, query: Mapping[str, float], document: Mapping[str, int]) -> float:
        length = stored_length(sum(document.values()))
        norm = self.k1 * (1 - self.b + self.b * length / self.average)
        return sum(
            weight * self.factor * self.idf(term) * tf / (tf + norm)
            for term, weight in query.items()
            if (tf := document.get(term, 0))
        )
