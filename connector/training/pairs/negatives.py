"""Before the first step: what the model itself ranks high, and the collection's statistics.

documents → counts → BM25 in memory, block by block → the highest wrong documents of each question
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25, inverse_document_frequency
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.training.pairs.cache import TextCache
from latent_ingest.connector.training.pairs.score import (
    CollectionStatistics,
    expected_postings,
    pooled_roots,
)

# Documents that a question is compared with, those around its own: 700 latents each, 12 bytes a
# posting, some 35 MB.
DOCUMENTS_AT_ONCE = 4096

# Texts whose dense rows are in memory at once: 32 x 32,768 in float32 take 4 MB.
TEXTS_AT_ONCE = 32

# The highest wrong documents that negatives are drawn from, and those above them that are left
# out: the very first is often an answer, too, that nobody paired.
MINED = 16
SKIPPED = 1

# Texts of each side that the expected postings before tuning are measured on.
SAMPLED = 512

Vectors = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]
"""Latents and pooled activations, or their roots, `[nnz]`, and offsets of the texts."""


@dataclass(frozen=True, slots=True)
class Mined:
    """What is known of the pairs before the first step."""

    negatives: torch.Tensor
    """Numbers of pairs whose documents are negatives, int64 `[n_pairs, MINED]`; -1 for none."""
    statistics: CollectionStatistics
    positive_score: float
    """Mean score of the right documents."""
    expected: float
    """`expected_postings` of questions and documents."""

    def state(self) -> dict[str, Any]:
        """State for `of`, as a checkpoint can hold it."""
        return {
            "negatives": self.negatives,
            "idf": self.statistics.idf,
            "average_length": self.statistics.average_length,
            "positive_score": self.positive_score,
            "expected": self.expected,
        }

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> Mined:
        """Read `state`."""
        statistics = CollectionStatistics(state["idf"].to(device), state["average_length"])
        return cls(state["negatives"], statistics, state["positive_score"], state["expected"])


def mine(
    autoencoder: TokenAutoencoder,
    questions: TextCache,
    documents: TextCache,
    groups: tuple[Sequence[int], Sequence[int]],
    n_pairs: int,
    on_progress: Callable[[int], None] = lambda pairs: None,
) -> Mined:
    """Rank the documents of the first `n_pairs` pairs for their questions.

    `groups` are the numbers of each pair's question and document, the same for the same text.
    """
    asked_as, found_as = (np.array(numbers) for numbers in groups)
    n_latents = autoencoder.config.n_latents
    negatives = np.full((n_pairs, MINED), -1, dtype=np.int64)
    df, lengths = np.zeros(n_latents, dtype=np.int64), []
    positive = []
    for start in range(0, n_pairs, DOCUMENTS_AT_ONCE):
        some = range(start, min(start + DOCUMENTS_AT_ONCE, n_pairs))
        latents, roots, offsets = vectors(autoencoder, documents, some)
        tf = terms.counts(roots**2)
        bm25 = MemoryBM25(latents, tf, offsets, n_latents)
        df += bm25.document_frequency
        row = np.repeat(np.arange(len(some)), np.diff(offsets))
        lengths.append(np.bincount(row, weights=tf, minlength=len(some)))
        wanted, weights, bounds = vectors(autoencoder, questions, some)
        for place, (first, last) in zip(some, pairwise(bounds), strict=True):
            ranked = bm25.scores(wanted[first:last], weights[first:last])
            positive.append(ranked[place - start])
            wrong = (asked_as[some] != asked_as[place]) & (found_as[some] != found_as[place])
            ranked[~wrong] = 0
            order = np.argsort(-ranked, kind="stable")[SKIPPED : SKIPPED + MINED]
            order = order[ranked[order] > 0]
            negatives[place, : len(order)] = order + start
        on_progress(len(some))
    length = np.concatenate(lengths)
    idf = inverse_document_frequency(int(np.count_nonzero(length)), df)
    idf[df == 0] = 0
    statistics = CollectionStatistics(
        torch.from_numpy(idf.astype(np.float32)).to(autoencoder.W_enc.device),
        float(length[length > 0].mean()) if length.any() else 1.0,
    )
    sample = range(min(n_pairs, SAMPLED))
    sides = [
        dense(vectors(autoencoder, cache, sample), n_latents) for cache in (questions, documents)
    ]
    return Mined(
        torch.from_numpy(negatives),
        statistics,
        float(np.mean(positive)),
        float(expected_postings(*sides)),
    )


@torch.no_grad()
def vectors(autoencoder: TokenAutoencoder, cache: TextCache, texts: range) -> Vectors:
    """Sparse vectors of cached texts as the frozen encoder gives them."""
    latents, roots, sizes = [], [], [0]
    k = autoencoder.config.k
    for start in range(texts.start, texts.stop, TEXTS_AT_ONCE):
        some = range(start, min(start + TEXTS_AT_ONCE, texts.stop))
        taken = cache.take(some, torch.device("cpu"))
        rows = pooled_roots(
            taken.pre[:, :k].relu(),
            taken.latents[:, :k],
            taken.text_of_token,
            (len(some), autoencoder.config.n_latents),
        )
        for row in rows.numpy():
            active = np.flatnonzero(row)
            latents.append(active.astype(np.int32))
            roots.append(row[active])
            sizes.append(len(active))
    return np.concatenate(latents), np.concatenate(roots), np.cumsum(sizes)


def dense(rows: Vectors, n_latents: int) -> torch.Tensor:
    """The same as a matrix, `[n_texts, n_latents]`."""
    latents, roots, offsets = rows
    out = torch.zeros(len(offsets) - 1, n_latents)
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    out[torch.from_numpy(row), torch.from_numpy(latents.astype(np.int64))] = torch.from_numpy(roots)
    return out
