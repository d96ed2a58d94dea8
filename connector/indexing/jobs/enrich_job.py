"""The enrich job: everything that `latent-ingest enrich` does, from Python.

read the index (or copy it) → give it latent terms → move the alias
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.index.repair import repair
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.jobs.copying import Copy
from latent_ingest.connector.indexing.jobs.job import DEFAULT_INDEX, Job, JobResult
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.journal_records import RunKey
from latent_ingest.connector.indexing.on_ray.enrich import RayEnrich, check_readable
from latent_ingest.connector.indexing.on_ray.settings import OnRay, Pool, joined
from latent_ingest.connector.indexing.outcomes import (
    EnrichReport,
    check_writable,
    default_path,
)
from latent_ingest.connector.indexing.questions.own_table import OnWords


@dataclass(eq=False, repr=False)
class EnrichJob(Job):
    """Adds latent terms to an existing index, as `latent-ingest enrich` does. A job runs once.

    Documents are read from the index, encoded and updated in place; those that are up to date are
    skipped, so another job resumes an interrupted run. With an alias the index stays as it is: a
    copy of it gets the latent terms, and then the alias. Notices and warnings are logged (logger
    "latent_ingest").

        job = EnrichJob(client, "products", text_fields=["title", "body"])
        result = job.run(confirm=print)  # the index may be closed for a moment: say so

    Raises:
        InputError: the failures file cannot be written, or `restart` is given without an alias.
    """

    index: str = DEFAULT_INDEX
    """Name of the index, or an alias of one."""
    _: KW_ONLY
    on: OnRay | None = None
    """As for `IngestJob`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart and self.alias is None:
            raise InputError("restart is for an alias; without one, nothing is done twice")
        check_writable(self.failures or default_path(None, self.index))

    def run(
        self,
        on_progress: Callable[[EnrichReport, int], None] = lambda report, documents: None,
        on_copy: Callable[[int, int], None] = lambda done, of: None,
        confirm: Callable[[str], None] = lambda warning: None,
        on_words: OnWords = lambda done, of: None,
    ) -> JobResult[EnrichReport]:
        """Enrich the index, or its copy.

        Args:
            on_progress: called with the counts so far and the number of documents in the index
                after each request.
            on_copy: called with the number of documents copied and of all, every half second.
            confirm: called with a sentence if users of the index will notice the run: an index
                without latent terms is closed for a moment. Raise an exception to refuse.
            on_words: as for `IngestJob.run`, for a copy.

        Returns:
            The counts, the index and the alias. If the engine goes away or `stop` is called, the
            run ends early, with the reason in `report.stopped`.

        Raises:
            InputError, MismatchError, ModelError: the index, a text field, the failures file, the
                journal or the model cannot be used.
            EngineError: the engine cannot be asked at the start, the index is blocked, or a step
                of its preparation failed; then the index is as it was.
        """
        if self.on is None:
            return self._enrich(None, on_progress, on_copy, confirm, on_words)
        with joined(self.on) as pool:
            check_readable(self._retry, self._client)
            return self._enrich(pool, on_progress, on_copy, confirm, on_words)

    @property
    def _elsewhere(self) -> bool:
        return self.on is not None

    def _enrich(
        self,
        pool: Pool | None,
        on_progress: Callable[[EnrichReport, int], None],
        on_copy: Callable[[int, int], None],
        confirm: Callable[[str], None],
        on_words: OnWords,
    ) -> JobResult[EnrichReport]:
        """The run, in this process or on Ray, which has a pool of encoders."""
        kind: Callable[..., Enrich] = Enrich
        named: dict[str, Any] = {}
        if pool:
            kind = RayEnrich
            named = {"on": self.on, "pool": pool, "load": self._worker_model()}
        repair(self._client, self.index, self._retry)
        existing = ExistingIndex.read(self._client, self.index)
        encoder = self._load_encoder()
        table = self._question_table(encoder)
        copy = None
        if self.alias is not None:
            copy = Copy.begin(
                existing,
                Alias(self._client, self.alias),
                encoder,
                self._wanted(),
                restart=self.restart,
                questions=table,
            )
            preparation = copy.preparation
        else:
            preparation = plan(existing, encoder, self._wanted(), table)
            preparation.check_blocks()
            if preparation.warning:
                confirm(preparation.warning)
        name = preparation.index.name
        key = RunKey(
            corpus=f"index:{existing.name}",
            index=name,
            index_uuid=preparation.index.index.uuid(),
            command=self.command or f"EnrichJob(client, {self.index!r}, ...).run()",
        )
        with ExitStack() as stack:
            journal = stack.enter_context(closing(Journal(self.journal)))
            # From the start: the state is in the index itself.
            noted = stack.enter_context(closing(journal.open(key, restart=True)))
            if copy:
                stack.enter_context(copy.build.refused_on_error())
            own = None
            if copy:
                target = preparation.index.index
                own = self._own_table(target, preparation.meta, encoder, on_words)
            enrich = kind(
                self._client,
                preparation,
                encoder,
                failures=self.failures,
                concurrency=self.concurrency,
                give_up_after=self.give_up_after,
                run=noted,
                own_table=own,
                **named,
            )
            self._start(enrich)
            on_progress(enrich.report, enrich.documents)
            if copy:
                copy.fill(self._retry, self._stopped, on_copy)
            else:
                prepare(preparation, self._retry)
            report = enrich.run(lambda report: on_progress(report, enrich.documents))
            refusal = copy.finish(report, self._retry) if copy else None
            before = copy.build.before.name if copy and copy.build.before else None
            made = own.report if own else None
            return JobResult(report, name, preparation.meta, self.alias, before, refusal, made)
