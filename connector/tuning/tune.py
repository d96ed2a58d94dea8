"""Tuning: settings chosen on some judgements, and what they are worth on others.

development queries → knob by knob, the best → held-out queries, before and after
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.evaluation.evaluate import missing_documents
from latent_ingest.connector.evaluation.measures import holm, randomisation_p
from latent_ingest.connector.evaluation.systems import Tick
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.tuning.choosing import Ask, Curve, choose, gained, two_phase_of
from latent_ingest.connector.tuning.knobs import Knob, Settings
from latent_ingest.connector.tuning.splits import Split, folds
from latent_ingest.connector.tuning.trials import Trial, Trials
from latent_ingest.connector.tuning.tuned_index import TunedIndex


@dataclass(frozen=True, slots=True)
class Outcome:
    """A form before and after, on queries that did not choose."""

    form: str
    before: float
    """nDCG@10 with the settings the index had."""
    after: float
    """With those chosen."""
    gain: float
    error: float
    """Standard error of the gain, paired by query."""
    p: float
    """Of the paired randomisation test, two-sided."""
    p_holm: float
    """The same after Holm's correction over the forms."""
    took_p50_before: float
    took_p50_after: float
    clauses_before: float
    clauses_after: float

    @property
    def outside_noise(self) -> bool:
        return abs(self.gain) > self.error

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"outside_noise": self.outside_noise}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was chosen, why, and what it is worth."""

    collection: str
    index: str
    description: str
    """Which queries chose and which report."""
    before: Settings
    after: Settings
    curves: list[Curve]
    words: float
    """nDCG@10 of the words alone, on the held-out queries."""
    outcomes: list[Outcome]
    folds: list[Settings]
    """What was chosen without each fifth of the queries; empty where they are not few."""

    def to_json(self) -> dict[str, Any]:
        return {
            "collection": self.collection,
            "index": self.index,
            "description": self.description,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "curves": [curve.to_json() for curve in self.curves],
            "held_out": {
                "words": self.words,
                "forms": [outcome.to_json() for outcome in self.outcomes],
            },
            "folds": [asdict(settings) for settings in self.folds],
        }


def tune(
    client: OpenSearch,
    index: TunedIndex,
    meta: IndexMeta,
    split: Split,
    knobs: Sequence[Knob],
    encoder: QueryEncoder,
    *,
    form: str = "hybrid",
    seed: int = 0,
    tick: Tick = lambda done: None,
) -> Tuning:
    """Choose on the development queries, then report on the others.

    Args:
        client: of the engine.
        index: that is asked.
        meta: its meta.
        split: the queries; judgements of those held out are not looked at until all is chosen.
        knobs: in the order they are tuned.
        encoder: the model, with room for all questions.
        form: whose nDCG@10 is to be best, "hybrid" or "latent".
        seed: of folds and of the randomisation test.
        tick: called with the number of questions answered.

    Raises:
        EngineError: the engine cannot be asked.
    """
    start = Settings.of(meta, *index.similarity)
    own = split.development
    trials = Trials(client, index, own.queries, own.qrels, encoder, tick)
    chosen, curves = choose(trials, start, knobs, own.queries, form)
    forms = reported_forms(form, meta)
    each: list[Settings] = []
    if split.held_out is None:
        parts = folds(own.queries, seed)
        each = chosen_by_others(trials, start, knobs, parts, form)
        after = {
            name: combined([(trials(s, name), part) for s, part in zip(each, parts, strict=True)])
            for name in forms
        }
    else:
        other = split.held_out
        trials = Trials(client, index, other.queries, other.qrels, encoder, tick)
        after = {name: trials(chosen, name) for name in forms}
    before = {name: trials(start, name) for name in ("words", *forms)}
    return Tuning(
        own.name,
        index.name,
        split.description,
        start,
        chosen,
        curves,
        before["words"].mean(before["words"].values),
        outcomes_of(before, after, seed),
        each,
    )


def reported_forms(form: str, meta: IndexMeta) -> list[str]:
    """The form that was tuned, and those beside it."""
    phases = [] if meta.long == "chunks" else [two_phase_of(form)]
    return [form, *phases, *(["latent"] if form == "hybrid" else [])]


def chosen_by_others(
    ask: Ask, start: Settings, knobs: Sequence[Knob], parts: Sequence[Sequence[str]], form: str
) -> list[Settings]:
    """For each part of the queries, what all others choose."""
    rest = [[q for other in parts if other is not held for q in other] for held in parts]
    return [choose(ask, start, knobs, queries, form)[0] for queries in rest]


def combined(parts: Sequence[tuple[Trial, Sequence[str]]]) -> Trial:
    """Of each trial the queries beside it; clauses are the mean."""
    values = {query: trial.values[query] for trial, queries in parts for query in queries}
    took = {query: trial.took[query] for trial, queries in parts for query in queries}
    return Trial(values, took, sum(trial.clauses for trial, _ in parts) / len(parts))


def outcomes_of(
    before: Mapping[str, Trial], after: Mapping[str, Trial], seed: int
) -> list[Outcome]:
    """What each form of `after` gains."""
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


def searches(split: Split, knobs: Sequence[Knob], form: str, meta: IndexMeta) -> int:
    """About how many questions will be asked."""
    values = sum(len(knob.grid) + 2 * knob.rounds for knob in knobs)
    forms = len(reported_forms(form, meta)) + 1
    held_out = len(split.held_out.queries) * 3 * forms if split.held_out else 0
    return len(split.development.queries) * values + held_out


def check_holds(client: OpenSearch, index: str, judged: Collection) -> int:
    """How many of the documents judged relevant the index lacks.

    Raises:
        InputError: most of them.
        EngineError: the engine cannot be asked.
    """
    wanted = {d for row in judged.qrels.values() for d, grade in row.items() if grade > 0}
    missing = missing_documents(client, index, wanted)
    if len(missing) * 2 > len(wanted):
        raise InputError(
            f"index {index} lacks {len(missing):,} of the {len(wanted):,} documents that "
            f"{judged.name} judges relevant, such as {missing[0]!r}; name the index of that "
            f"collection with --index"
        )
    return len(missing)
