"""The main job.

corpus file → batches of documents → latent vectors → bulk actions → requests → outcomes

Reading, encoding and sending run at the same time, a few batches apart, so memory does not grow
with the file. Batches are settled in the file's order, whatever order requests end in; after each
the journal notes what the engine has answered for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException

from latent_ingest.connector.corpus import (
    DEFAULT_ID_FIELDS,
    BadLine,
    CorpusFile,
    Document,
)
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER, Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.guard import Loading
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.actions import Action, ActionMaker
from latent_ingest.connector.indexing.batches import Batch, Batches
from latent_ingest.connector.indexing.chunks import remove_stale
from latent_ingest.connector.indexing.journal import Progress, Run
from latent_ingest.connector.indexing.outcomes import (
    FailuresFile,
    IngestReport,
    SeenKeys,
    default_path,
)
from latent_ingest.connector.indexing.sender import CONCURRENCY, Outcome, Sender, requests
from latent_ingest.connector.prefetch import give_back_memory, prefetch

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Batches that wait between two stages.
AHEAD = 2

# Lines that may fail before a run ends early, or one in a hundred: a wrong mapping fails them all.
MAX_REJECTED = 1000

# Characters encoded together, for each token of the backbone's budget: 16 forward passes or so
# of English, so that sorting by length leaves little padding. 262,144 characters on a CPU.
CHARACTERS_A_BUDGET_TOKEN = 64

# A batch, and its requests with what will become of them.
Sent = tuple[Batch, list[tuple[list[Action], Future[list[Outcome]]]]]


class Ingest:
    """One run over one corpus file."""

    def __init__(
        self,
        client: OpenSearch,
        index: str,
        encoder: LatentEncoder,
        meta: IndexMeta,
        corpus: str | Path,
        *,
        id_fields: Sequence[str] = DEFAULT_ID_FIELDS,
        failures: Path | None = None,
        merge_after: bool = False,
        max_rejected: int | None = None,
        concurrency: int = CONCURRENCY,
        give_up_after: float = GIVE_UP_AFTER,
        run: Run | None = None,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Prepare a run into an index that `open_index` made or checked.

        Args:
            client: of the engine.
            index: its name.
            encoder: the model.
            meta: what `open_index` returned.
            corpus: path of a JSONL file, plain or .gz, or "-" for standard input.
            id_fields: where a document's id is; the first that is there counts.
            failures: file for lines that fail; by default beside the current folder's files.
            merge_after: merge to one segment a shard at the end.
            max_rejected: lines that may fail before the run ends early; by default 1,000, or one
                in a hundred where that is more.
            concurrency: requests at once, at most; fewer while the engine is too busy.
            give_up_after: seconds of refusals and silence after which the run ends.
            run: of a journal, which notes what is done and may have been cut before; without it
                the file is ingested from its beginning.
            warn: called with lines the user should see at once.

        Raises:
            InputError: the file cannot be opened.
        """
        self._client = client
        self._index = index
        self._maker = ActionMaker(encoder, meta)
        self._meta = meta
        self._file = CorpusFile(corpus)
        self._batches = Batches(
            self._file,
            id_fields,
            meta,
            CHARACTERS_A_BUDGET_TOKEN * encoder.backbone.token_budget,
        )
        self._failures = FailuresFile(failures or default_path(str(corpus), index), self._file.name)
        self._merge_after = merge_after
        self._max_rejected = max_rejected
        self._run = run
        self._rejected: list[int] = []
        self._warn = warn
        self._stop = threading.Event()
        self._interrupted = False
        self._concurrency = concurrency
        self._retry = Retry(client, give_up_after=give_up_after, ended=self._stop)
        self.report = IngestReport()

    @property
    def file_bytes(self) -> int | None:
        """Size of the corpus file; none for standard input."""
        return self._file.size

    def stop(self) -> None:
        """End after the requests in flight; what was indexed stays. Safe from a signal handler."""
        self._interrupted = True
        self._stop.set()

    def run(
        self, on_progress: Callable[[IngestReport, int], None] = lambda report, position: None
    ) -> IngestReport:
        """Index the file.

        Args:
            on_progress: called after each request with the counts so far and the bytes of the
                file that are done.

        Returns:
            The counts. A file that breaks off, an engine that goes away and `stop` end the run
            early, with the reason in `stopped`; nothing that was indexed is lost.

        Raises:
            EngineError: the engine cannot be asked at the start.
            InputError: the failures file or the journal cannot be written, or the lines that an
                interrupted run had done are not those of the file.
        """
        with self._file, closing(self._failures), closing(SeenKeys()) as seen:
            if self._run:
                self._go_on(self._run, seen, on_progress)
            started = time.monotonic() - self.report.seconds
            if not self.report.stopped:
                self._load(seen, started, on_progress)
        self._finish(started)
        if self._run:
            self._run.end(self.report.stopped)
        return self.report

    def _load(
        self, seen: SeenKeys, started: float, on_progress: Callable[[IngestReport, int], None]
    ) -> None:
        """Index the lines that are not done, as a run of its own number.

        A run that goes on takes another number than before it was cut: what it sends, from lines
        that may have been edited since, replaces what was under way then.
        """
        loading = Loading(Index(self._client, self._index), self._file.name, self._retry)
        target = loading.begin()
        sender = Sender(self._client, target, self._retry, self._concurrency)
        batches = prefetch(self._batches.read(), AHEAD)
        encoded = prefetch(self._encode(batches, loading.number), AHEAD)
        sent = prefetch(self._submit(encoded, sender), AHEAD)
        try:
            self._settle_all(sent, seen, started, on_progress)
        except BaseException:
            self._stop_because("failed")
            raise
        finally:
            sent.close()
            sender.close()
            self._end(loading)

    def _submit(self, encoded: Generator[Batch], sender: Sender) -> Generator[Sent]:
        try:
            for batch in encoded:
                yield (
                    batch,
                    [(request, sender.submit(request)) for request in requests(batch.actions)],
                )
                if self._stop.is_set():
                    return
        finally:
            encoded.close()

    def _settle_all(
        self,
        sent: Generator[Sent],
        seen: SeenKeys,
        started: float,
        on_progress: Callable[[IngestReport, int], None],
    ) -> None:
        """Count what became of each batch, in the file's order, and note it in the journal."""
        report = self.report
        for batch, answers in self._until_broken(sent):
            self._count(batch)
            self._stop_when_too_many_fail()
            for request, answer in answers:
                if report.stopped:
                    return
                self._settle(request, answer.result(), seen)
                self._stop_when_too_many_fail()
                report.seconds = time.monotonic() - started
                on_progress(report, batch.position)
            if report.stopped:
                return
            self._note(batch)
        if self._interrupted:
            self._stop_because("interrupted")

    def _stop_because(self, reason: str) -> None:
        """The run ends early, for the first reason that is given."""
        self.report.stopped = self.report.stopped or reason
        self._stop.set()

    def _end(self, loading: Loading) -> None:
        try:
            loading.end()
        except EngineError as error:
            if self.report.stopped:
                self._warn(str(error))
            self._stop_because(str(error))

    def _go_on(
        self,
        run: Run,
        seen: SeenKeys,
        on_progress: Callable[[IngestReport, int], None],
    ) -> None:
        """Check the lines that an interrupted run had done, and take over its counts."""
        done = run.resumed
        if done is None:
            return
        report = self.report = IngestReport(**{**done.report, "resumed_after": done.lines})
        self._warn(f"{self._file.name}: going on after line {done.lines:,}, done before")
        for number, document in enumerate(self._batches.skip(done.lines, done.digest), start=1):
            if self._interrupted:
                self._stop_because("interrupted")
                break
            if isinstance(document, Document) and document.line not in run.rejected:
                seen.add([document.id])
            if not number % 10_000:
                on_progress(report, self._file.position)
        before = Path(report.failures_file) if report.failures_file else None
        if before and not self._failures.resume(before, done.failures_bytes):
            self._warn(f"{before} is not as it was left: what fails from now on goes to another")

    def _note(self, batch: Batch) -> None:
        if not self._run:
            return
        failures_bytes = self._failures.save()
        if self._failures.path is not None:
            self.report.failures_file = str(self._failures.path.resolve())
        self._run.note(
            Progress(
                lines=self.report.lines,
                digest=batch.digest,
                position=batch.position,
                size=self._file.size,
                failures_bytes=failures_bytes,
                report=asdict(self.report),
            ),
            self._rejected,
        )
        self._rejected.clear()

    def _encode(self, batches: Generator[Batch], number: int) -> Generator[Batch]:
        try:
            for batch in batches:
                if self._stop.is_set():
                    return
                self._maker.fill(batch, number)
                give_back_memory()
                yield batch
        finally:
            batches.close()

    def _until_broken(self, sent: Generator[Sent]) -> Generator[Sent]:
        try:
            yield from sent
        except InputError as error:  # the file breaks off; what came before it is good
            self.report.stopped = str(error)

    def _count(self, batch: Batch) -> None:
        report = self.report
        report.blank += batch.blank
        report.tokens += batch.tokens
        for failure in batch.bad:
            self._fail(failure)
        generated = sum(document.generated for document in batch.documents)
        if generated and not report.generated_ids:
            fields = " or ".join(map(repr, self._batches.id_fields))
            self._warn(
                f"some documents have no id (field {fields}): each gets one made of its content, "
                f"the same every time"
            )
        report.generated_ids += generated
        report.lines += batch.lines - len(batch.documents)

    def _settle(self, request: list[Action], outcomes: list[Outcome], seen: SeenKeys) -> None:
        """Count the outcomes of a request's documents."""
        report = self.report
        unsent = [outcome for outcome in outcomes if not outcome.sent]
        if unsent:
            self._stop_because("interrupted" if self._interrupted else str(unsent[0].reason))
            if self._interrupted and len(unsent) == len(outcomes):
                return
        report.lines += len(request)
        report.not_sent += len(unsent)
        if self._merge_after and self._meta.lean and not report.indexed:
            # The hidden copies of one segment stay: a merge needs two.
            with suppress(OpenSearchException):
                self._client.indices.flush(index=self._index)
        indexed = [
            action
            for action, outcome in zip(request, outcomes, strict=True)
            if outcome.reason is None
        ]
        new = seen.add([action.document.id for action in indexed])
        report.indexed += new
        if self._meta.id_field:
            report.indexed += len(indexed) - new
            report.repeated += len(indexed) - new
        else:
            report.replaced += len(indexed) - new
        report.empty += sum(action.empty for action in indexed)
        report.truncated += sum(action.truncated for action in indexed)
        report.pooled += sum(action.pooled for action in indexed)
        if self._meta.long == "chunks":
            report.chunks += sum(action.items for action in indexed)
        for outcome in outcomes:
            if outcome.sent and outcome.reason is not None:
                self._fail(rejection(outcome))

    def _stop_when_too_many_fail(self) -> None:
        report = self.report
        limit = self._max_rejected
        if limit is None:
            limit = max(MAX_REJECTED, report.lines // 100)
        if report.failed > limit:
            self._stop_because(
                f"{report.failed:,} lines failed, more than {limit:,}; {self._failures.path} says "
                f"why: mend them, or allow more with --max-rejected"
            )

    def _fail(self, failure: BadLine) -> None:
        if not self.report.failed:
            self._warn(f"{self._file.name}: line {failure.line}: {failure.reason}")
        if isinstance(failure.content, Document):
            self._rejected.append(failure.line)
        self.report.failed += 1
        self._failures.write(failure)

    def _finish(self, started: float) -> None:
        report, index = self.report, Index(self._client, self._index)
        if self._failures.path is not None:
            report.failures_file = str(self._failures.path)
        try:
            if self._meta.long == "chunks" and report.stopped is None:
                size = self._retry.ask(index.size)
                if report.replaced or size.documents != report.chunks:
                    report.removed_chunks += remove_stale(self._client, self._index, self._retry)
            if self._merge_after and report.stopped is None:
                wait = " (it may wait a minute for the engine)" if self._meta.lean else ""
                self._warn(f"merging {self._index} to one segment a shard{wait}")
                self._retry.ask(index.merge, lean=self._meta.lean)
            size = self._retry.ask(index.size)
            report.documents_in_index = size.documents
            # Serverless collections do not tell their size.
            report.bytes_a_document = size.bytes_per_document or None
        except EngineError as error:
            if report.stopped:
                self._warn(str(error))
            self._stop_because(str(error))
        report.seconds = time.monotonic() - started


def rejection(outcome: Outcome) -> BadLine:
    """A document the engine rejected, with its id and the engine's words."""
    document = outcome.document
    reason = f"document {document.id!r} rejected: {outcome.reason}"
    return BadLine(document.line, reason, document)
