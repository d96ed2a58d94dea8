"""The main job.

corpus file → batches of documents → latent vectors → bulk actions → requests → outcomes

Reading, encoding and indexing run at the same time, a few batches apart, so memory does not grow
with the file. After each batch the journal notes what the engine has answered for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException

from latent_ingest.connector import terms
from latent_ingest.connector.corpus import (
    DEFAULT_ID_FIELDS,
    BadLine,
    CorpusFile,
    Document,
)
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.indexing.batches import Batch, Batches
from latent_ingest.connector.indexing.bulk import (
    Action,
    Outcome,
    Unsent,
    make_action,
    requests,
    send,
)
from latent_ingest.connector.indexing.failures import FailuresFile, default_path
from latent_ingest.connector.indexing.index import index_size, merge, refresh_off
from latent_ingest.connector.indexing.journal import Progress, Run
from latent_ingest.connector.indexing.pipeline import give_back_memory, prefetch
from latent_ingest.connector.indexing.report import IngestReport
from latent_ingest.connector.seen_keys import SeenKeys

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Batches that wait between two stages.
AHEAD = 2

# Lines that may fail before a run ends early, or one in a hundred: a wrong mapping fails them all.
MAX_REJECTED = 1000

# Characters encoded together, for each token of the backbone's budget: 16 forward passes or so
# of English, so that sorting by length leaves little padding. 262,144 characters on a CPU.
CHARACTERS_A_BUDGET_TOKEN = 64


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
            run: of a journal, which notes what is done and may have been cut before; without it
                the file is ingested from its beginning.
            warn: called with lines the user should see at once.

        Raises:
            InputError: the file cannot be opened.
        """
        self._client = client
        self._index = index
        self._encoder = encoder
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
        self.report = IngestReport()

    @property
    def file_bytes(self) -> int | None:
        """Size of the corpus file; none for standard input."""
        return self._file.size

    def stop(self) -> None:
        """End after the request in flight; what was indexed stays. Safe from a signal handler."""
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
            EngineError: the engine cannot be asked at the start or at the end.
            InputError: the failures file or the journal cannot be written, or the lines that an
                interrupted run had done are not those of the file.
        """
        seen = SeenKeys()
        if self._run:
            self._go_on(self._run, seen, on_progress)
        report = self.report
        started = time.monotonic() - report.seconds
        encoded = prefetch(self._encode(prefetch(self._batches.read(), AHEAD)), AHEAD)
        try:
            with self._file, refresh_off(self._client, self._index, self._warn):
                for batch in self._until_broken(encoded):
                    self._count(batch)
                    self._stop_when_too_many_fail()
                    for request in requests(batch.actions):
                        self._send(request, seen)
                        self._stop_when_too_many_fail()
                        report.seconds = time.monotonic() - started
                        on_progress(report, batch.position)
                    if self._stop.is_set() or report.stopped:
                        break
                    self._note(batch)
                if self._stop.is_set():
                    report.stopped = report.stopped or "interrupted"
                encoded.close()
        finally:
            encoded.close()
            self._failures.close()
            seen.close()
        self._finish(started)
        if self._run:
            self._run.end(report.stopped)
        return report

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
        report = IngestReport(**done.report)
        self._warn(f"{self._file.name}: going on after line {done.lines:,}, done before")
        for number, document in enumerate(self._batches.skip(done.lines, done.digest), start=1):
            if isinstance(document, Document) and document.line not in run.rejected:
                seen.add([document.id])
            if not number % 10_000:
                on_progress(report, self._file.position)
        if report.failures_file:
            self._failures.resume(Path(report.failures_file), done.failures_bytes)
        self.report = report
        self.report.resumed_after = done.lines

    def _note(self, batch: Batch) -> None:
        if not self._run:
            return
        if self._failures.path is not None:
            self.report.failures_file = str(self._failures.path.resolve())
        self._run.note(
            Progress(
                lines=self.report.lines,
                digest=batch.digest,
                position=batch.position,
                size=self._file.size,
                failures_bytes=self._failures.bytes,
                report=asdict(self.report),
            ),
            self._rejected,
        )
        self._rejected.clear()

    def _encode(self, batches: Generator[Batch]) -> Generator[Batch]:
        try:
            for batch in batches:
                vectors = self._encoder.encode([d.text for d in batch.documents], allow_nan=True)
                tf = terms.counts(vectors.values, self._meta.scale)
                for row, document in enumerate(batch.documents):
                    if not vectors.finite[row]:
                        reason = (
                            f"the backbone gives NaN for {document.text[:60]!r}; "
                            f"try --dtype float32"
                        )
                        batch.bad.append(BadLine(document.line, reason, document))
                        continue
                    span = slice(vectors.offsets[row], vectors.offsets[row + 1])
                    string = terms.write(vectors.indices[span], tf[span], self._meta.spelling)
                    batch.actions.append(
                        make_action(
                            document,
                            self._meta.latent_field,
                            string,
                            hash_field=self._meta.hash_field,
                            truncated=bool(vectors.truncated[row]),
                        )
                    )
                kept = {action.document.line for action in batch.actions}
                batch.documents = [d for d in batch.documents if d.line in kept]
                batch.tokens = int(vectors.n_tokens.sum())
                give_back_memory()
                yield batch
        finally:
            batches.close()

    def _until_broken(self, encoded: Generator[Batch]) -> Generator[Batch]:
        try:
            yield from encoded
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

    def _send(self, request: list[Action], seen: SeenKeys) -> None:
        report = self.report
        if report.stopped or self._stop.is_set():
            return
        try:
            outcomes = send(self._client, self._index, request)
        except Unsent as error:
            outcomes = error.outcomes
            report.stopped = error.reason
            ended = {outcome.document.line for outcome in outcomes}
            for action in request:
                if action.document.line not in ended:
                    report.not_sent += 1
                    self._failures.write(
                        BadLine(action.document.line, error.reason, action.document)
                    )
        report.lines += len(request)
        if self._merge_after and self._meta.lean and not report.indexed:
            # The hidden copies of one segment stay: a merge needs two.
            with suppress(OpenSearchException):
                self._client.indices.flush(index=self._index)
        indexed = [outcome.document for outcome in outcomes if outcome.reason is None]
        new = seen.add([document.id for document in indexed])
        report.indexed += new
        report.replaced += len(indexed) - new
        lines = {document.line for document in indexed}
        for action in request:
            if action.document.line in lines:
                report.empty += action.empty
                report.truncated += action.truncated
        for outcome in outcomes:
            if outcome.reason is not None:
                self._fail(rejection(outcome))

    def _stop_when_too_many_fail(self) -> None:
        report = self.report
        limit = self._max_rejected
        if limit is None:
            limit = max(MAX_REJECTED, report.lines // 100)
        if report.failed > limit and not report.stopped:
            report.stopped = (
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
        report = self.report
        if self._failures.path is not None:
            report.failures_file = str(self._failures.path)
        try:
            if self._merge_after and report.stopped is None:
                wait = " (it may wait a minute for the engine)" if self._meta.lean else ""
                self._warn(f"merging {self._index} to one segment a shard{wait}")
                merge(self._client, self._index, lean=self._meta.lean)
            size = index_size(self._client, self._index)
            report.documents_in_index = size.documents
            report.bytes_a_document = size.bytes_a_document
        except EngineError as error:
            if report.stopped is None:
                raise
            self._warn(str(error))
        report.seconds = time.monotonic() - started


def rejection(outcome: Outcome) -> BadLine:
    """A document the engine rejected, with its id and the engine's words."""
    document = outcome.document
    reason = f"document {document.id!r} rejected: {outcome.reason}"
    return BadLine(document.line, reason, document)
