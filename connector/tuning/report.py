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
from latent_ingest.connector.tuning.selection import Curve, Gain, gained
from latent_ingest.connector.tuning.splits import Split
from latent_ingest.connector.tuning.trials import Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome(Gain):
    """A form before and after tuning, on queries that did not choose."""

    form: str
    before: float
    """nDCG@10 with the settings before tuning."""
    after: float
    """nDCG@10 with the selected settings."""
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
    questions: str = "model"
    """What encoded the questions: "model" or "table"."""
    feedback: bool = False
    """Whether questions took over latent terms of their first hits; times are of both requests."""

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
            "questions": self.questions,
            "feedback": self.feedback,
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
    outcomes = []
    for form, trial in after.items():
        gain, error = gained(trial, before[form], trial.values)
        outcomes.append(
            Outcome(
                form=form,
                before=before[form].mean(trial.values),
                after=trial.mean(trial.values),
                gain=gain,
                error=error,
                p=p_values[form],
                p_holm=corrected[form],
                took_p50_before=before[form].took_p50,
                took_p50_after=trial.took_p50,
                clauses_before=before[form].clauses,
                clauses_after=trial.clauses,
            )
        )
    return outcomes
