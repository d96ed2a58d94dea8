"""The job that `latent-ingest enrich --watch` does, from Python.

prepare the index → follow it from where the journal says → the same for the next one, if the name
that is watched moves to another index
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass

from latent_ingest.connector.engine.blocks import check_open
from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.index.repair import repair
from latent_ingest.connector.indexing.jobs.job import DEFAULT_INDEX, Job, JobResult
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.journal_records import RunKey
from latent_ingest.connector.indexing.outcomes import WatchReport, check_writable, default_path
from latent_ingest.connector.indexing.watching.follower import (
    POLL_SECONDS,
    Follower,
    Moved,
    Watched,
)

log = logging.getLogger(__name__)

LEAST_POLL = 0.1


@dataclass(eq=False, repr=False)
class WatchJob(Job):
    """Keeps the latent terms of an index up to date, as `latent-ingest enrich --watch` does.

    Documents that are written to the index are read, encoded and updated, until `stop` is called
    from another thread or a signal handler. A job runs once; another one goes on where it was.

        job = WatchJob(client, "products", text_fields=["title", "body"])
        result = job.run(confirm=print)

    Raises:
        InputError: the failures file cannot be written, a value is out of range, or `alias` or
            `restart` is given.
    """

    index: str = DEFAULT_INDEX
    """Name of the index, or an alias of one, which may move to another index meanwhile."""
    _: KW_ONLY
    poll: float = POLL_SECONDS
    """Seconds between two looks at the index, at least 0.1."""
    rate: float | None = None
    """Most documents read per second; None for any number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alias is not None or self.restart:
            raise InputError("a copy of an index is made once; watch it afterwards")
        if self.poll < LEAST_POLL:
            raise InputError(f"poll every {LEAST_POLL:g} s or more seldom, not {self.poll:g}")
        if self.rate is not None and self.rate <= 0:
            raise InputError(f"a rate is a number of documents a second, not {self.rate:g}")
        check_writable(self.failures or default_path(None, self.index))
        self.report = WatchReport()
        """The counts so far."""

    def run(
        self,
        on_progress: Callable[[WatchReport], None] = lambda report: None,
        confirm: Callable[[str], None] = lambda warning: None,
    ) -> JobResult[WatchReport]:
        """Follow the index until `stop` is called, or the engine is away for too long.

        Args:
            on_progress: called with the counts so far: before an index is prepared, every `poll`
                seconds, and after each request.
            confirm: as for `EnrichJob.run`.

        Returns:
            The counts. `report.stopped` says why it ended: "interrupted" after `stop`.

        Raises:
            InputError, MismatchError, ModelError, EngineError: as `EnrichJob.run`; also if the
                index is closed, or the name comes to stand for several indices.
        """
        EngineInfo.read(self._client)  # without retries: a wrong address fails at once
        while True:
            try:
                return self._follow(on_progress, confirm)
            except Moved as moved:
                log.warning("%s; following that", moved)

    def _follow(
        self,
        on_progress: Callable[[WatchReport], None],
        confirm: Callable[[str], None],
    ) -> JobResult[WatchReport]:
        """Follow the index that the name stands for now; raises Moved if that changes."""
        client, retry = self._client, self._retry
        retry.ask(repair, client, self.index, retry)
        existing = retry.ask(ExistingIndex.read, client, self.index)
        check_open(existing.name, existing.settings)
        encoder = self.encoder = self._load_encoder()  # once for all indices
        preparation = plan(existing, encoder, self._wanted(), self._question_table(encoder))
        preparation.check_blocks()
        if preparation.warning:
            confirm(preparation.warning)
        uuid = existing.settings["index.uuid"]
        key = RunKey(
            corpus=f"watch:{existing.name}",
            index=existing.name,
            index_uuid=uuid,
            command=self.command or f"WatchJob(client, {self.index!r}, ...).run()",
        )
        with ExitStack() as stack:
            journal = stack.enter_context(closing(Journal(self.journal)))
            noted = stack.enter_context(closing(journal.open(key)))
            self.report.index = existing.name
            on_progress(self.report)  # from now on, the command ends in good order
            prepare(preparation, retry)
            follower = Follower(
                client,
                preparation,
                encoder,
                Watched(self.index, self.poll, self.rate),
                self.report,
                failures=self.failures,
                concurrency=self.concurrency,
                give_up_after=self.give_up_after,
                run=noted,
                uuid=uuid,
            )
            self._start(follower)
            return JobResult(follower.run(on_progress), existing.name, preparation.meta)
