"""Knob by knob, the best value on some queries: on a grid first, then finer around the best.

A value that is better by less than the standard error of the difference is not taken: on other
queries it would be as likely to be worse. Knobs that save time take a cheaper value where that is
measured, and where all of them together lose next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from latent_ingest.connector.querying.scoring import Form
from latent_ingest.connector.tuning.knobs import TOLERANCE, Knob, Settings
from latent_ingest.connector.tuning.trials import Trial

# Standard errors by which the engine has to be faster: several values are compared, and a machine
# that does other things as well is faster by one now and then.
SURELY = 2

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
    """By nDCG@10; of a knob that saves time, the cheapest that may be taken."""
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
    full: Settings | None = None
    for knob in knobs:
        asked = Form(form).two_phase if knob.two_phase else form
        if knob.saves:
            full = full or settings
        curve = curve_of(ask, settings, knob, queries, asked, full or settings)
        settings = knob.turned(settings, curve.chosen)
        curves.append(curve)
    return settings, curves


def curve_of(
    ask: Ask, settings: Settings, knob: Knob, queries: Collection[str], form: str, full: Settings
) -> Curve:
    """Try values of one knob, and choose.

    Args:
        ask: answers settings.
        settings: as they were chosen before.
        knob: what is turned.
        queries: that decide.
        form: that is asked.
        full: settings before any knob saved time, of whose nDCG@10 next to nothing may be lost.
    """

    def trial(value: float) -> Trial:
        return ask(knob.turned(settings, value), form)

    def pick(values: Sequence[float]) -> float:
        trials = {value: trial(value) for value in values}
        best = max(trials, key=lambda value: trials[value].mean(queries))
        if not knob.saves:
            return best
        gain, error = gained(trials[best], trials[now], queries)
        return cheapest(trials, best if gain > error else now, ask(full, form), queries)

    now = getattr(settings, knob.name)
    now = float(knob.grid[-1] if now is None else now)
    values = sorted({now, *map(float, knob.grid)})
    for _ in range(knob.rounds):
        place = values.index(pick(values))
        gaps = pairwise(values[max(place - 1, 0) : place + 2])
        finer = [middle for low, high in gaps if (middle := knob.between(low, high)) is not None]
        values = sorted({*values, *finer})
    best = pick(values)
    gain, error = gained(trial(best), trial(now), queries)
    points = [Point(v, trial(v).mean(queries), trial(v).took_p50, trial(v).clauses) for v in values]
    chosen = best if knob.saves or gain > error else now
    return Curve(knob.name, form, now, best, chosen, gain, error, points)


def cheapest(
    trials: Mapping[float, Trial], base: float, full: Trial, queries: Collection[str]
) -> float:
    """The cheapest value that loses next to nothing; `base` unless it is cheaper than that.

    Args:
        trials: what came of each value.
        base: the value that others are compared with.
        full: what came before any knob saved time.
        queries: that decide.
    """
    able = [
        value
        for value, trial in trials.items()
        if all(keeps(trial, other, queries) for other in (full, trials[base]))
        and is_cheaper(trial, trials[base], queries)
    ]
    return min(able, key=lambda value: trials[value].cost, default=base)


def keeps(trial: Trial, base: Trial, queries: Collection[str]) -> bool:
    """Whether nDCG@10 is lower by next to nothing at most, the standard error counted in."""
    gain, error = gained(trial, base, queries)
    return gain - error >= -TOLERANCE


def is_cheaper(trial: Trial, base: Trial, queries: Collection[str]) -> bool:
    """Whether a question has fewer clauses, or as many and takes the engine less time, surely."""
    if trial.clauses != base.clauses:
        return trial.clauses < base.clauses
    less, error = difference([base.took[query] - trial.took[query] for query in queries])
    return less > SURELY * error


def gained(trial: Trial, base: Trial, queries: Collection[str]) -> tuple[float, float]:
    """What nDCG@10 is higher by, and the standard error of that."""
    return difference([trial.values[query] - base.values[query] for query in queries])


def difference(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and its standard error."""
    some = np.array(differences)
    error = some.std(ddof=1) / len(some) ** 0.5 if len(some) > 1 else 0.0
    return float(some.mean()), float(error)
