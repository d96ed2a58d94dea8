"""A comparison of files with an index by tasks of Ray: one a file, then one a shard of the index.

files → ids and the last line of each → all of them, on every machine
      → comparison of the lines of each file → documents of each shard that no file has → report
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.corpus.corpus import Place
from latent_ingest.connector.corpus.finding import Sources
from latent_ingest.connector.corpus.reading import PLACES, Reading
from latent_ingest.connector.document import DEFAULT_ID_FIELDS
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError, LatentIngestError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.indexing.on_ray.blocks import room_of
from latent_ingest.connector.indexing.on_ray.passes import failure, reason_of
from latent_ingest.connector.indexing.on_ray.settings import OnRay, client_of, joined
from latent_ingest.connector.indexing.verify import Verification, VerifyReport
from latent_ingest.connector.seen_keys import key_hash

# Times that Ray starts a task again whose process or machine was lost.
RETRIES = 10

# Tasks that wait for a core or run; so the driver of many files does not have to hold all.
AT_ONCE = 1000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lines:
    """The ids of some lines, and the last line of each."""

    keys: NDArray[np.int64]
    """Hashes (`key_hash`) of the ids, in ascending order, each once."""
    lines: NDArray[np.int64]
    """Numbers of their last lines."""

    @classmethod
    def of(cls, keys: NDArray[np.int64], lines: NDArray[np.int64]) -> Lines:
        """From the ids of lines in ascending order, some of them several times."""
        found, last = np.unique(keys[::-1], return_index=True)
        return cls(found, lines[::-1][last])

    def row(self, identifier: str) -> int | None:
        """Row of an id; None if no line has it."""
        key = key_hash(identifier)
        row = int(np.searchsorted(self.keys, key))
        return row if row < len(self.keys) and self.keys[row] == key else None


@dataclass(frozen=True, slots=True)
class Part:
    """A file to compare, as a worker finds it."""

    on: OnRay
    index: str
    """Own name of the index."""
    path: str
    name: str
    """The path as the user gave it."""
    alone: bool
    """Whether the corpus is this file."""
    start: int
    """Number before that of the first line."""
    reading: Reading
    id_fields: Sequence[str]


@dataclass(slots=True)
class Answer:
    """What a task has found."""

    bytes: int = 0
    """Bytes of the file that were read."""
    lines: Lines | None = None
    report: VerifyReport = field(default_factory=VerifyReport)
    chunks: NDArray[np.int64] | None = None
    """Rows of documents in `Lines`, and the numbers of their chunks in the index."""
    problem: LatentIngestError | None = None


class RayVerification(Verification):
    """One comparison of a corpus with an index, on Ray; the report is that of `Verification`."""

    def __init__(
        self,
        index: Index,
        corpus: Sources,
        *,
        on: OnRay,
        reading: Reading | None = None,
        id_fields: Sequence[str] = DEFAULT_ID_FIELDS,
    ) -> None:
        """Prepare as `Verification` does; nothing is asked of Ray yet.

        Also raises InputError if the files are compared with a sample, or the engine makes the ids.
        """
        super().__init__(index, corpus, reading=reading, id_fields=id_fields)
        for given, why in (
            (self._reading.sample, "--sample reads the files in order; leave out one of the two"),
            (self._meta.id_field, f"the engine makes the ids of {index.name}; leave out --on ray"),
        ):
            if given:
                raise InputError(f"--on ray: {why}")
        self._on = on
        self._room = room_of(len(self._corpus.files))
        self._corpus.number_apart(self._room)

    def run(self, on_progress: Callable[[int], None] = lambda position: None) -> VerifyReport:
        """As `Verification.run`; `on_progress` is called after each file, which is read twice."""
        done = 0

        def show(answer: Answer) -> None:
            nonlocal done
            done += answer.bytes
            on_progress(done)

        with joined(self._on), engine_errors(self._index.client):
            import ray

            self._index.refresh()
            self._say_pipelines()
            parts = self._parts()
            noted = [answer.lines for answer in self._done(last_lines, parts, (), show)]
            found = [lines for lines in noted if lines is not None]
            every = Lines.of(
                np.concatenate([lines.keys for lines in found]),
                np.concatenate([lines.lines for lines in found]),
            )
            shared = ray.put(every)
            chunks = np.zeros(len(every.keys) if self._meta.long == "chunks" else 0, np.int64)
            for answer in self._done(compared, parts, (shared,), show):
                self.report.extend(answer.report)
                if answer.chunks is not None:
                    chunks[answer.chunks[0]] = answer.chunks[1]
            shards = range(ExistingIndex.read(self._index.client, self._index.name).shards)
            tasks = [(self._on, self._index.name, shard) for shard in shards]
            for answer in self._done(extra, tasks, (shared, ray.put(chunks)), show):
                self.report.extend(answer.report)
        self._last.close()
        return self.report

    def _parts(self) -> list[Part]:
        corpus = self._corpus
        return [
            Part(
                on=self._on,
                index=self._index.name,
                path=path,
                name=name,
                alone=len(corpus.files) == 1,
                start=number * self._room,
                reading=self._reading,
                id_fields=self._id_fields,
            )
            for number, (path, name) in enumerate(zip(corpus.full_paths, corpus.files, strict=True))
        ]

    def _done(
        self,
        task: Callable[..., Answer],
        parts: Sequence[Any],
        shared: Sequence[Any],
        show: Callable[[Answer], None],
    ) -> Iterator[Answer]:
        """The answers of a task for each part, in the order of the parts.

        Raises what a task could not do, and LatentIngestError if Ray has lost a task.
        """
        import ray

        remote: Any = ray.remote(task).options(num_cpus=1, max_retries=RETRIES)
        started: list[Any] = []
        for number in range(len(parts)):
            while len(started) < min(number + AT_ONCE, len(parts)):
                started.append(remote.remote(parts[len(started)], *shared))
            try:
                answer: Answer = ray.get(started[number])
            except ray.exceptions.RayError as error:
                raise LatentIngestError(failure(reason_of(error))) from error
            started[number] = None  # so Ray may forget the answer
            if answer.problem:
                raise answer.problem
            show(answer)
            yield answer


class FileComparison(Verification):
    """The comparison of one file in a worker."""

    def __init__(self, part: Part, every: Lines | None = None) -> None:
        """Open the file; `every` has the ids of all files, once they are known."""
        index = Index(client_of(part.on.connection), part.index)
        reading, names = part.reading, part.id_fields
        super().__init__(index, part.path, reading=reading, id_fields=names, first=part.start)
        self._part = part
        self._every = every
        self._chunks: list[tuple[int, int]] = []

    def last_lines(self) -> Answer:
        """The ids of the file, and the last line of each."""
        keys, lines = [], []
        for document, _ in self._documents(lambda position: None, 0):
            keys.append(key_hash(document.id))
            lines.append(document.line)
        found = Lines.of(np.array(keys, np.int64), np.array(lines, np.int64))
        return Answer(bytes=self._corpus.position, lines=found)

    def compared(self) -> Answer:
        """The comparison of its lines."""
        with engine_errors(self._index.client):
            self._compare_documents(lambda position: None)
        chunks = np.array(self._chunks, np.int64).reshape(-1, 2).T if self._chunks else None
        return Answer(bytes=self._corpus.position, report=self.report, chunks=chunks)

    def _place(self, number: int) -> str:
        part = self._part
        kind = PLACES[self._corpus.format]
        return Place(part.name, kind, number - part.start, part.alone).short

    def _noted(self, column: str, identifier: str) -> int | None:
        assert self._every is not None
        assert column == "line"
        row = self._every.row(identifier)
        return None if row is None else int(self._every.lines[row])

    def _note_chunks(self, identifier: str, chunks: int) -> None:
        row = self._every.row(identifier) if self._every else None
        if row is not None:
            self._chunks.append((row, chunks))


class ShardComparison(Verification):
    """The documents of one shard that no file has, found in a worker."""

    def __init__(self, index: Index, every: Lines, chunks: NDArray[np.int64]) -> None:
        """Ask for the index meta; `chunks` has the number of chunks of each row of `every`."""
        self._read_index(index)
        self.report = VerifyReport()
        self._every = every
        self._chunks = chunks

    def extra(self, shard: int) -> Answer:
        """Those of a shard."""
        with engine_errors(self._index.client):
            self._find_extra(shard)
        return Answer(report=self.report)

    def _noted(self, column: str, identifier: str) -> int | None:
        row = self._every.row(identifier)
        found = self._every.lines if column == "line" else self._chunks
        return None if row is None else int(found[row])


def last_lines(part: Part) -> Answer:
    """Read a file for the first time."""
    return told(lambda: FileComparison(part).last_lines())


def compared(part: Part, every: Lines) -> Answer:
    """Read a file again, and compare its lines."""
    return told(lambda: FileComparison(part, every).compared())


def extra(task: tuple[OnRay, str, int], every: Lines, chunks: NDArray[np.int64]) -> Answer:
    """Read the ids of a shard."""
    on, name, shard = task
    return told(
        lambda: ShardComparison(Index(client_of(on.connection), name), every, chunks).extra(shard)
    )


def told(call: Callable[[], Answer]) -> Answer:
    """What a call returns, or the error that it raises."""
    try:
        return call()
    except LatentIngestError as error:
        return Answer(problem=error)
