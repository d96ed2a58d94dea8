"""Knobs: the settings of scoring that can be tuned, and the values that are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.querying.scoring import (
    HEAD_TERMS,
    LATENT_BOOST,
    MAX_QUERY_TERMS,
    WINDOW,
)

# nDCG@10 that all knobs that save time may lose together, including the standard error.
TOLERANCE = 0.001


@dataclass(frozen=True, slots=True)
class Settings:
    """A value of every knob."""

    k1: float
    """k1 of the latent field's BM25."""
    b: float
    """b of the latent field's BM25."""
    latent_boost: float = LATENT_BOOST
    """Factor on latent scores in hybrid forms, as on OpenSearch 3; see `hybrid_boost`."""
    max_query_terms: int = MAX_QUERY_TERMS
    query_k: int | None = None
    """Latents per token of a question; None for the model's k."""
    head_terms: int = HEAD_TERMS
    window: int = WINDOW

    @classmethod
    def of(cls, meta: IndexMeta, k1: float, b: float) -> Settings:
        """Current settings of an index; k1 and b come from its settings, its meta may be older."""
        return cls(k1, b, **(meta.query_settings or {}))

    def query_settings(self) -> dict[str, Any]:
        """Settings that `_meta` stores: all but k1 and b, which are settings of the index."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("k1", "b")}


@dataclass(frozen=True, slots=True)
class Knob:
    """One field of `Settings`, and the values to try."""

    name: str
    grid: Sequence[float]
    """Values tried first, ascending."""
    rounds: int
    """How many times the gaps around the best value are halved."""
    whole: bool = False
    """Whether values are integers."""
    saves: bool = False
    """Whether a smaller value may be cheaper; it is taken if it loses almost nothing."""
    two_phase: bool = False
    """Whether the knob only matters in two-phase forms."""

    def turned(self, settings: Settings, value: float) -> Settings:
        """Return the settings with another value of this knob."""
        new: dict[str, Any] = {self.name: int(value) if self.whole else value}
        return replace(settings, **new)

    def between(self, low: float, high: float) -> float | None:
        """Return the geometric mean of two values; None if it rounds to one of them."""
        middle = (low * high) ** 0.5 if low > 0 else (low + high) / 2
        value = round(middle) if self.whole else float(f"{middle:.3g}")
        return value if low < value < high else None


NAMES = ("latent_boost", "k1", "b", "query_k", "max_query_terms", "head_terms", "window")


def knobs_for(meta: IndexMeta, names: Sequence[str]) -> list[Knob]:
    """Return the named knobs in the order of tuning.

    Engines cannot rescore an index of chunks, which therefore has no knobs of two phases.
    """
    fewer = [k for k in (meta.k // 4, meta.k // 2, 3 * meta.k // 4) if k >= 1]
    boost = Knob("latent_boost", (0.05, 0.1, 0.15, 0.22, 0.32, 0.5), 2)
    in_order = [
        boost,
        Knob("k1", [meta.scale * k1 for k1 in (0.6, 1.2, 2.0, 3.5, 6.0)], 1),
        Knob("b", (0.3, 0.5, 0.7, 0.9), 1),
        boost,  # a second time, since its best value depends on k1 and b
        Knob("query_k", (*fewer, meta.k), 0, whole=True, saves=True),
        Knob("max_query_terms", (32, 64, 128, 192, 384), 1, whole=True, saves=True),
        Knob("head_terms", (8, 16, 24, 48), 1, whole=True, saves=True, two_phase=True),
        Knob("window", (40, 75, 150, 300), 1, whole=True, saves=True, two_phase=True),
    ]
    rescores = meta.long != "chunks"
    return [knob for knob in in_order if knob.name in names and (rescores or not knob.two_phase)]
