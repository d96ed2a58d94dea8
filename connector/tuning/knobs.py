"""What can be tuned: the settings of scoring, and the values that are tried."""

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

# What all knobs that save time may lose together, of nDCG@10, the standard error counted in.
TOLERANCE = 0.001


@dataclass(frozen=True, slots=True)
class Settings:
    """One setting of all knobs."""

    k1: float
    """Of BM25 of the latent field."""
    b: float
    latent_boost: float = LATENT_BOOST
    """Factor on latent scores beside words, as on OpenSearch 3; see `hybrid_boost`."""
    max_query_terms: int = MAX_QUERY_TERMS
    query_k: int | None = None
    """Latents a token of a question; none for the model's own."""
    head_terms: int = HEAD_TERMS
    window: int = WINDOW

    @classmethod
    def of(cls, meta: IndexMeta, k1: float, b: float) -> Settings:
        """Those that an index has now: k1 and b of its settings, which may not be its meta's."""
        return cls(k1, b, **(meta.query_settings or {}))

    def query_settings(self) -> dict[str, Any]:
        """For `_meta`: all but those of the index."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("k1", "b")}


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting, and the values tried first."""

    name: str
    grid: Sequence[float]
    rounds: int
    """How often the gap around the best is halved."""
    whole: bool = False
    saves: bool = False
    """Whether a smaller value may be cheaper, which is taken where it loses next to nothing."""
    two_phase: bool = False
    """Whether it counts in forms of two phases alone."""

    def turned(self, settings: Settings, value: float) -> Settings:
        """The settings with another value of this knob."""
        new: dict[str, Any] = {self.name: int(value) if self.whole else value}
        return replace(settings, **new)

    def between(self, low: float, high: float) -> float | None:
        """A value halfway, by factors; none where there is no other."""
        middle = (low * high) ** 0.5 if low > 0 else (low + high) / 2
        value = round(middle) if self.whole else float(f"{middle:.3g}")
        return value if low < value < high else None


# In the order they are tuned; the boost a second time, since the best depends on k1 and b.
ORDER = (
    "latent_boost",
    "k1",
    "b",
    "latent_boost",
    "query_k",
    "max_query_terms",
    "head_terms",
    "window",
)
NAMES = tuple(dict.fromkeys(ORDER))


def knobs_for(meta: IndexMeta, names: Sequence[str]) -> list[Knob]:
    """The knobs an index has, of those named, in the order they are tuned.

    In an index of chunks nothing can be rescored, so that there are no knobs of two phases.
    """
    scale = meta.scale
    half = [k for k in (meta.k // 4, meta.k // 2, 3 * meta.k // 4) if k >= 1]
    every = {
        "latent_boost": Knob("latent_boost", (0.05, 0.1, 0.15, 0.22, 0.32, 0.5), 2),
        "k1": Knob("k1", tuple(scale * k1 for k1 in (0.6, 1.2, 2.0, 3.5, 6.0)), 1),
        "b": Knob("b", (0.3, 0.5, 0.7, 0.9), 1),
        "query_k": Knob("query_k", (*half, meta.k), 0, whole=True, saves=True),
        "max_query_terms": Knob(
            "max_query_terms", (32, 64, 128, 192, 384), 1, whole=True, saves=True
        ),
        "head_terms": Knob(
            "head_terms", (8, 16, 32, 64), 1, whole=True, saves=True, two_phase=True
        ),
        "window": Knob("window", (50, 100, 200, 400), 1, whole=True, saves=True, two_phase=True),
    }
    found = [every[name] for name in ORDER if name in names]
    return [knob for knob in found if not (knob.two_phase and meta.long == "chunks")]
