"""Held-out questions, before and after: how high the right document stands, and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.evaluation.probe import latents_of
from latent_ingest.connector.training.pairs.cache import TextCache
from latent_ingest.connector.training.pairs.negatives import Vectors, vectors


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Measured on questions that were not trained on, among their own documents."""

    mrr: float
    """Mean of 1 / rank of the right document by latent BM25."""
    postings: float
    """Postings that a question touches, per document."""
    terms: float
    """Latents of a question."""


@dataclass(frozen=True, slots=True)
class PairProgress:
    """State of a run after a step."""

    step: int
    steps: int
    contrast: float
    """Cross-entropy of the last batch."""
    anchor: float
    """Squared change of pre-activations relative to their square, of the last batch."""
    cost: float
    """Expected postings of the last batch, relative to those before tuning."""
    taught: float
    """Difference from the teacher's ranking of the last batch; 0 without a teacher."""


@dataclass(frozen=True, slots=True)
class PairReport:
    """How a run ended."""

    pairs: int
    """Pairs trained on."""
    held_out: int
    """Pairs measured on."""
    left_out: dict[str, int]
    """Pairs left out, by reason."""
    steps: int
    seconds: float
    """Duration, summed over all parts of a resumed run."""
    contrast: float
    """Cross-entropy, mean of the last tenth of the steps."""
    fingerprint: str
    """Digest of the tuned model's fingerprint; empty until it is written."""
    before: HeldOut
    after: HeldOut


def measure(
    documents: Vectors, questions: Vectors, n_latents: int, right: NDArray[np.bool_]
) -> HeldOut:
    """Measure held-out pairs by the vectors of their texts, with pooled activations as values.

    `right` are the right documents of each question, `[n_held_out, n_held_out]`; the best of them
    counts. Of documents with equal scores the right one comes last.
    """
    bm25 = MemoryBM25(documents[0], terms.counts(documents[1]), documents[2], n_latents)
    latents, values, offsets = questions
    weights = terms.weights(values)
    reciprocal = []
    for place, (start, end) in enumerate(pairwise(offsets)):
        scores = bm25.scores(latents[start:end], weights[start:end])
        best = scores[right[place]].max()
        reciprocal.append(1 / (1 + np.count_nonzero(scores[~right[place]] >= best)))
    touched = bm25.document_frequency[latents].sum()
    n = len(right)
    return HeldOut(float(np.mean(reciprocal)), float(touched) / n**2, len(latents) / n)


def encoded_before(autoencoder: TokenAutoencoder, texts: TextCache, first: int) -> Vectors:
    """Vectors of the cached texts from `first` on by the model that they were cached with."""
    latents, roots, offsets = vectors(autoencoder, texts, range(first, texts.state.n_texts))
    return latents, roots**2, offsets


@torch.no_grad()
def encoded_after(
    autoencoder: TokenAutoencoder, texts: TextCache, first: int, dtype: torch.dtype
) -> Vectors:
    """Vectors of the cached texts from `first` on by a tuned model: of all its latents."""
    with autoencoder.computing_in(dtype):
        return latents_of(autoencoder, texts.embedded(first, texts.state.n_texts))


def last_of(texts: Vectors, n: int) -> Vectors:
    """The last n texts."""
    latents, values, offsets = texts
    start = offsets[-1 - n]
    return latents[start:], values[start:], offsets[-1 - n :] - start


def better(report: PairReport) -> bool:
    """Whether held-out questions find their documents at least as well as before."""
    return report.after.mrr >= report.before.mrr or math.isclose(
        report.after.mrr, report.before.mrr, abs_tol=5e-4
    )
