"""Selection: the best value of each knob on some queries, on a grid first, then closer to the best.

A value whose gain is below the standard error of the gain is not taken: on other queries it may as
well be worse. Knobs that save time take a cheaper value if it is measured to be cheaper, and if all
such knobs together lose almost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from latent_ingest.connector.querying.scoring import Form
from latent_ingest.connector.tuning.knobs import TOLERANCE, Knob, Settings
from latent_ingest.connector.tuning.trials import Trial

# Standard errors by which the engine must be faster to count as faster: several values are
# compared, and on a machine with other load one standard error occurs by chance.
SURELY = 2

Ask = Callable[[Settings, str], Trial]
"""Given settings and a form, asks all questions and returns the trial."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a knob, with the values selected so far for all other knobs."""

    value: float
    ndcg: float
    """nDCG@10, mean over the development queries."""
    took_p50: float
    """Median time in the engine, milliseconds."""
    clauses: float
    """Clauses per query, mean."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A gain in nDCG@10."""

    gain: float
    """nDCG@10 after minus nDCG@10 before."""
    error: float
    """Standard error of `gain`, paired by query."""

    @property
    def outside_noise(self) -> bool:
        """Whether the gain, or the loss, is larger than its standard error."""
        return abs(self.gain) > self.error

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"outside_noise": self.outside_noise}


@dataclass(frozen=True)
class Curve(Gain):
    """Effect of one knob; the gain is of `best` over `default`."""

    knob: str
    form: str
    """Form in which the knob was tuned."""
    default: float
    """Value before tuning."""
    best: float
    """Value with the highest nDCG@10; of a knob that saves time, the cheapest allowed value."""
    chosen: float
    """`best` if its gain is outside noise, else `default`; of a knob that saves time, `best`."""
    points: list[Point]


def select(
    ask: Ask, start: Settings, knobs: Sequence[Knob], queries: Collection[str], form: str
) -> tuple[Settings, list[Curve]]:
    """Select the best settings on some queries; return them and the curve of each knob.

    Args:
        ask: asks all questions with given settings.
        start: settings before tuning.
        knobs: knobs in the order of tuning.
        queries: ids of the queries that decide; no others are looked at.
        form: "hybrid" or "latent"; knobs of two phases are tuned in its two-phase form.
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
    """Try values of one knob and choose one, with the settings selected so far for all others.

    Almost nothing may be lost of the nDCG@10 of `full`, the settings before any knob saved time.
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
    return Curve(knob.name, form, now, best, chosen, points, gain=gain, error=error)


def cheapest(
    trials: Mapping[float, Trial], base: float, full: Trial, queries: Collection[str]
) -> float:
    """Return the cheapest value that loses almost nothing, to `base` and `full`; else `base`."""
    able = [
        value
        for value, trial in trials.items()
        if all(keeps(trial, other, queries) for other in (full, trials[base]))
        and is_cheaper(trial, trials[base], queries)
    ]
    return min(able, key=lambda value: trials[value].cost, default=base)


def keeps(trial: Trial, base: Trial, queries: Collection[str]) -> bool:
    """Whether nDCG@10 is lower by at most `TOLERANCE`, including the standard error."""
    gain, error = gained(trial, base, queries)
    return gain - error >= -TOLERANCE


def is_cheaper(trial: Trial, base: Trial, queries: Collection[str]) -> bool:
    """Whether queries have fewer clauses, or as many but take the engine surely less time."""
    if trial.clauses != base.clauses:
        return trial.clauses < base.clauses
    less, error = difference([base.took[query] - trial.took[query] for query in queries])
    return less > SURELY * error


def gained(trial: Trial, base: Trial, queries: Collection[str]) -> tuple[float, float]:
    """Return the gain in nDCG@10 over `base`, and its standard error."""
    return difference([trial.values[query] - base.values[query] for query in queries])


def difference(differences: Sequence[float]) -> tuple[float, float]:
    """Return the mean of paired differences, and its standard error."""
    some = np.array(differences)
    error = some.std(ddof=1) / len(some) ** 0.5 if len(some) > 1 else 0.0
    return float(some.mean()), float(error)
