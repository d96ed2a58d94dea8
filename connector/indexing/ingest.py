"""Ingest: encode the documents of a corpus file and index them.

corpus file → batches of documents → latent vectors → index actions → requests → outcomes

Reading, encoding and sending run at the same time, a few batches apart, so memory does not grow
with the file. Batches are settled in the file's order, in whatever order requests end; after each,
the journal notes what the engine has acknowledged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.finding import Sources
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.document import (
    DEFAULT_ID_FIELDS,
    DEFAULT_TEXT_FIELDS,
    BadLine,
    Document,
)
from latent_ingest.connector.document_text import missing
from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.guard import Loading
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.pipelines import say_pipelines
from latent_ingest.connector.indexing.actions import IndexAction, Verdict
from latent_ingest.connector.indexing.batches import (
    CHARACTERS_PER_BUDGET_TOKEN,
    Batch,
    Batches,
    fill,
)
from latent_ingest.connector.indexing.bulk_run import BulkRun
from latent_ingest.connector.indexing.chunks import delete_stale
from latent_ingest.connector.indexing.journal import Run
from latent_ingest.connector.indexing.journal_records import Block, Progress
from latent_ingest.connector.indexing.outcomes import (
    FailuresFile,
    IngestReport,
    default_path,
)
from latent_ingest.connector.indexing.sender import CONCURRENCY, Outcome, Sender
from latent_ingest.connector.seen_keys import SeenKeys

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.indexing.questions.own_table import OwnTable
    from latent_ingest.connector.indexing.sharding.load import ShardedLoad

log = logging.getLogger(__name__)

OnProgress = Callable[[IngestReport, int], None]
"""Called with the counts so far and the bytes of the file that are done."""

Sent = tuple[Batch, "list[Future[list[Outcome[IndexAction]]]]"]
"""A batch, and the outcomes of its requests once they are known."""


class Ingest(BulkRun):
    """One run over one corpus file, into an index that exists."""

    def __init__(
        self,
        client: OpenSearch | Client,
        index: str,
        encoder: LatentEncoder,
        meta: IndexMeta,
        corpus: Sources | Corpus,
        *,
        reading: Reading | None = None,
        id_fields: Sequence[str] = DEFAULT_ID_FIELDS,
        failures: Path | None = None,
        merge_after: bool = False,
        max_rejected: int | None = None,
        concurrency: int = CONCURRENCY,
        give_up_after: float = GIVE_UP_AFTER,
        run: Run | None = None,
        own_table: OwnTable | None = None,
        shards: ShardedLoad | None = None,
        refresh_off: bool = True,
    ) -> None:
        """Prepare a run into an index that `open_index` made or checked.

        Args:
            client: client of opensearch-py or `elasticsearch`.
            index: name of the index.
            encoder: the model.
            meta: return value of `open_index`.
            corpus: paths of files, folders or patterns, or "-" for standard input; or the corpus.
            reading: how they are read.
            merge_after: merge each shard to one segment at the end.
            run: the run in a journal, which may have been interrupted before; without it the file
                is ingested from its start.
            own_table: gets the words of all documents of the file, and is put into the index once
                they are in it.
            shards: the load of which this run is one shard.
            refresh_off: stop refreshing the index meanwhile.

        The other arguments are those of `IngestJob`.

        Raises:
            InputError: a file cannot be opened, or not be read as its format.
        """
        self._file = corpus if isinstance(corpus, Corpus) else Corpus(corpus, reading)
        self._said_lost_ids = False
        self._said_missing = False
        self._shards = shards
        shard = shards.shard if shards else None
        named = default_path(self._file.short_name, index, shard.file_name if shard else None)
        file = FailuresFile(failures or named, self._file.name)
        handle = Index(adapted(client), index)
        super().__init__(handle, meta, encoder, file, concurrency, give_up_after, run)
        characters = CHARACTERS_PER_BUDGET_TOKEN * encoder.backbone.token_budget
        self._batches = Batches(self._file, id_fields, meta, characters, shard)
        self._merge_after = merge_after
        self._max_rejected = max_rejected
        self._rejected: list[int] = []
        self._own_table = own_table
        self._refresh_off = refresh_off
        self._number = 0
        self._pipelines: list[str] = []
        self.report: IngestReport = IngestReport()

    @property
    def unit(self) -> str:
        """What the counts of lines are of: "line", "row", "item" or "action"."""
        return self._file.unit

    @property
    def file_bytes(self) -> int | None:
        """Size of the corpus file in bytes; None for a pipe."""
        return self._file.size

    def run(self, on_progress: OnProgress = lambda report, position: None) -> IngestReport:
        """Index the file.

        Args:
            on_progress: called after each request with the counts so far and the bytes of the file
                that are done.

        Returns:
            The counts. If the file breaks off, the engine goes away or `stop` is called, the run
            ends early, with the reason in `stopped`; nothing that was indexed is lost.

        Raises:
            EngineError: the engine cannot be asked at the start.
            InputError: the failures file or the journal cannot be written, the first lines of the
                file are not those that the interrupted run has done, or an ingest pipeline gives
                documents a routing.
        """
        with self._file, closing(self._failures), closing(SeenKeys()) as seen:
            if self._run:
                self._resume(self._run, seen, on_progress)
            started = time.monotonic() - self.report.seconds
            if not self.report.stopped:
                self._load(seen, started, on_progress)
        self._finish(started)
        # Before the run is done in the journal: if it ends here, the same command resumes it.
        if self._own_table and not self.report.stopped:
            with self._stopping_on_error():
                self._own_table.put(self.report.chunks or self.report.indexed)
        if self._run:
            self._run.end(self.report.stopped)
        return self.report

    def _load(self, seen: SeenKeys, started: float, on_progress: OnProgress) -> None:
        """Index the lines that are not done, as a run with its own number.

        A resumed run takes another number than before it was interrupted: what it sends, from lines
        that may have been edited since, replaces what was in flight then.
        """
        self._pipelines = self._retry.ask(say_pipelines, self._index)
        alone = self._shards.alone if self._shards else nullcontext
        source = f"{self._file.name} {self._shards.shard}" if self._shards else self._file.name
        loading = Loading(self._index, source, self._retry, refresh_off=self._refresh_off)
        with alone():
            target = loading.begin()
        self._number = loading.number
        sender = Sender[IndexAction](
            self._client, target, self._retry, self._concurrency, loading.index.name
        )
        sent = self._sent(self._batches.read(), sender)
        try:
            for batch, futures in self._until_broken(sent):
                self._count(batch)
                for future in futures:
                    if self.report.stopped:
                        break
                    self._settle(future.result(), seen)
                    self.report.seconds = time.monotonic() - started
                    on_progress(self.report, batch.position)
                if self.report.stopped:
                    break
                self._note(batch)
            if self._interrupted:
                self._stop_because("interrupted")
        except BaseException:
            self._stop_because("failed")
            raise
        finally:
            sent.close()
            sender.close()
            with self._stopping_on_error(), alone():
                loading.end()

    def _until_broken(self, sent: Generator[Sent]) -> Generator[Sent]:
        try:
            yield from sent
        except InputError as error:  # the file breaks off; the lines before it are good
            self.report.stopped = str(error)

    def _fill(self, batch: Batch) -> None:
        fill(batch, self._encoder, self._meta, self._number)

    def _resume(self, run: Run, seen: SeenKeys, on_progress: OnProgress) -> None:
        """Check the lines that an interrupted run has done, and continue its counts."""
        done = run.resumed
        if done is None:
            return
        report = self.report = IngestReport(**{**done.report, "resumed_after": done.lines})
        log.info("%s: resuming after %s", self._file.name, f"{self._file.unit} {done.lines:,}")
        for number, document in enumerate(self._batches.skip(done.lines, done.digest), start=1):
            if self._interrupted:
                self._stop_because("interrupted")
                break
            if isinstance(document, Document) and document.line not in run.rejected:
                seen.add([document.id])
                self._count_words([document])
            if not number % 10_000:
                on_progress(report, self._file.position)
        self._resume_failures(done)

    def _resume_failures(self, done: Progress) -> None:
        """Append to the failures file of an interrupted run."""
        report = self.report
        before = Path(report.failures_file) if report.failures_file else None
        if before and not self._failures.resume(before, done.failures_bytes):
            log.info("%s has been changed: further failures go to another file", before)

    def _count(self, batch: Batch) -> None:
        """Count the lines that are not sent."""
        report = self.report
        report.blank += batch.blank
        report.of_other_shards += batch.others
        report.tokens += batch.tokens
        self._count_words(batch.documents)
        for failure in batch.bad:
            self._fail(failure)
        generated = sum(document.generated for document in batch.documents)
        if generated:
            self._say_generated(generated)
        if any(document.lost_id for document in batch.documents):
            self._say_lost_id()
        if batch.documents and not self._said_missing:
            self._said_missing = True
            wanted = self._meta.text_fields
            first = [document.fields for document in batch.documents]
            changes = self._file.reading.changes
            for text in (
                *missing(first, wanted, chosen=tuple(wanted) != DEFAULT_TEXT_FIELDS),
                *(changes.unseen() if changes else ()),
            ):
                log.warning("%s: %s", self._file.name, text)
        report.lines += batch.lines - len(batch.documents)
        self._stop_if_too_many_fail()

    def _say_generated(self, number: int) -> None:
        """Count documents that got an id made of their content; log the first."""
        if not self.report.generated_ids:
            fields = " or ".join(map(repr, self._batches.id_fields))
            log.info(
                "some documents have no id (field %s): each gets one made of its content, which "
                "stays the same",
                fields,
            )
        self.report.generated_ids += number

    def _say_lost_id(self) -> None:
        """Log, once, that an `_id` that is not the id is not kept."""
        if not self._said_lost_ids:
            self._said_lost_ids = True
            log.warning(
                "the field _id of the documents is not kept, since the ids are in another field "
                "and engines accept no field of that name; rename it to keep it"
            )

    def _count_words(self, documents: Sequence[Document]) -> None:
        """Count words for the table, again after a resumption, which reads all lines anyway.

        On one CPU core, 50 µs a document of 1,500 letters, .07 % of the time of encoding it
        (benchmarks/own_words.py).
        """
        if self._own_table:
            for document in documents:
                self._own_table.add(document.text)

    def _settle(self, outcomes: list[Outcome[IndexAction]], seen: SeenKeys) -> None:
        """Count the outcomes of a request."""
        report = self.report
        unsent = [outcome for outcome in outcomes if outcome.verdict is None]
        if unsent:
            self._stop_unsent(unsent[0])
            if self._interrupted and len(unsent) == len(outcomes):
                return
        report.lines += len(outcomes)
        report.not_sent += len(unsent)
        if self._merge_after and self._meta.lean and not report.indexed:
            # A later merge removes the hidden copies only if there are two segments.
            with suppress(OpenSearchException):
                self._client.indices.flush(index=self._index.name)
        indexed = [outcome.action for outcome in outcomes if outcome.verdict is Verdict.DONE]
        new = seen.add([action.id for action in indexed])
        report.indexed += new
        if self._meta.id_field:
            report.indexed += len(indexed) - new
            report.repeated += len(indexed) - new
        else:
            report.replaced += len(indexed) - new
        report.count_encoded(indexed)
        if self._meta.long == "chunks":
            report.chunks += sum(action.n_answers for action in indexed)
        for outcome in outcomes:
            if outcome.verdict is Verdict.FAILED:
                document = outcome.action.document
                reason = f"document {document.id!r} rejected: {outcome.reason}"
                self._fail(BadLine(document.line, reason, document))
        self._stop_if_too_many_fail()

    def _fail(self, failure: BadLine) -> None:
        if isinstance(failure.content, Document):
            self._rejected.append(failure.line)
        place = self._file.place(failure.line)
        there = replace(failure, line=place.number)
        self._write_failure(there, f"{place}: {failure.reason}", place.file)

    def _note(self, batch: Batch) -> None:
        """Note in the journal that all lines up to the end of the batch are done."""
        self._note_progress(batch.digest, batch.position)

    def _note_progress(self, digest: str, position: int, block: Block | None = None) -> None:
        if not self._run:
            return
        failures_bytes = self._failures.save()
        if self._failures.path is not None:
            self.report.failures_file = str(self._failures.path.resolve())
        self._run.note(
            Progress(
                lines=self.report.lines,
                digest=digest,
                position=position,
                size=self._file.size,
                failures_bytes=failures_bytes,
                report=asdict(self.report),
                **self._numbers(),
            ),
            self._rejected,
            block,
        )
        self._rejected.clear()

    def _numbers(self) -> dict[str, Any]:
        """Fields of `Progress` by which a resumed run keeps its number, if it does."""
        return {}

    def _finish(self, started: float) -> None:
        """Delete stale chunks, merge, and measure the index."""
        report, index = self.report, self._index
        self._name_failures_file()
        with self._stopping_on_error():
            # Shards leave stale chunks to the last of them.
            if self._meta.long == "chunks" and report.stopped is None and not self._shards:
                documents = self._retry.ask(index.count)
                if report.replaced or documents != report.chunks:
                    report.removed_chunks += delete_stale(index, self._retry, self._concurrency)
            if self._merge_after and report.stopped is None:
                wait = " (it may wait a minute for the engine)" if self._meta.lean else ""
                log.info("merging each shard of %s to one segment%s", index.name, wait)
                self._retry.ask(index.merge, self._retry, lean=self._meta.lean)
                if self._interrupted:
                    self._stop_because("interrupted")
            size = self._retry.ask(index.size)
            report.documents_in_index = size.documents
            self._check_latents()
            # Serverless collections do not tell their size.
            report.bytes_a_document = size.bytes / max(size.documents, 1) or None
        # A few documents without text may replace some in an index that has others.
        only_these = (report.documents_in_index or 0) <= max(report.documents, report.chunks)
        report.no_text = 0 < report.documents == report.empty and only_these and not report.stopped
        report.seconds = time.monotonic() - started

    def _check_latents(self) -> None:
        """A pipeline may take the latent field away, which no answer of the engine tells."""
        wanted = self.report.indexed - self.report.empty
        if not self._pipelines or self.report.stopped or wanted <= 0:
            return
        field = self._meta.latent_field
        # Some engines count empty fields, too: then as many losses as these go unnoticed.
        found = self._retry.ask(self._index.count, {"exists": {"field": field}})
        if found < wanted:
            self._stop_because(
                f"{wanted - found:,} of the documents have no latent terms in the index: the "
                f"ingest pipeline {' or '.join(self._pipelines)} takes the field {field!r} away; "
                f"change it, and ingest with --restart"
            )

    def _stop_if_too_many_fail(self) -> None:
        failed, lines = self.report.failed, self.report.lines - self.report.of_other_shards
        if why := self._failures.too_many(failed, lines, f"{self._file.unit}s", self._max_rejected):
            self._stop_because(f"{why}: correct them, or allow more with --max-rejected")

    @contextmanager
    def _stopping_on_error(self) -> Iterator[None]:
        """End the run early if the engine fails within this context."""
        try:
            yield
        except EngineError as error:
            if self.report.stopped:
                log.warning("%s", error)
            self._stop_because("interrupted" if self._interrupted else str(error))
