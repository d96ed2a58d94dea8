"""Knob by knob, the best value on some queries: on a grid first, then finer around the best.

A value that is better by less than the standard error of the difference is not taken: on other
queries it would be as likely to be worse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from latent_ingest.connector.tuning.knobs import TOLERANCE, Knob, Settings
from latent_ingest.connector.tuning.trials import Trial

Ask = Callable[[Settings, str], Trial]
"""What comes of a setting in a form."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a knob, all others as they were chosen before."""

    value: float
    ndcg: float
    """nDCG@10, mean over the development queries."""
    took_p50: float
    clauses: float


@dataclass(frozen=True, slots=True)
class Curve:
    """What one knob does."""

    knob: str
    form: str
    default: float
    """What it was before."""
    best: float
    """By nDCG@10; of a knob that saves time, the cheapest that loses next to nothing."""
    chosen: float
    """The best if that is outside noise, else what it was; of a knob that saves time, the best."""
    gain: float
    """nDCG@10 of the best less that of the value before."""
    error: float
    """Standard error of that, paired by query."""
    points: list[Point] = field(default_factory=list)

    @property
    def outside_noise(self) -> bool:
        """Whether the gain, or the loss, is larger than its standard error."""
        return abs(self.gain) > self.error

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"outside_noise": self.outside_noise}


def choose(
    ask: Ask, start: Settings, knobs: Sequence[Knob], queries: Collection[str], form: str
) -> tuple[Settings, list[Curve]]:
    """The best settings on some queries, and the curves of the knobs.

    Args:
        ask: answers settings.
        start: before.
        knobs: in the order they are tuned.
        queries: that decide; no other is looked at.
        form: "hybrid" or "latent"; knobs of two phases are tuned in its form of two phases.
    """
    settings, curves = start, []
    for knob in knobs:
        asked = form if not knob.two_phase else two_phase_of(form)
        curve = curve_of(ask, settings, knob, queries, asked)
        settings = knob.turned(settings, curve.chosen)
        curves.append(curve)
    return settings, curves


def two_phase_of(form: str) -> str:
    """A form in two phases."""
    return "hybrid_two_phase" if form == "hybrid" else "two_phase"


def curve_of(
    ask: Ask, settings: Settings, knob: Knob, queries: Collection[str], form: str
) -> Curve:
    """Try values of one knob, and choose."""

    def trial(value: float) -> Trial:
        return ask(knob.turned(settings, value), form)

    now = getattr(settings, knob.name)
    now = float(knob.grid[-1] if now is None else now)
    values = sorted({now, *map(float, knob.grid)})
    for _ in range(knob.rounds):
        best = pick(knob, {value: trial(value).mean(queries) for value in values})
        place = values.index(best)
        gaps = pairwise(values[max(place - 1, 0) : place + 2])
        finer = [middle for low, high in gaps if (middle := knob.between(low, high)) is not None]
        values = sorted({*values, *finer})
    means = {value: trial(value).mean(queries) for value in values}
    best = pick(knob, means)
    before, after = trial(now), trial(best)
    gain, error = difference([after.values[q] - before.values[q] for q in queries])
    points = [Point(v, means[v], trial(v).took_p50, trial(v).clauses) for v in values]
    chosen = best if knob.saves or gain > error else now
    return Curve(knob.name, form, now, best, chosen, gain, error, points)


def pick(knob: Knob, means: dict[float, float]) -> float:
    """The best value; of a knob that saves time, the cheapest that loses next to nothing."""
    most = max(means.values())
    if knob.saves:
        return min(value for value, mean in means.items() if mean >= most - TOLERANCE)
    return max(means, key=lambda value: means[value])


def difference(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and its standard error."""
    some = np.array(differences)
    error = some.std(ddof=1) / len(some) ** 0.5 if len(some) > 1 else 0.0
    return float(some.mean()), float(error)
