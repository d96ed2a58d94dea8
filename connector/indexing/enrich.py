"""Latent terms for the documents of an index that is there already.

shards → pages of documents → those whose text is new or changed → latent vectors → updates

The state is in the index itself: a document whose hash is that of its text is done. So a run that
was cut is gone on with by the same command, and the same command brings changed and new documents
up to date later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector.corpus import BadLine, Document, text_hash
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER, Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.guard import guarded
from latent_ingest.connector.index.preparing import Preparation
from latent_ingest.connector.index.reading import PAGE, Stored, fetch, scan, text_in
from latent_ingest.connector.indexing.actions import term_strings
from latent_ingest.connector.indexing.ingest import CHARACTERS_A_BUDGET_TOKEN
from latent_ingest.connector.indexing.journal import Progress, Run
from latent_ingest.connector.indexing.outcomes import FailuresFile, IngestReport, default_path
from latent_ingest.connector.indexing.sender import requests
from latent_ingest.connector.indexing.updates import (
    Update,
    UpdateOutcome,
    UpdateSender,
    make_update,
)
from latent_ingest.connector.prefetch import give_back_memory, prefetch

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Batches that wait between two stages.
AHEAD = 2

# Documents read, up to date or not, after which the counts move on.
MAX_BATCH_DOCUMENTS = 4096

# How often a document is read and encoded again because somebody else keeps writing it.
ROUNDS = 10

# Documents that may fail before a run ends early, or one in a hundred.
MAX_FAILED = 1000


@dataclass(slots=True)
class EnrichReport:
    """Counts of a run. `read == up_to_date + encoded + deleted + failed + left`, always."""

    read: int = 0
    """Documents read; where a run stops early, those before that place."""
    up_to_date: int = 0
    """Documents whose latent terms are those of their text."""
    encoded: int = 0
    """Documents that got latent terms."""
    deleted: int = 0
    """Documents that somebody deleted after they were read."""
    failed: int = 0
    left: int = 0
    """Documents in the hands of the run when it was stopped."""
    conflicts: int = 0
    """Times that a document had changed after it was read, and was encoded again."""
    empty: int = 0
    """Encoded documents whose text gives no latents."""
    truncated: int = 0
    """Encoded documents longer than the backbone's window, cut there."""
    pooled: int = 0
    """Encoded documents longer than the backbone's window, in several windows."""
    tokens: int = 0
    seconds: float = 0.0
    failures_file: str | None = None
    stopped: str | None = None
    """Why the run ended before all documents were read; none when it did not."""

    @property
    def ok(self) -> bool:
        """Whether every document has the latent terms of its text."""
        return not (self.failed or self.left or self.stopped)

    def to_json(self) -> dict[str, Any]:
        """All counts, and the rates."""
        seconds = max(self.seconds, 1e-9)
        return {
            **asdict(self),
            "documents_per_second": self.read / seconds,
            "tokens_per_second": self.tokens / seconds,
        }


@dataclass(slots=True)
class Batch:
    """Some documents of the index."""

    read: int = 0
    stale: list[Stored] = field(default_factory=list)
    """Those that lack latent terms, or have those of another text."""
    texts: list[str] = field(default_factory=list)
    """Of the stale ones."""
    updates: list[Update] = field(default_factory=list)
    """Filled in by the encoding stage."""
    failed: list[tuple[Stored, str]] = field(default_factory=list)
    """With the reason; filled in by the encoding stage."""
    tokens: int = 0


class Enrich:
    """One run over one index."""

    def __init__(
        self,
        client: OpenSearch,
        preparation: Preparation,
        encoder: LatentEncoder,
        *,
        failures: Path | None = None,
        give_up_after: float = GIVE_UP_AFTER,
        run: Run | None = None,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Prepare a run over an index that `existing.prepare` made ready.

        Args:
            client: of the engine.
            preparation: of the index.
            encoder: the model.
            failures: file for documents that fail; by default beside the current folder's files.
            give_up_after: seconds of refusals and silence after which the run ends.
            run: of a journal, which notes how far it is.
            warn: called with lines the user should see at once.
        """
        self._client = client
        self._index = preparation.index.index
        self._shards = preparation.index.shards
        self._meta = preparation.meta
        self._encoder = encoder
        self._batch_characters = CHARACTERS_A_BUDGET_TOKEN * encoder.backbone.token_budget
        path = failures or default_path("-", self._index.name)
        self._failures = FailuresFile(path, f"index {self._index.name}")
        self._run = run
        self._warn = warn
        self._stop = threading.Event()
        self._retry = Retry(client, give_up_after=give_up_after, ended=self._stop)
        self._conflicts: list[Stored] = []
        self._on_progress: Callable[[EnrichReport], None] = lambda report: None
        self._started = 0.0
        self.documents = 0
        """In the index when the run began."""
        self.report = EnrichReport()

    @property
    def ended(self) -> threading.Event:
        """Set by `stop`."""
        return self._stop

    def stop(self) -> None:
        """End after the request in flight; what was sent stays. Safe from a signal handler."""
        self._stop.set()

    def run(
        self, on_progress: Callable[[EnrichReport], None] = lambda report: None
    ) -> EnrichReport:
        """Bring all documents up to date.

        Args:
            on_progress: called after each request with the counts so far.

        Returns:
            The counts. An engine that goes away and `stop` end the run early, with the reason in
            `stopped`.

        Raises:
            EngineError: the engine cannot be asked at the start.
            InputError: the failures file or the journal cannot be written.
        """
        report = self.report
        self._on_progress = on_progress
        self._started = time.monotonic()
        client, index, retry = self._client, self._index, self._retry
        uuid = retry.ask(index.uuid)
        retry.ask(index.refresh)
        self.documents = retry.ask(index.count)
        try:
            with guarded(index, f"index:{index.name}", retry) as target:
                sender = UpdateSender(client, target, retry)
                self._read_all(sender)
                self._read_changed_again(sender)
            if report.deleted and retry.ask(index.uuid) != uuid:
                raise EngineError(f"index {index.name} was deleted and made again meanwhile")
            retry.ask(index.refresh)
        except EngineError as error:
            report.stopped = report.stopped or str(error)
        finally:
            self._failures.close()
        if self._failures.path is not None:
            report.failures_file = str(self._failures.path)
        self._progress()
        if self._run:
            self._run.end(report.stopped)
        return report

    def _read_all(self, sender: UpdateSender) -> None:
        pages = scan(self._index, self._meta, self._shards, self._retry)
        encoded = prefetch(self._encode(prefetch(self._batches(pages), AHEAD)), AHEAD)
        try:
            for batch in encoded:
                self.report.read += batch.read
                self.report.up_to_date += batch.read - len(batch.stale)
                self._take(batch, sender)
                if self.report.stopped:
                    break
        finally:
            encoded.close()

    def _read_changed_again(self, sender: UpdateSender) -> None:
        for _ in range(ROUNDS):
            again, self._conflicts = self._conflicts, []
            for start in range(0, len(again), PAGE):
                if self.report.stopped:
                    return
                page = again[start : start + PAGE]
                found = fetch(self._index, self._meta, page, self._retry)
                self.report.deleted += len(page) - len(found)
                batch = Batch(stale=found, texts=[self._text(stored) for stored in found])
                self._take(self._encoded(batch), sender)
        if not self.report.stopped:
            for stored in self._conflicts:
                self._fail(stored, f"changed {ROUNDS} times while it was encoded; run it again")

    def _text(self, stored: Stored) -> str:
        return text_in(stored.source, self._meta.text_fields)

    def _batches(self, pages: Generator[list[Stored]]) -> Generator[Batch]:
        batch, size = Batch(), 0
        try:
            for page in pages:
                for stored in page:
                    batch.read += 1
                    text = self._text(stored)
                    if self._is_up_to_date(stored, text):
                        continue
                    batch.stale.append(stored)
                    batch.texts.append(text)
                    size += len(text)
                    if size >= self._batch_characters:
                        yield batch
                        batch, size = Batch(), 0
                if batch.read >= MAX_BATCH_DOCUMENTS:
                    yield batch
                    batch, size = Batch(), 0
            yield batch
        finally:
            pages.close()

    def _is_up_to_date(self, stored: Stored, text: str) -> bool:
        assert self._meta.hash_field is not None
        return stored.has_latents and stored.source.get(self._meta.hash_field) == text_hash(text)

    def _encode(self, batches: Generator[Batch]) -> Generator[Batch]:
        try:
            for batch in batches:
                yield self._encoded(batch)
                give_back_memory()
        finally:
            batches.close()

    def _encoded(self, batch: Batch) -> Batch:
        meta = self._meta
        vectors = self._encoder.encode(batch.texts, allow_nan=True, long=meta.long)
        strings = term_strings(vectors, meta)
        for row, (stored, text) in enumerate(zip(batch.stale, batch.texts, strict=True)):
            if not vectors.finite[row]:
                reason = self._encoder.nan_message(text)
                batch.failed.append((stored, reason))
                continue
            batch.updates.append(
                make_update(
                    stored,
                    meta,
                    strings[row],
                    text,
                    truncated=bool(vectors.truncated[row]),
                    pooled=bool(vectors.n_windows[row] > 1),
                )
            )
        batch.tokens = int(vectors.n_tokens.sum())
        return batch

    def _take(self, batch: Batch, sender: UpdateSender) -> None:
        """Send what a batch holds, and count."""
        report = self.report
        report.tokens += batch.tokens
        for stored, reason in batch.failed:
            self._fail(stored, reason)
        for request in requests(batch.updates):
            if report.stopped or self._stop.is_set():
                break
            for outcome in sender.send(request):
                self._count(outcome)
            if report.failed > max(MAX_FAILED, report.read // 100):
                report.stopped = (
                    f"{report.failed:,} documents failed; {self._failures.path} says why"
                )
            self._progress()
        if self._stop.is_set():
            report.stopped = report.stopped or "interrupted"
        self._progress()

    def _count(self, outcome: UpdateOutcome) -> None:
        report, update = self.report, outcome.update
        if outcome.ending == "encoded":
            report.encoded += 1
            report.empty += update.empty
            report.truncated += update.truncated
            report.pooled += update.pooled
        elif outcome.ending == "conflict":
            report.conflicts += 1
            self._conflicts.append(replace(update.stored, source={}))  # it is read again
        elif outcome.ending == "deleted":
            report.deleted += 1
        elif outcome.ending == "failed":
            self._fail(update.stored, f"rejected: {outcome.reason}")
        else:
            reason = "interrupted" if self._stop.is_set() else outcome.reason
            report.stopped = report.stopped or reason

    def _fail(self, stored: Stored, reason: str) -> None:
        reason = f"document {stored.id!r}: {reason}"
        if not self.report.failed:
            self._warn(reason)
        self.report.failed += 1
        self._failures.write(BadLine(0, reason, Document(0, stored.id, False, "", {})))

    def _progress(self) -> None:
        report = self.report
        ended = report.up_to_date + report.encoded + report.deleted + report.failed
        report.left = report.read - ended
        report.seconds = time.monotonic() - self._started
        self._on_progress(report)
        if self._run:
            counts = IngestReport(
                lines=report.read,
                indexed=report.encoded,
                failed=report.failed,
                tokens=report.tokens,
                seconds=report.seconds,
            )
            self._run.note(
                Progress(
                    lines=report.read,
                    position=ended,
                    size=self.documents,
                    report=asdict(counts),
                )
            )
