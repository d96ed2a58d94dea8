"""A corpus: one or more files whose documents are read one after the other.

files → the documents of each, numbered over all files → lines
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latent_ingest.connector.corpus import remote
from latent_ingest.connector.corpus.finding import Sources, find_files, listed, piped, short_name
from latent_ingest.connector.corpus.formats import find_format, read
from latent_ingest.connector.corpus.reading import DOCUMENTS, PLACES, Reading
from latent_ingest.connector.corpus_file import CODEC_ERRORS, CorpusFile, Line
from latent_ingest.connector.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document is."""

    file: str
    unit: str
    """"line", "row" or "item"."""
    number: int
    """Counted from 1 in its file."""
    alone: bool
    """Whether the corpus is this file."""

    def __str__(self) -> str:
        return f"{self.file}: {self.unit} {self.number}"

    @property
    def short(self) -> str:
        """Without the file if the corpus is this file."""
        return f"{self.unit} {self.number}" if self.alone else str(self)


class Corpus:
    """Files to read; iterate over their lines, if they are not a pipe, as often as needed.

    Lines are numbered over all files, in their order: greater numbers come later.

    Iterating raises InputError if a file is broken; the lines before that are good.
    """

    def __init__(self, sources: Sources, reading: Reading | None = None, *, first: int = 0) -> None:
        """Find the files and look at the start of each.

        Lines are numbered from `first` + 1.

        Raises:
            InputError: a file cannot be read, or is of another format than the others.
        """
        paths = listed(sources)
        self.reading = reading or Reading()
        self._first = first
        self.files = find_files(paths)
        self.name = "standard input" if paths == ["-"] else paths[0]
        if len(paths) > 1:
            self.name = f"{paths[0]} and {len(paths) - 1} more"
        self.short_name = short_name(paths)
        """Its name without folder and endings; None if it is a pipe or several paths."""
        self.size: int | None = 0
        """Size of all files in bytes, compressed or not; None for pipes."""
        self.lines_read = 0
        self._piped = piped(paths)
        self._ended = 0
        self._starts: list[int] = []
        self._current: CorpusFile | None = None
        self.format = self._look()
        self.unit = DOCUMENTS[self.format]
        """What a document is in the files: "line", "row", "item" or "action"."""
        if len(self.files) > 1:
            log.info(
                "%s: %d files, from %s to %s; of documents with the same id, the last counts",
                self.name,
                len(self.files),
                self.files[0],
                self.files[-1],
            )

    def _look(self) -> str:
        """The format of all files; adds up their sizes, and leaves a pipe open."""
        formats: dict[str, str] = {}
        for path in self.files:
            file = self._current = open_file(path)
            try:
                formats.setdefault(find_format(file, self.reading), path)
                self.size = (
                    None if self.size is None or file.size is None else self.size + file.size
                )
            finally:
                if not self._piped:
                    self._current = None
                    file.__exit__()
        if len(formats) > 1:
            (kind, path), (other, another), *_ = formats.items()
            raise InputError(
                f"{self.name}: files of different kinds: {path} is {kind}, {another} is {other}; "
                f"name files of one kind, by a pattern such as 'FOLDER/*.csv'"
            )
        return next(iter(formats))

    @property
    def full_paths(self) -> list[str]:
        """The files, each with its folder, so that they are found from other folders, too."""
        return [
            path if remote.is_remote(path) else str(Path(path).resolve()) for path in self.files
        ]

    def number_apart(self, lines: int) -> None:
        """Have `place` take lines as numbered as if each file had so many."""
        self._starts = [number * lines for number in range(len(self.files))]

    @property
    def position(self) -> int:
        """Bytes of the files read so far; 0 for pipes."""
        return self._ended + (self._current.position if self._current else 0)

    def place(self, number: int) -> Place:
        """Where a line is that was read, by its number."""
        part = max(bisect_right(self._starts, number - 1) - 1, 0)
        start = self._starts[part] if self._starts else 0
        path = self.files[part]
        name = "standard input" if path == "-" else path
        return Place(name, PLACES[self.format], number - start, len(self.files) == 1)

    def __iter__(self) -> Iterator[Line]:
        start, documents, most = self._first, 0, self.reading.sample
        self.lines_read, self._ended, self._starts = 0, 0, []
        for path in self.files:
            self._starts.append(start)
            number = 0
            file = self._open(path)
            try:
                for line in self._read(file):
                    number = line.number
                    self.lines_read += 1
                    yield Line(start + number, line.content, line.problem) if start else line
                    if most is not None:
                        documents += bool(line.problem or line.content.strip())
                        if documents == most:
                            return
            finally:
                if self._current is file:  # not closed meanwhile
                    self._close(file)
            start += number

    def _open(self, path: str) -> CorpusFile:
        if not self._piped:
            self._current = open_file(path)
        assert self._current is not None
        return self._current

    def _read(self, file: CorpusFile) -> Iterator[Line]:
        number = 0
        try:
            for line in read(file, self.format, self.reading):
                number = line.number
                yield line
        except CODEC_ERRORS as error:
            last = f"{PLACES[self.format]} {number}"
            raise InputError(
                f"{file.name}: broken after {last}: {error}; what is before it was read, fetch the "
                f"file again for the rest"
            ) from error

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._close(self._current)

    def _close(self, file: CorpusFile) -> None:
        self._ended += file.position
        self._current = None
        file.__exit__()


def open_file(path: str) -> CorpusFile:
    """Open a file, of this machine or remote."""
    return remote.open_file(path) if remote.is_remote(path) else CorpusFile(path)
