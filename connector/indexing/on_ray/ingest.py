"""An ingest whose reading, encoding and sending Ray does; the driver counts and notes.

files → read tasks → actors that encode → write tasks → outcomes → journal, failures file, counts

The driver reads no document. It notes each batch once, whichever process sent it, and however
often. If Ray loses a process for good, the driver has the lines that are not noted read again; if
the driver is killed, the same command does.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.guard import Loading
from latent_ingest.connector.index.pipelines import say_pipelines
from latent_ingest.connector.indexing.batches import fill
from latent_ingest.connector.indexing.ingest import Ingest, OnProgress
from latent_ingest.connector.indexing.journal import Run
from latent_ingest.connector.indexing.journal_records import Block
from latent_ingest.connector.indexing.on_ray.blocks import BlockOutcome, Done, FileTask, room_of
from latent_ingest.connector.indexing.on_ray.passes import Passes
from latent_ingest.connector.indexing.on_ray.settings import IO_CPUS, OnRay, Pool
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.prefetch import in_background
from latent_ingest.connector.seen_keys import SeenKeys

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)

# Seconds between two looks at the outcomes.
POLL_SECONDS = 0.2

# The collector is started again if its process is killed, wherever there is room.
ALWAYS_THERE = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}


class RayIngest(Ingest):
    """One run over a corpus, on Ray."""

    def __init__(
        self,
        *arguments: Any,
        on: OnRay,
        pool: Pool,
        load: Callable[[], LatentEncoder],
        **named: Any,
    ) -> None:
        """Prepare as `Ingest` does, on Ray that was started; `load` gives an encoder its model."""
        super().__init__(*arguments, **named)
        self._on = on
        self._load_model = load
        self._pool = pool
        self._room = room_of(len(self._file.files))
        self._file.number_apart(self._room)
        self._done: dict[int, dict[int, Done]] = defaultdict(dict)
        self._ended: set[int] = set()
        self._lasts: dict[int, int] = {}  # file → number of its last line
        self._positions: dict[int, int] = {}
        self._unsent: list[BlockOutcome] = []
        self._latest = 0

    def _resume(self, run: Run, seen: SeenKeys, on_progress: OnProgress) -> None:
        """Continue the counts; the readers check the lines that an interrupted run has done."""
        done = run.resumed
        if done is None:
            return
        self.report = IngestReport(**{**done.report, "resumed_after": done.lines})
        unit = self._file.unit
        log.info("%s: resuming after %s", self._file.name, f"{done.lines:,} {unit}s")
        for block in run.blocks():
            self._done[block.file][block.after] = Done(block.after, block.last, block.digest)
            seen.add_hashes(block.keys.tolist())
        self._resume_failures(done)
        on_progress(self.report, 0)

    def _load(self, seen: SeenKeys, started: float, on_progress: OnProgress) -> None:
        self._pipelines = self._retry.ask(say_pipelines, self._index)
        loading = Loading(self._index, self._file.name, self._retry)
        runs = self._retry.ask(self._index.meta).runs
        target = loading.begin()
        try:
            self._keep_number(loading.number, runs)
            self._passes(target, loading.index.name, seen, started, on_progress)
            if self._interrupted:
                self._stop_because("interrupted")
            for outcome in self._unsent:
                self._count_block(outcome, seen)
        except BaseException:
            self._stop_because("failed")
            raise
        finally:
            with self._stopping_on_error():
                loading.end()

    def _keep_number(self, number: int, runs: int) -> None:
        """Choose the number of the run in the versions of documents: that of its first execution.

        Lines are not done in the order of the files, so those that are left may come before lines
        with the same ids that are done, and must not replace them. `runs` is the number of the
        latest run into the index before this execution, which has `number`.
        """
        done = self._run.resumed if self._run else None
        self._number, self._latest = done.number if done else number, number
        if done is None:
            return
        if runs > done.latest:
            raise InputError(
                f"{self._file.name}: another run has loaded index {self._index.name} since this "
                f"one was interrupted, so its documents cannot be put in order; start again with "
                f"--restart"
            )
        # At once, since the next execution compares this number.
        self._note_progress("", sum(self._positions.values()))

    def _passes(
        self,
        target: dict[str, Any],
        index: str,
        seen: SeenKeys,
        started: float,
        on_progress: OnProgress,
    ) -> None:
        """Have Ray read what is not done, again if it lost some of it."""
        passes = Passes(self.report.lines)
        while not self._stop.is_set() and (tasks := self._tasks()):
            error = self._pass(tasks, target, index, seen, started, on_progress)
            if self._stop.is_set() or not self._tasks():
                return
            self._stop_because(passes.why_end(error, self.report.lines))

    def _tasks(self) -> list[FileTask]:
        """The files that are not done, without the lines that are."""
        characters = self._pool.characters(self._encoder)
        return [
            FileTask(
                number=number,
                path=path,
                reading=self._file.reading,
                id_fields=self._batches.id_fields,
                meta=self._meta,
                characters=characters,
                room=self._room,
                done=sorted(self._done[number].values(), key=lambda done: done.after),
            )
            for number, path in enumerate(self._file.full_paths)
            if number not in self._ended
        ]

    def _pass(
        self,
        tasks: list[FileTask],
        target: dict[str, Any],
        index: str,
        seen: SeenKeys,
        started: float,
        on_progress: OnProgress,
    ) -> BaseException | None:
        """Have Ray do some files; returns the error with which it ended."""
        import ray

        from latent_ingest.connector.indexing.on_ray.stages import Collector

        collector: Any = ray.remote(Collector).options(**ALWAYS_THERE).remote()
        ended = threading.Event()

        def work() -> None:
            try:
                self._write(tasks, target, index, collector)
            finally:
                ended.set()

        future = in_background(work)
        try:
            last = False
            while not last:
                last = ended.wait(POLL_SECONDS)
                for pickled in ray.get(collector.take.remote(self._stop.is_set())):
                    self._settle_block(pickle.loads(pickled), seen)
                self.report.seconds = time.monotonic() - started
                on_progress(self.report, sum(self._positions.values()))
            self._find_ended()
        finally:
            ray.kill(collector)
        return future.exception()

    def _write(
        self, tasks: list[FileTask], target: dict[str, Any], index: str, collector: Any
    ) -> None:
        """Run the stages to their end."""
        import ray.data

        from latent_ingest.connector.indexing.on_ray.stages import (
            CorpusSource,
            EngineSink,
            encode,
            prepare_data,
        )

        prepare_data()
        sink = EngineSink(
            self._on.connection,
            target,
            index,
            collector,
            concurrency=self._concurrency,
            give_up_after=self._retry.give_up_after,
        )
        # Readers and writers are faster than encoders; each takes a process.
        at_once = max(2, self._pool.encoders)
        read = ray.data.read_datasource(
            CorpusSource(tasks, collector),
            num_cpus=IO_CPUS,
            concurrency=min(at_once, len(tasks)),
            override_num_blocks=len(tasks),
        )
        filling = partial(fill, run=self._number)
        arguments = (self._load_model, self._meta, filling, collector)
        encoded = encode(read, self._pool, *arguments)
        each = {"num_cpus": IO_CPUS}
        encoded.write_datasink(sink, ray_remote_args=each, concurrency=at_once)

    def _settle_block(self, outcome: BlockOutcome, seen: SeenKeys) -> None:
        """Count an outcome and note it, unless that was done before."""
        if outcome.problem:
            self._stop_because(outcome.problem)
        elif outcome.ended:
            self._lasts[outcome.file] = outcome.last
        elif outcome.not_sent:
            self._stop_because("interrupted" if self._interrupted else outcome.why_not)
            self._unsent.append(outcome)
        elif outcome.after not in self._done[outcome.file]:
            self._count_block(outcome, seen)
            done = Done(outcome.after, outcome.last, outcome.digest)
            self._done[outcome.file][outcome.after] = done
            self._note_block(outcome)

    def _count_block(self, outcome: BlockOutcome, seen: SeenKeys) -> None:
        report = self.report
        report.lines += outcome.lines
        report.blank += outcome.blank
        report.tokens += outcome.tokens
        report.not_sent += outcome.not_sent
        new = seen.add_hashes(outcome.indexed.tolist())
        report.indexed += new
        report.replaced += len(outcome.indexed) - new
        report.empty += outcome.empty
        report.truncated += outcome.truncated
        report.pooled += outcome.pooled
        if self._meta.long == "chunks":
            report.chunks += outcome.chunks
        if outcome.generated:
            self._say_generated(outcome.generated)
        if outcome.lost_id:
            self._say_lost_id()
        for text in outcome.notes:
            log.warning("%s: %s", self._file.name, text)
        for failure in outcome.failures:
            self._fail(failure)
        self._stop_if_too_many_fail()

    def _note_block(self, outcome: BlockOutcome) -> None:
        """Note in the journal that all lines of a batch are done."""
        before = self._positions.get(outcome.file, 0)
        self._positions[outcome.file] = max(before, outcome.position)
        block = Block(outcome.file, outcome.after, outcome.last, outcome.digest, outcome.indexed)
        self._note_progress("", sum(self._positions.values()), block)

    def _numbers(self) -> dict[str, Any]:
        return {"number": self._number, "latest": self._latest}

    def _find_ended(self) -> None:
        """Find the files whose lines are all done, from the first to the last without a gap."""
        for number, last in self._lasts.items():
            reached = number * self._room
            while done := self._done[number].get(reached):
                reached = done.last
            if reached == last:
                self._ended.add(number)
