"""Vocabularies: document frequencies, how close they are to Zipf's law, and a random vocabulary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Document frequencies of a vocabulary, in descending order."""

    counts: NDArray[np.int64]
    """`[n_terms]`, descending, all above zero."""
    slope: float
    """Slope of log frequency over log rank; Zipf's law has -1."""
    r2: float
    """Share of the variance of log frequency that the fitted line explains."""
    intercept: float = 0.0
    """Fitted log frequency at rank 1."""

    def line(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """The fitted frequencies of ranks, counted from 1."""
        fitted: NDArray[np.float64] = np.exp(self.intercept + self.slope * np.log(ranks))
        return fitted

    @classmethod
    def of(cls, counts: Iterable[int]) -> Frequencies:
        """Sort the frequencies that are above zero, and fit a line.

        The line is fitted to 50 ranks evenly spaced in the logarithm, so that the many rare terms
        do not outweigh the rest.
        """
        every = np.fromiter(counts, dtype=np.int64)
        ordered = np.sort(every[every > 0])[::-1]
        if len(ordered) < 10:
            return cls(ordered, 0.0, 0.0)
        ranks = np.unique(np.geomspace(1, len(ordered), 50).round().astype(int))
        x, y = np.log(ranks), np.log(ordered[ranks - 1])
        slope, intercept = np.polyfit(x, y, 1)
        residual = y - (slope * x + intercept)
        variance = ((y - y.mean()) ** 2).sum()
        r2 = 1 - (residual**2).sum() / variance if variance else 0.0
        return cls(ordered, float(slope), float(r2), float(intercept))

    def statistics(self, n_texts: int) -> dict[str, float]:
        """Number of `terms`, `slope`, `r2`, and shares of the terms among `n_texts` texts.

        The shares are `hapax`, the terms in one text only, and `common`, those in over half.
        """
        terms = max(len(self.counts), 1)
        return {
            "terms": len(self.counts),
            "slope": self.slope,
            "r2": self.r2,
            "hapax": float((self.counts == 1).sum() / terms),
            "common": float((self.counts > n_texts / 2).sum() / terms),
        }


def word_frequencies(texts: Iterable[str]) -> Frequencies:
    """Document frequencies of lower-cased words."""
    return Frequencies.of(Counter(chain.from_iterable(map(words_of, texts))).values())


def words_of(text: str) -> set[str]:
    """The distinct lower-cased words of a text."""
    return set(every_word(text))


def every_word(text: str) -> list[str]:
    """The lower-cased words of a text, in order."""
    return re.findall(r"\w+", text.lower())


def random_encoder(encoder: LatentEncoder, autoencoder: TokenAutoencoder) -> LatentEncoder:
    """Return an encoder like `encoder`, but with random directions in place of trained latents.

    Each latent's encoder weights are drawn uniformly from the sphere; their length is the root mean
    square of the model's, without bias. Backbone, normalization, number of latents and k are the
    model's.
    """
    random = TokenAutoencoder(autoencoder.config, decoder=False)
    generator = torch.Generator().manual_seed(0)
    W_enc = torch.randn(random.W_enc.shape, generator=generator)
    length = autoencoder.W_enc.float().norm(dim=0).square().mean().sqrt()
    with torch.no_grad():
        random.W_enc.copy_(W_enc / W_enc.norm(dim=0) * length)
        random.b_pre.copy_(autoencoder.b_pre)
    random.register_buffer("data_mean", autoencoder.data_mean)
    return LatentEncoder(encoder.backbone, random, name="random directions", k=encoder.k)
