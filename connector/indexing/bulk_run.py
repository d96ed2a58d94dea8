"""A run of ingest or enrich: its stages, which work at the same time, and how it ends early."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.document import BadLine
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.journal import Run
from latent_ingest.connector.indexing.outcomes import FailuresFile, Report
from latent_ingest.connector.indexing.sender import Batch, Outcome, Sender
from latent_ingest.connector.prefetch import give_back_memory, prefetch

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)

# Batches that wait between two stages.
AHEAD = 2


class BulkRun:
    """A run of ingest or enrich: its stages, which work at the same time, and how it ends early."""

    report: Report

    def __init__(
        self,
        index: Index,
        meta: IndexMeta,
        encoder: LatentEncoder,
        failures: FailuresFile,
        concurrency: int,
        give_up_after: float,
        run: Run | None,
    ) -> None:
        self._client = index.client
        self._index = index
        self._meta = meta
        self._encoder = encoder
        self._failures = failures
        self._concurrency = concurrency
        self._run = run
        self._stop = threading.Event()
        self._interrupted = False
        self._retry = Retry(self._client, give_up_after=give_up_after, ended=self._stop)

    def stop(self) -> None:
        """End after the requests in flight; what was sent stays. Signal-safe."""
        self._interrupted = True
        self._stop.set()

    def _sent(
        self, batches: Generator[Batch], sender: Sender[Any]
    ) -> Generator[tuple[Batch, list[Future[list[Outcome[Any]]]]]]:
        """Encode and send batches, a few of each stage ahead; close it to end all stages."""
        encoded = prefetch(self._encode(prefetch(batches, AHEAD)), AHEAD)
        return prefetch(sender.submit_batches(encoded), AHEAD)

    def _encode(self, batches: Generator[Batch]) -> Generator[Batch]:
        with closing(batches):
            for batch in batches:
                if self._stop.is_set():
                    return
                self._fill(batch)
                give_back_memory()
                yield batch

    def _fill(self, batch: Any) -> None:
        """Encode a batch: add its actions."""
        raise NotImplementedError

    def _stop_because(self, reason: str | None) -> None:
        """End the run early, unless there is no reason; the first reason counts."""
        if reason:
            self.report.stopped = self.report.stopped or reason
            self._stop.set()

    def _stop_unsent(self, outcome: Outcome[Any]) -> None:
        """End the run early because an action was not sent."""
        self._stop_because("interrupted" if self._interrupted else outcome.reason)

    def _write_failure(self, failure: BadLine, message: str, source: str | None = None) -> None:
        """Count a failure and add it to the failures file; log the first."""
        if not self.report.failed:
            log.warning("%s", message)
        self.report.failed += 1
        self._failures.write(failure, source)

    def _name_failures_file(self) -> None:
        if self._failures.path is not None:
            self.report.failures_file = str(self._failures.path)
