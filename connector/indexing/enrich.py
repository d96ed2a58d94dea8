"""Enrich: add latent terms to the documents of an existing index.

shards → pages of documents → those whose text is new or changed → latent vectors → updates

The state is in the index itself: a document is done if its hash is that of its text. So the same
command resumes an interrupted run, and later encodes new and changed documents.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector.document import BadLine, Document
from latent_ingest.connector.document_text import has_field, text_hash, text_in
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.guard import guarded
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import Preparation
from latent_ingest.connector.index.reading import PAGE, Stored, fetch, scan
from latent_ingest.connector.indexing.actions import (
    UpdateAction,
    Verdict,
    length_flags,
    term_strings,
    update_action,
)
from latent_ingest.connector.indexing.batches import CHARACTERS_PER_BUDGET_TOKEN
from latent_ingest.connector.indexing.bulk_run import BulkRun
from latent_ingest.connector.indexing.journal import Run
from latent_ingest.connector.indexing.journal_records import Progress
from latent_ingest.connector.indexing.outcomes import (
    EnrichReport,
    FailuresFile,
    IngestReport,
    default_path,
)
from latent_ingest.connector.indexing.sender import CONCURRENCY, Outcome, Sender

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.indexing.questions.own_table import OwnTable

log = logging.getLogger(__name__)

# Documents read, up to date or not, after which the counts are updated.
MAX_BATCH_DOCUMENTS = 4096

# Times that a document is read and encoded again because somebody else keeps writing it.
ROUNDS = 10


@dataclass(slots=True)
class Batch:
    """Some documents of the index."""

    read: int = 0
    """Documents read for the first time."""
    up_to_date: int = 0
    deleted: int = 0
    stale: list[Stored] = field(default_factory=list)
    """Documents without latent terms, or with those of another text."""
    texts: list[str] = field(default_factory=list)
    """Texts of the stale documents."""
    actions: list[UpdateAction] = field(default_factory=list)
    """Filled in by the encoding stage."""
    failed: list[tuple[Stored, str]] = field(default_factory=list)
    """Documents that cannot be encoded, with the reason; filled in by the encoding stage."""
    tokens: int = 0
    filled: bool = False
    """Whether the encoding stage is done."""
    reached: dict[int, int] = field(default_factory=dict)
    """If an index is watched: shards → the write up to which they are read with this batch."""


class Texts:
    """The texts of documents, and which of the fields they have."""

    def __init__(self, meta: IndexMeta) -> None:
        self._fields = meta.text_fields
        # The target of copy_to is not part of documents.
        hidden = meta.text_fields if meta.analyzer else meta.words or ()
        self.unseen = [name for name in meta.text_fields if name not in hidden]
        """Fields that no document has had so far."""
        self.found = False
        """Whether any document has had text."""

    def of(self, stored: Stored) -> str:
        """The text of a document."""
        text = text_in(stored.source, self._fields)
        self.found |= bool(text)
        if self.unseen:
            self.unseen = [name for name in self.unseen if not has_field(stored.source, name)]
        return text

    def add(self, found: bool, unseen: Sequence[str]) -> None:
        """Add what other documents have."""
        self.found |= found
        self.unseen = [name for name in self.unseen if name in unseen]


class Enrich(BulkRun):
    """One run over one index."""

    def __init__(
        self,
        client: OpenSearch,
        preparation: Preparation,
        encoder: LatentEncoder,
        *,
        failures: Path | None = None,
        concurrency: int = CONCURRENCY,
        give_up_after: float = GIVE_UP_AFTER,
        run: Run | None = None,
        own_table: OwnTable | None = None,
    ) -> None:
        """Prepare a run over an index that `preparing.prepare` made ready.

        Progress is noted in `run`, if any; `own_table` gets the words of all documents and is put
        into the index once they are up to date. The other arguments are those of `EnrichJob`.
        """
        index, meta = Index(client, preparation.index.name), preparation.meta
        file = FailuresFile(failures or default_path(None, index.name), f"index {index.name}")
        super().__init__(index, meta, encoder, file, concurrency, give_up_after, run)
        self._shards = preparation.index.shards
        self._own_table = own_table
        self._batch_characters = CHARACTERS_PER_BUDGET_TOKEN * encoder.backbone.token_budget
        self._conflicts: list[Stored] = []
        self._on_progress: Callable[[EnrichReport], None] = lambda report: None
        self._started = 0.0
        self._texts = Texts(meta)
        self.documents = 0
        """Number of documents in the index when the run started."""
        self.report: EnrichReport = EnrichReport()

    def run(
        self, on_progress: Callable[[EnrichReport], None] = lambda report: None
    ) -> EnrichReport:
        """Bring all documents up to date; `on_progress` is called after each request.

        If the engine goes away or `stop` is called, the run ends early, with the reason in
        `stopped`. Raises EngineError if the engine cannot be asked at the start, and InputError if
        the failures file or the journal cannot be written.
        """
        report, index, retry = self.report, self._index, self._retry
        self._on_progress = on_progress
        self._started = time.monotonic()
        uuid = retry.ask(index.uuid)
        retry.ask(index.refresh)
        self.documents = retry.ask(index.count)
        try:
            with guarded(index, f"index:{index.name}", retry) as target:
                self._update_all(target)
            retry.ask(index.refresh)
            if retry.ask(index.uuid) != uuid:  # an EngineError, too, if it no longer exists
                raise EngineError(f"index {index.name} was deleted and created again meanwhile")
        except EngineError as error:
            self._stop_because(str(error))
        finally:
            self._failures.close()
        self._name_failures_file()
        if report.read > report.deleted and not report.stopped:
            report.no_text = not self._texts.found
            for name in self._texts.unseen if self._texts.found else ():
                log.warning("no document of index %s has a field %r", index.name, name)
        self._progress()
        if self._own_table and not report.stopped:
            try:
                self._own_table.put()
            except EngineError as error:
                self._stop_because("interrupted" if self._interrupted else str(error))
        if self._run:
            self._run.end(report.stopped)
        return report

    def _update_all(self, target: dict[str, Any]) -> None:
        """Update all documents, then again those that others have changed meanwhile."""
        sender = Sender[UpdateAction](self._client, target, self._retry, self._concurrency)
        try:
            self._update(self._all(), sender)
            for _ in range(ROUNDS):
                again, self._conflicts = self._conflicts, []
                if again and not self._stop.is_set():
                    self._update(self._changed(again), sender)
            for stored in self._conflicts if not self.report.stopped else ():
                reason = f"changed {ROUNDS} times while it was encoded; run the command again"
                self._fail(stored, reason)
        except BaseException:
            self._stop.set()
            raise
        finally:
            sender.close()

    def _update(self, batches: Generator[Batch], sender: Sender[UpdateAction]) -> None:
        """Encode and send batches; counts the outcomes of all that was sent."""
        with closing(self._sent(batches, sender)) as sent:
            for batch, futures in sent:
                self._count(batch)
                for future in futures:
                    for outcome in future.result():
                        self._settle(outcome)
                    failed, read = self.report.failed, self.report.read
                    self._stop_because(self._failures.too_many(failed, read, "documents"))
                    self._progress()
                if not self.report.stopped:
                    self._settled(batch)
                self._progress()
        if self._interrupted:
            self._stop_because("interrupted")

    def _all(self) -> Generator[Batch]:
        """All documents of the index."""
        return self._batches(scan(self._index, self._meta, self._shards, self._retry))

    def _taken(self, page: Iterable[Stored], batch: Batch) -> None:
        """Called when all documents of a page are in batches, of which this is the last."""

    def _settled(self, batch: Batch) -> None:
        """Called when all documents of a batch have their outcomes."""

    def _batches(self, pages: Generator[Iterable[Stored]]) -> Generator[Batch]:
        return batches(pages, self._meta, self._batch_characters, self._text, self._taken)

    def _text(self, stored: Stored) -> str:
        """The text of a document that is read for the first time."""
        text = self._texts.of(stored)
        if self._own_table:
            self._own_table.add(text)
        return text

    def _changed(self, documents: list[Stored]) -> Generator[Batch]:
        """Documents that were read before, as they are now."""
        for start in range(0, len(documents), PAGE):
            page = documents[start : start + PAGE]
            found = fetch(self._index, self._meta, page, self._retry)
            texts = [self._texts.of(stored) for stored in found]
            yield Batch(deleted=len(page) - len(found), stale=found, texts=texts)

    def _fill(self, batch: Batch) -> None:
        if not batch.filled:
            fill(batch, self._encoder, self._meta)

    def _count(self, batch: Batch) -> None:
        """Count the documents that are not sent."""
        report = self.report
        report.read += batch.read
        report.up_to_date += batch.up_to_date
        report.deleted += batch.deleted
        report.tokens += batch.tokens
        for stored, reason in batch.failed:
            self._fail(stored, reason)

    def _settle(self, outcome: Outcome[UpdateAction]) -> None:
        report, action = self.report, outcome.action
        match outcome.verdict:
            case Verdict.DONE:
                report.encoded += 1
                report.count_encoded([action])
            case Verdict.CONFLICT:
                report.conflicts += 1
                self._conflicts.append(replace(action.stored, source={}))  # it is read again
            case Verdict.DELETED:
                report.deleted += 1
            case Verdict.FAILED:
                self._fail(action.stored, f"rejected: {outcome.reason}")
            case None:
                self._stop_unsent(outcome)

    def _fail(self, stored: Stored, reason: str) -> None:
        reason = f"document {stored.id!r}: {reason}"
        failure = BadLine(0, reason, Document(0, stored.id, False, "", {}))
        self._write_failure(failure, reason)

    def _progress(self) -> None:
        report = self.report
        ended = report.up_to_date + report.encoded + report.deleted + report.failed
        report.left = report.read - ended
        report.seconds = time.monotonic() - self._started
        self._on_progress(report)
        if self._run:
            counts = self._counts()
            self._run.note(
                Progress(report.read, position=ended, size=self.documents, report=counts)
            )

    def _counts(self) -> dict[str, Any]:
        """The counts as the journal has them for every run."""
        report = self.report
        return asdict(
            IngestReport(
                lines=report.read,
                indexed=report.encoded,
                failed=report.failed,
                tokens=report.tokens,
                seconds=report.seconds,
            )
        )


def batches(
    pages: Generator[Iterable[Stored]],
    meta: IndexMeta,
    characters: int,
    text_of: Callable[[Stored], str],
    taken: Callable[[Iterable[Stored], Batch], None] = lambda page, batch: None,
) -> Generator[Batch]:
    """Batches of about so many characters to encode.

    `taken` is called when all documents of a page are in batches, of which the given one is the
    last.
    """
    batch, size = Batch(), 0
    with closing(pages):
        for page in pages:
            for stored in page:
                batch.read += 1
                text = text_of(stored)
                known = stored.source.get(meta.hash_field or "")
                if stored.has_latents and known == text_hash(text):
                    batch.up_to_date += 1
                    continue
                batch.stale.append(stored)
                batch.texts.append(text)
                size += len(text)
                if size >= characters:
                    yield batch
                    batch, size = Batch(), 0
            taken(page, batch)
            if batch.read >= MAX_BATCH_DOCUMENTS:
                yield batch
                batch, size = Batch(), 0
        yield batch


def fill(batch: Batch, encoder: LatentEncoder, meta: IndexMeta) -> None:
    """Encode a batch: add its actions, and the documents that cannot be encoded."""
    vectors = encoder.encode(batch.texts, allow_nan=True, long=meta.long)
    strings = term_strings(vectors, meta)
    for row, (stored, text) in enumerate(zip(batch.stale, batch.texts, strict=True)):
        if not vectors.finite[row]:
            batch.failed.append((stored, encoder.nan_message(text)))
            continue
        flags = length_flags(vectors, row)
        batch.actions.append(update_action(stored, meta, strings[row], text, **flags))
    batch.tokens = int(vectors.n_tokens.sum())
    batch.filled = True
