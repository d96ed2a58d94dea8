"""BM25: the inverse document frequency, and scores of counts in memory, for probes and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.mappings import DEFAULT_B, DEFAULT_K1


def inverse_document_frequency(n_documents: float, df: NDArray[Any]) -> NDArray[np.float64]:
    """Lucene's idf, `ln(1 + (N - df + 0.5) / (df + 0.5))`, of document frequencies of any shape."""
    df = df.astype(np.float64)
    return np.asarray(np.log1p((n_documents - df + 0.5) / (df + 0.5)))


class MemoryBM25:
    """An inverted index of documents given as counts, scored by BM25 without the factor k1 + 1."""

    def __init__(
        self,
        terms: NDArray[np.int32],
        tf: NDArray[np.int64],
        offsets: NDArray[np.int64],
        n_terms: int,
        *,
        k1: float = DEFAULT_K1,
        b: float = DEFAULT_B,
        exact_lengths: bool = True,
    ) -> None:
        """Index documents by the numbers of their terms and their frequencies `tf`, `[nnz]`.

        Each term stands once per document; `offsets` are the boundaries of the documents,
        `[n_documents + 1]`. Without `exact_lengths`, lengths are rounded as in engines, which store
        them in one byte.
        """
        self.n_documents = len(offsets) - 1
        row = np.repeat(np.arange(self.n_documents), np.diff(offsets))
        lengths = np.bincount(row, weights=tf, minlength=self.n_documents)
        row, terms, tf = row[tf > 0], terms[tf > 0], tf[tf > 0]
        average = lengths[lengths > 0].mean() if len(tf) else 1.0
        self.document_frequency = np.bincount(terms, minlength=n_terms)
        holding = int(np.count_nonzero(lengths))
        self.idf = inverse_document_frequency(holding, self.document_frequency).astype(np.float32)
        stored = lengths if exact_lengths else stored_lengths(lengths.astype(np.int64))
        norm = k1 * (1 - b + b * stored / average)
        order = np.argsort(terms, kind="stable")
        self._row = row[order]
        self._score = ((tf / (tf + norm[row])) * self.idf[terms]).astype(np.float32)[order]
        self._start = np.concatenate([[0], np.cumsum(self.document_frequency)])

    def scores(self, terms: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of all documents, `[n_documents]`, for query terms and their factors, `[n]`."""
        out = np.zeros(self.n_documents, dtype=np.float32)
        for term, weight in zip(terms.tolist(), weights.tolist(), strict=True):
            span = slice(self._start[term], self._start[term + 1])
            out[self._row[span]] += weight * self._score[span]
        return out

    def ranking(
        self, ids: Sequence[str], terms: NDArray[np.int32], weights: NDArray[np.float32], depth: int
    ) -> dict[str, float]:
        """The best documents of `ids` and their scores, best first, at most `depth`."""
        return best(ids, self.scores(terms, weights), depth)


def best(ids: Sequence[str], scores: NDArray[np.float32], depth: int) -> dict[str, float]:
    """The documents with the highest scores above zero, best first, at most `depth`."""
    order = np.argsort(-scores, kind="stable")[:depth]
    return {ids[i]: float(scores[i]) for i in order.tolist() if scores[i] > 0}


def stored_lengths(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Field lengths after Lucene's `SmallFloat.intToByte4` and back, `[n]`.

    Exact up to 40; above, only the four highest bits of `length - 24` are kept.
    """
    above = np.maximum(lengths - 24, 0)
    lost_bits = np.maximum(np.frexp(above)[1] - 4, 0)
    return np.where(lengths < 24, lengths, 24 + (above >> lost_bits << lost_bits))
