"""A vocabulary's figures: how near to Zipf's law, and how many terms are very rare or common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.training.statistics import Frequencies


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the document frequencies of the terms that a sample has."""

    terms: int
    """Different terms."""
    slope: float
    """Of log frequency over log rank: -1 is Zipf's law."""
    r2: float
    """Share of the variance of log frequency that the line explains."""
    hapax: float
    """Share of the terms that are in one text only."""
    common: float
    """Share of the terms that are in more than half of the texts."""

    @classmethod
    def of(cls, counts: NDArray[np.int64], n_texts: int) -> Figures:
        """Those of document frequencies, `[n_terms]`, in so many texts."""
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
