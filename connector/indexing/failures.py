"""The file of lines that failed, to be corrected and fed back in."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from latent_ingest.connector.corpus import BadLine
from latent_ingest.connector.errors import InputError


class FailuresFile:
    """Made with the first failure; an older file is never overwritten."""

    def __init__(self, wanted: Path, source: str) -> None:
        self._wanted = wanted
        self._source = source
        self._file: TextIO | None = None
        self.path: Path | None = None
        """Where it is; none while there is no failure."""

    def resume(self, path: Path, size: int) -> None:
        """Go on in the file of an interrupted run, after its first `size` bytes.

        What it has beyond them is of lines that will be done again.
        """
        try:
            if path.exists():
                self.path = path
                self._file = path.open("a", encoding="utf-8")
                if self.bytes > size:
                    self._file.truncate(size)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error

    @property
    def bytes(self) -> int:
        """Length of the file."""
        return self.path.stat().st_size if self.path and self.path.exists() else 0

    def write(self, failure: BadLine) -> None:
        """Add a line; raises InputError when the file cannot be written."""
        try:
            if self._file is None:
                self.path = unused(self._wanted)
                self._file = self.path.open("x", encoding="utf-8")
            self._file.write(failure.to_json(self._source) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written: {error.strerror}; name another with --failures"
            ) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def unused(path: Path) -> Path:
    """`path`, or the first of `name-2.jsonl`, `name-3.jsonl` ... that is not there."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def default_path(corpus: str, index: str) -> Path:
    """In the current folder: `<corpus>.failed.jsonl`, or of the index for standard input."""
    if corpus == "-":
        return Path(f"{index}.failed.jsonl")
    name = Path(corpus).name.removesuffix(".gz").removesuffix(".jsonl")
    return Path(f"{name}.failed.jsonl")
