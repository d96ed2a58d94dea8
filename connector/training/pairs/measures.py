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


@torch.no_grad()
def measure(
    autoencoder: TokenAutoencoder,
    questions: TextCache,
    documents: TextCache,
    first: int,
    right: NDArray[np.bool_],
    dtype: torch.dtype,
) -> HeldOut:
    """Measure an autoencoder on the pairs from `first` on.

    `right` are the right documents of each question, `[n_held_out, n_held_out]`; the best of them
    counts. Of documents with equal scores the right one comes last.
    """
    last = documents.state.n_texts
    n_latents = autoencoder.config.n_latents
    with autoencoder.computing_in(dtype):
        rows = latents_of(autoencoder, documents.embedded(first, last))
        latents, values, offsets = latents_of(autoencoder, questions.embedded(first, last))
    bm25 = MemoryBM25(rows[0], terms.counts(rows[1]), rows[2], n_latents)
    weights = terms.weights(values)
    reciprocal = []
    for place, (start, end) in enumerate(pairwise(offsets)):
        scores = bm25.scores(latents[start:end], weights[start:end])
        best = scores[right[place]].max()
        reciprocal.append(1 / (1 + np.count_nonzero(scores[~right[place]] >= best)))
    touched = bm25.document_frequency[latents].sum()
    n = last - first
    return HeldOut(float(np.mean(reciprocal)), float(touched) / n**2, len(latents) / n)


@torch.no_grad()
def document_frequency(
    autoencoder: TokenAutoencoder, documents: TextCache, most: int, dtype: torch.dtype
) -> tuple[torch.Tensor, int]:
    """In how many of the last documents, at most `most`, each latent is; and how many they are."""
    last = documents.state.n_texts
    first = max(0, last - most)
    with autoencoder.computing_in(dtype):
        latents, _, _ = latents_of(autoencoder, documents.embedded(first, last))
    found = np.bincount(latents, minlength=autoencoder.config.n_latents)
    return torch.from_numpy(found.astype(np.float32)), last - first


def better(report: PairReport) -> bool:
    """Whether held-out questions find their documents at least as well as before."""
    return report.after.mrr >= report.before.mrr or math.isclose(
        report.after.mrr, report.before.mrr, abs_tol=5e-4
    )
