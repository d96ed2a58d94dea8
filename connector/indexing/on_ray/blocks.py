"""What travels between the processes: a batch of lines of a file, and what became of it.

file → its lines that are not done → batches of documents → actions → outcomes

Each line has a number that says where it is: the number of its file times a power of two, plus its
place in the file. So files are read in any order, at the same time, and yet the last of several
documents with the same id wins, since its version is the greatest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.corpus_file import Line
from latent_ingest.connector.document import DEFAULT_TEXT_FIELDS, BadLine
from latent_ingest.connector.document_text import missing
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.actions import LINES_PER_RUN
from latent_ingest.connector.indexing.batches import Batch, Batches


@dataclass(frozen=True, slots=True)
class Done:
    """Lines of a file that the engine has answered for."""

    after: int
    """Number of the line before the first."""
    last: int
    """Number of the last line."""
    digest: str
    """BLAKE2b of these lines."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to read, without the lines that are done."""

    number: int
    """Number of the file, from 0."""
    path: str
    reading: Reading
    id_fields: Sequence[str]
    meta: IndexMeta
    characters: int
    """Characters of text in a batch."""
    room: int
    """Numbers of lines that each file has."""
    done: Sequence[Done] = ()
    """In the order of the file."""

    @property
    def start(self) -> int:
        """Number before that of the first line."""
        return self.number * self.room


@dataclass(slots=True)
class FileBatch:
    """A batch of lines of one file."""

    file: int
    after: int
    batch: Batch
    digest: str = ""
    last: int = 0
    notes: list[str] = field(default_factory=list)
    """Warnings about the fields of the first documents."""
    ended: bool = False
    """Whether the file ends here."""
    left: bool = False
    """Whether it was not encoded, since the run is to end."""
    problem: str | None = None
    """Why the run must end."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to encode."""
        return not self.batch.documents


@dataclass(slots=True)
class BlockOutcome:
    """What became of a batch: all that the driver counts and notes."""

    file: int
    after: int
    last: int
    digest: str
    position: int
    """Bytes of the file that were read."""
    lines: int = 0
    blank: int = 0
    tokens: int = 0
    indexed: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Hashes (`key_hash`) of the ids that the engine has indexed, in the order of the lines."""
    empty: int = 0
    truncated: int = 0
    pooled: int = 0
    chunks: int = 0
    generated: int = 0
    lost_id: bool = False
    failures: list[BadLine] = field(default_factory=list)
    not_sent: int = 0
    why_not: str | None = None
    notes: list[str] = field(default_factory=list)
    ended: bool = False
    problem: str | None = None


def room_of(files: int) -> int:
    """Numbers of lines for each of so many files."""
    return LINES_PER_RUN >> max(1, files).bit_length()


class Segments:
    """The lines of a file, a stretch between two that are done at a time."""

    def __init__(self, task: FileTask, lines: Iterator[Line]) -> None:
        self._task = task
        self._lines = lines
        self._held: Line | None = None
        self._digest = hashlib.blake2b(digest_size=16)
        self.last = task.start
        """Number of the last line that was given or skipped."""

    def next(self) -> Line | None:
        """The next line of the file; None at its end."""
        line, self._held = self._held or next(self._lines, None), None
        return line

    def until(self, number: int | None) -> Iterator[Line]:
        """Lines up to this number."""
        most = self._task.start + self._task.room
        while line := self.next():
            if number is not None and line.number > number:
                self._held = line
                return
            if line.number >= most:
                raise InputError(
                    f"{self._task.path}: more than {self._task.room - 1:,} lines, too many for one "
                    f"of so many files; split it"
                )
            self._digest.update(line.content + b"\n")
            self.last = line.number
            yield line

    def digest(self) -> str:
        """Digest of the lines since it was asked for."""
        found, self._digest = self._digest.hexdigest(), hashlib.blake2b(digest_size=16)
        return found

    def skip(self, done: Done) -> None:
        """Leave out lines that are done; raises InputError if they are others now."""
        for _ in self.until(done.last):
            pass
        if self.digest() != done.digest or self.last != done.last:
            raise InputError(
                f"{self._task.path}: lines that were ingested before have changed; give the same "
                f"file, or start again with --restart"
            )


def read_file(task: FileTask) -> Generator[FileBatch]:
    """The batches of a file; the last says so, or what is wrong with the file."""
    after, first = task.start, True
    try:
        corpus = Corpus(task.path, task.reading, first=task.start)
        with corpus:
            segments = Segments(task, iter(corpus))
            for done in (*task.done, None):
                lines = segments.until(done.after if done else None)
                batches = Batches(corpus, task.id_fields, task.meta, task.characters, lines=lines)
                for batch in batches.read():
                    if not batch.lines:
                        continue
                    found = FileBatch(task.number, after, batch, segments.digest(), segments.last)
                    if first and task.number == 0:
                        found.notes = notes(batch, task)
                    after, first = segments.last, False
                    yield found
                if done:
                    segments.skip(done)
                    after = done.last
            end = Batch(position=corpus.size or 0)
        yield FileBatch(task.number, after, end, last=after, ended=True)
    except InputError as error:
        yield FileBatch(task.number, after, Batch(), last=after, problem=str(error))


def notes(batch: Batch, task: FileTask) -> list[str]:
    """Warnings about fields that none of the first documents has."""
    wanted, changes = task.meta.text_fields, task.reading.changes
    fields = [document.fields for document in batch.documents]
    chosen = tuple(wanted) != DEFAULT_TEXT_FIELDS
    unseen = changes.unseen() if changes else ()
    return [*missing(fields, wanted, chosen=chosen), *unseen] if fields else []
