"""What became of the lines of a corpus file.

The file of lines that failed, to be corrected and fed back in.

Which keys were there before, in bounded memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

from latent_ingest.connector.corpus import BadLine, is_pipe
from latent_ingest.connector.files import unwritable

FIX = "name another with --failures"


@dataclass(slots=True)
class IngestReport:
    """Counts of a run. `lines == indexed + replaced + failed + not_sent + blank`, always."""

    lines: int = 0
    """Lines that were handled; where a run stops early, those before that place."""
    indexed: int = 0
    """Documents in the index from this run."""
    replaced: int = 0
    """Documents whose id came again later in the file; the last one is in the index."""
    repeated: int = 0
    """Indexed documents whose id came before in the file, where the engine makes ids: all of one id
    are in the index."""
    failed: int = 0
    """Lines that are no document, and documents that the engine rejected."""
    not_sent: int = 0
    """Documents in the hands of the run when it was stopped by the engine."""
    blank: int = 0
    """Lines with nothing on them."""
    empty: int = 0
    """Indexed documents whose text gives no latents."""
    truncated: int = 0
    """Indexed documents longer than the backbone's window, cut there."""
    pooled: int = 0
    """Indexed documents longer than the backbone's window, pooled over several."""
    chunks: int = 0
    """Chunks that were indexed, in an index of chunks; all other counts are of documents."""
    removed_chunks: int = 0
    """Chunks of before that their documents no longer have."""
    generated_ids: int = 0
    """Documents whose line had no id."""
    tokens: int = 0
    seconds: float = 0.0
    documents_in_index: int | None = None
    bytes_a_document: float | None = None
    """Size of the whole index, primaries, over its documents, which may be chunks."""
    failures_file: str | None = None
    resumed_after: int = 0
    """Lines that an earlier, interrupted run had done; all counts include them."""
    stopped: str | None = None
    """Why the run ended before the file did; none when it did not."""

    @property
    def ok(self) -> bool:
        """Whether every document of the file is in the index."""
        return not (self.failed or self.not_sent or self.stopped)

    def to_json(self) -> dict[str, Any]:
        """All counts, and the rates."""
        seconds = max(self.seconds, 1e-9)
        return {
            **asdict(self),
            "documents_per_second": (self.indexed + self.replaced) / seconds,
            "tokens_per_second": self.tokens / seconds,
        }


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
            raise unwritable(path, error.strerror) from error
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
        raise unwritable(self.path or self._wanted, error.strerror, FIX) from error


def check_place(path: Path) -> None:
    """Raise InputError where no file can be made at `path`; it may be there already."""
    if not os.access(path.parent, os.W_OK):
        number = errno.EACCES if path.parent.is_dir() else errno.ENOENT
        raise unwritable(path, os.strerror(number), FIX)


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


class SeenKeys:
    """A set of strings in a temporary SQLite file, which the system removes.

    It holds 64 bits of each: with a hundred million of them the chance that any two are
    mistaken for one is .03 %, and then one is counted, or left out, too few.
    """

    def __init__(self) -> None:
        # The empty name is SQLite's temporary file: pages beyond its small cache go to disk.
        self._database = sqlite3.connect("")
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE seen (key INTEGER PRIMARY KEY);"
        )

    def add(self, keys: Sequence[str]) -> int:
        """Remember some; returns how many were new."""
        rows = ((number_of(key),) for key in keys)
        statement = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self._database.executemany(statement, rows).rowcount if keys else 0

    def close(self) -> None:
        """Drop the file."""
        self._database.close()


def number_of(key: str) -> int:
    """64 bits of a string, as SQLite's signed integer."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
