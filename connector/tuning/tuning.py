"""Tuning of one index: settings selected on some judged queries, and their worth on others.

development queries → best value, knob by knob → held-out queries, before and after
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER, Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.evaluated_index import EvaluatedIndex
from latent_ingest.connector.evaluation.rankings import Tick
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.scoring import Form
from latent_ingest.connector.questions.index_table import model_table
from latent_ingest.connector.tuning.knobs import NAMES, Knob, Settings, knobs_for
from latent_ingest.connector.tuning.report import TuningReport, outcomes_of
from latent_ingest.connector.tuning.selection import Ask, select
from latent_ingest.connector.tuning.splits import Split, folds
from latent_ingest.connector.tuning.trials import Trial, Trials
from latent_ingest.connector.tuning.tuned_index import (
    TunedIndex,
    apply_settings,
    check_meta,
    check_quiet,
    in_place,
    on_a_copy,
)

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Knobs that are settings of the index, which must be closed to change them.
SIMILARITY_KNOBS = {"k1", "b"}

# Encodings kept per question: one for each value of query_k that is tried.
ENCODINGS_PER_QUESTION = 5

log = logging.getLogger(__name__)


class Tuning:
    """Tunes the scoring of one index; nothing is encoded or indexed again.

    split = split_of("scifact/", "train")
    tuning = Tuning(client, "scifact", split, copy=True)
    report = tuning.run(encoder)
    tuning.apply(report)
    """

    def __init__(
        self,
        client: OpenSearch | Client,
        index: str,
        split: Split,
        *,
        knobs: Sequence[str] = NAMES,
        form: str = "hybrid",
        copy: bool = False,
        seed: int = 0,
        questions: str = "model",
        feedback: bool = False,
        give_up_after: float = GIVE_UP_AFTER,
    ) -> None:
        """Check that the index can be tuned on the collection; nothing is changed.

        Args:
            client: client of opensearch-py or `elasticsearch`.
            index: name or alias of an index that holds the collection.
            split: queries that choose, and queries that report.
            knobs: names of the knobs to tune.
            form: "hybrid" or "latent": the form whose nDCG@10 is maximized.
            copy: whether to try settings on a clone of the index instead of the index itself.
            seed: seed of folds and of the randomisation test.
            questions: "model", or "table" to encode questions by the question table of the index,
                or by that of the model if the index has none.
            feedback: whether each question takes over latent terms of its first hits, in two
                requests.
            give_up_after: seconds for which the engine may refuse to open the index again.

        Raises:
            InputError: the index does not exist, is closed, lacks most of the judged documents, or
                has none of the knobs.
            MismatchError: the index has no latent terms.
            EngineError: the engine cannot be asked.
        """
        left_out = set() if Form(form).words_score else {"latent_boost"}
        if questions == "table":
            left_out.add("query_k")  # a table has no k
        names = [name for name in knobs if name not in left_out]
        client = adapted(client)
        self._retry = Retry(client, give_up_after=give_up_after)
        self._existing = ExistingIndex.read(client, index)
        self._meta = check_meta(self._existing)
        self._split = split
        self._knobs = knobs_for(self._meta, names)
        if not self._knobs:
            raise InputError(
                f"--knobs {','.join(knobs)}: index {index} has none of these in the form {form}"
            )
        self._form = form
        self._copy = copy
        self._seed = seed
        self._questions = questions
        self._feedback = feedback
        self._check_judged()

    @property
    def index(self) -> str:
        """Name of the index, also if an alias was given."""
        return self._existing.name

    @property
    def tunes_similarity(self) -> bool:
        """Whether k1 or b is tuned, so that `apply` closes the index for moments."""
        return any(knob.name in SIMILARITY_KNOBS for knob in self._knobs)

    @property
    def closes(self) -> bool:
        """Whether `run` closes the index for moments."""
        return self.tunes_similarity and not self._copy

    @property
    def searches(self) -> int:
        """Approximate number of searches of `run`."""
        values = sum(len(knob.grid) + 2 * knob.rounds for knob in self._knobs)
        held_out = self._split.held_out
        forms = len(reported_forms(self._form, self._meta)) + 1
        reported = len(held_out.queries) * 3 * forms if held_out else 0
        return len(self._split.development.queries) * values + reported

    def check_unused(self, journal: Path | None = None, *, apply: bool = False) -> None:
        """Check that nobody writes to the index, if tuning closes, clones or changes it.

        Args:
            journal: path of the journal of ingest runs; None for the default one.
            apply: whether the settings are to be applied.

        Raises:
            InputError: an ingest is running, or the index receives writes.
        """
        if not (self.closes or self._copy or apply):
            return
        with closing(Journal(journal)) as book:
            if book.running(self._existing.index.uuid()):
                raise InputError(f"a run of ingest writes to {self.index}; wait until it ends")
        if self.closes or self._copy:
            check_quiet(self._existing.index)

    def run(self, encoder: LatentEncoder, tick: Tick = lambda done: None) -> TuningReport:
        """Select settings on the development queries, then report on the held-out ones.

        The index is restored, and a copy deleted, when this returns or raises. Judgements of the
        held-out queries are not looked at until everything is selected.

        Args:
            encoder: model that the index was made with.
            tick: called with the number of searches done since the last call.

        Raises:
            InputError: the index receives writes.
            MismatchError: the index was made with another model.
            ModelError: questions are by table, and the model has none.
            EngineError: a search fails, or another command changed the index.
        """
        self._meta.check(encoder, self.index)
        held_out = self._split.held_out
        questions = len(self._split.development.queries) + len(held_out.queries if held_out else ())
        cache = ENCODINGS_PER_QUESTION * questions
        queries = QueryEncoder(encoder, cache_size=cache)
        if self._questions == "table":
            if self._meta.questions is None:
                model_table(encoder, strict=True)  # raises if there is none of this model
            queries = QueryEncoder(encoder.folder, cache_size=cache, questions="table")
        trials_on = partial(Trials, encoder=queries, tick=tick, feedback=self._feedback)
        with self._opened() as index:
            start = Settings.of(self._meta, *index.similarity)
            own = self._split.development
            trials = trials_on(index, own)
            selected, curves = select(trials, start, self._knobs, own.queries, self._form)
            forms = reported_forms(self._form, self._meta)
            per_fold: list[Settings] = []
            if held_out:
                trials = trials_on(index, held_out)
                after = {form: trials(selected, form) for form in forms}
            else:
                parts = folds(own.queries, self._seed)
                per_fold = selected_by_others(trials, start, self._knobs, parts, self._form)
                by_fold = list(zip(per_fold, parts, strict=True))
                after = {
                    form: combined([(trials(settings, form), part) for settings, part in by_fold])
                    for form in forms
                }
            before = {form: trials(start, form) for form in ("words", *forms)}
        return TuningReport(
            self._split,
            self.index,
            start,
            selected,
            curves,
            before["words"].mean(before["words"].values),
            outcomes_of(before, after, self._seed),
            per_fold,
            self._questions,
            self._feedback,
        )

    def apply(self, report: TuningReport) -> None:
        """Store the selected settings in the index, for all later questions.

        Raises:
            InputError: the index receives writes; it is unchanged.
            EngineError: the engine refuses.
        """
        apply_settings(self._existing.index, report.after, self._retry)

    def _opened(self) -> AbstractContextManager[TunedIndex]:
        """Return a context with the index to search: a copy, or the index itself."""
        if self._copy:
            return on_a_copy(self._existing, self._retry)
        if self.closes:
            return in_place(self._existing, self._retry)
        return nullcontext(
            TunedIndex(self._existing.index, self._existing.index, None, self._retry)
        )

    def _check_judged(self) -> None:
        """Log a warning if the index lacks relevant documents; raises InputError if most."""
        judged = self._split.development
        missing = EvaluatedIndex(self._existing.index, judged).missing(judged.relevant)
        if len(missing) * 2 > len(judged.relevant):
            raise InputError(
                f"index {self.index} lacks {len(missing):,} of the {len(judged.relevant):,} "
                f"documents that {judged.name} judges relevant, such as {missing[0]!r}; name the "
                f"index of that collection with --index"
            )
        if missing:
            log.warning(
                "index %s lacks %s of the documents judged relevant", self.index, len(missing)
            )


def reported_forms(form: str, meta: IndexMeta) -> list[str]:
    """Return the forms to report: the tuned one, its two-phase form, and latent."""
    phases = [] if meta.long == "chunks" else [Form(form).two_phase]
    return [form, *phases, *([Form.LATENT] if Form(form).words_score else [])]


def selected_by_others(
    ask: Ask, start: Settings, knobs: Sequence[Knob], parts: Sequence[Sequence[str]], form: str
) -> list[Settings]:
    """Return, for each part of the queries, the settings that all other parts select."""
    rest = [[q for other in parts if other is not held for q in other] for held in parts]
    return [select(ask, start, knobs, queries, form)[0] for queries in rest]


def combined(parts: Sequence[tuple[Trial, Sequence[str]]]) -> Trial:
    """Combine trials, each of which counts for the queries beside it; clauses are averaged."""
    values = {query: trial.values[query] for trial, queries in parts for query in queries}
    took = {query: trial.took[query] for trial, queries in parts for query in queries}
    return Trial(values, took, sum(trial.clauses for trial, _ in parts) / len(parts))
