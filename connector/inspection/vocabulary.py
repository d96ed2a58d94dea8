"""Statistics of a vocabulary, and a random vocabulary to compare them with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.frequencies import Frequencies


@dataclass(frozen=True, slots=True)
class VocabularyStatistics:
    """Statistics of the document frequencies of a vocabulary in a sample."""

    terms: int
    """Number of distinct terms in the sample."""
    slope: float
    """Slope of log frequency over log rank; Zipf's law has -1."""
    r2: float
    """Share of the variance of log frequency that the fitted line explains."""
    hapax: float
    """Share of the terms that are in one text only."""
    common: float
    """Share of the terms that are in more than half of the texts."""

    @classmethod
    def of(cls, counts: NDArray[np.int64], n_texts: int) -> VocabularyStatistics:
        """Compute the statistics of document frequencies `[n_terms]` in `n_texts` texts."""
        frequencies = Frequencies.of(counts)
        ordered = frequencies.counts
        terms = max(len(ordered), 1)
        return cls(
            terms=len(ordered),
            slope=frequencies.slope,
            r2=frequencies.r2,
            hapax=float((ordered == 1).sum() / terms),
            common=float((ordered > n_texts / 2).sum() / terms),
        )


def random_encoder(encoder: LatentEncoder, autoencoder: TokenAutoencoder) -> LatentEncoder:
    """Return an encoder like `encoder`, but with random directions in place of trained latents.

    Each latent's encoder weights are drawn uniformly from the sphere; their length is the root mean
    square of the model's, without bias. Backbone, normalization, number of latents and k are the
    model's.

    Args:
        encoder: of the model.
        autoencoder: of the model, as loaded.
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
