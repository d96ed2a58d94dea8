"""The file of lines that failed, to be corrected and fed back in."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TextIO

from latent_ingest.connector.corpus import BadLine, is_pipe
from latent_ingest.connector.errors import InputError


class FailuresFile:
    """Made with the first failure; an older file is never overwritten."""

    def __init__(self, wanted: Path, source: str) -> None:
        """Nothing is written yet.

        Args:
            wanted: where it is to be; a number is added while there is such a file.
            source: what the lines are of, for whoever reads them.
        """
        self._wanted = wanted
        self._source = source
        self._file: TextIO | None = None
        self._on_disk = True
        self.path: Path | None = None
        """Where it is; none while there is no failure."""

    def resume(self, path: Path, size: int) -> bool:
        """Go on in the file of an interrupted run, after its first `size` bytes.

        What it has beyond them is of lines that will be done again.

        Returns:
            Whether they are there and end a line. Otherwise somebody has mended or moved the file:
            it stays as it is, and what fails from now on goes to another.
        """
        if not size:  # it was mended before, and nothing has failed since
            return False
        try:
            with path.open("rb+") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    return False
                file.truncate(size)
            self._file = path.open("a", encoding="utf-8")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        self.path = path
        return True

    def write(self, failure: BadLine) -> None:
        """Add a line; raises InputError when the file cannot be written."""
        try:
            if self._file is None:
                self.path = unused(self._wanted)
                self._file = self.path.open("x", encoding="utf-8")
            self._file.write(failure.to_json(self._source) + "\n")
            self._file.flush()
            self._on_disk = False
        except OSError as error:
            self._fail(error)

    def save(self) -> int:
        """Put all lines on disk, for the journal; returns the length of the file.

        Raises:
            InputError: when the file cannot be written.
        """
        if self._file is None:
            return 0
        try:
            if not self._on_disk:
                os.fsync(self._file.fileno())
                self._on_disk = True
            return os.fstat(self._file.fileno()).st_size
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _fail(self, error: OSError) -> NoReturn:
        if self._file is not None:
            with suppress(OSError):  # it tries to write again what did not fit
                self._file.close()
        raise InputError(unwritable(self.path or self._wanted, error.strerror)) from error


def check_place(path: Path) -> None:
    """Raise InputError where no file can be made at `path`; it may be there already."""
    if not os.access(path.parent, os.W_OK):
        number = errno.EACCES if path.parent.is_dir() else errno.ENOENT
        raise InputError(unwritable(path, os.strerror(number)))


def unwritable(path: Path, reason: str | None) -> str:
    """One line on a file that lines cannot go to."""
    return f"{path}: cannot be written: {reason}; name another with --failures"


def unused(path: Path) -> Path:
    """`path`, or the first of `name-2.jsonl`, `name-3.jsonl` ... that is not there."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def default_path(corpus: str, index: str) -> Path:
    """In the current folder: `<corpus>.failed.jsonl`, or of the index for a pipe."""
    if is_pipe(corpus):
        return Path(f"{index}.failed.jsonl")
    name = Path(corpus).name.removesuffix(".gz").removesuffix(".jsonl")
    return Path(f"{name}.failed.jsonl")
