"""The report of tuning: what was selected, and what it is worth on other queries."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latent_ingest.connector.evaluation.measures import holm, randomisation_p
from latent_ingest.connector.evaluation.report import writing
from latent_ingest.connector.tuning.knobs import Settings
from latent_ingest.connector.tuning.plots import draw
from latent_ingest.connector.tuning.selection import Curve, gained
from latent_ingest.connector.tuning.splits import Split
from latent_ingest.connector.tuning.trials import Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A form before and after tuning, on queries that did not choose."""

    form: str
    before: float
    """nDCG@10 with the settings before tuning."""
    after: float
    """nDCG@10 with the selected settings."""
    gain: float
    error: float
    """Standard error of `gain`, paired by query."""
    p: float
    """Two-sided p of the paired randomisation test."""
    p_holm: float
    """`p` after Holm's correction over the forms."""
    took_p50_before: float
    """Median time in the engine before tuning, milliseconds."""
    took_p50_after: float
    clauses_before: float
    """Clauses per query before tuning, mean."""
    clauses_after: float

    @property
    def outside_noise(self) -> bool:
        """Whether the gain, or the loss, is larger than its standard error."""
        return abs(self.gain) > self.error

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"outside_noise": self.outside_noise}


@dataclass(frozen=True, slots=True)
class TuningReport:
    """Settings before and after tuning, why they were selected, and what they are worth."""

    split: Split
    index: str
    """Name of the index that was tuned."""
    before: Settings
    after: Settings
    curves: list[Curve]
    """Curves of the knobs, in the order of tuning."""
    words: float
    """nDCG@10 of words only, on the held-out queries."""
    outcomes: list[Outcome]
    folds: list[Settings]
    """Settings selected without each fifth of the queries; empty unless cross-validated."""

    def to_json(self, *, applied: bool = False) -> dict[str, Any]:
        """Return the content of tune.json; `applied` says whether the index has the settings."""
        return {
            "collection": self.split.development.name,
            "index": self.index,
            "description": self.split.description,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "curves": [curve.to_json() for curve in self.curves],
            "held_out": {
                "words": self.words,
                "forms": [outcome.to_json() for outcome in self.outcomes],
            },
            "folds": [asdict(settings) for settings in self.folds],
            "applied": applied,
            "known_items": self.split.known_items,
        }

    def write(self, folder: Path, *, applied: bool = False) -> None:
        """Write tune.json and a plot per knob; raises InputError if they cannot be written."""
        content = json.dumps(self.to_json(applied=applied), indent=2)
        with writing(folder):
            (folder / "tune.json").write_text(content + "\n", encoding="utf-8")
            drawn = draw(folder, self.curves)
        if not drawn:
            log.info("no plots: matplotlib is not installed; pip install 'latent-ingest[train]'")


def outcomes_of(
    before: Mapping[str, Trial], after: Mapping[str, Trial], seed: int
) -> list[Outcome]:
    """Compare the trials of each form of `after` with those before."""
    p_values = {
        form: randomisation_p(
            [value - before[form].values[query] for query, value in trial.values.items()], seed
        )
        for form, trial in after.items()
    }
    corrected = holm(p_values)
    return [
        Outcome(
            form,
            before[form].mean(trial.values),
            trial.mean(trial.values),
            *gained(trial, before[form], trial.values),
            p_values[form],
            corrected[form],
            before[form].took_p50,
            trial.took_p50,
            before[form].clauses,
            trial.clauses,
        )
        for form, trial in after.items()
    ]
