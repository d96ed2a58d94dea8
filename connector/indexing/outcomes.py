"""Outcomes of a run: counts and the failures file."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, TextIO

from latent_ingest.connector.document import BadLine
from latent_ingest.connector.files import unwritable
from latent_ingest.connector.indexing.actions import Action

FIX = "name another with --failures"

# Failures after which a run ends, or 1 % of what it has handled: a wrong mapping fails everything.
MAX_FAILED = 1000


@dataclass(slots=True)
class Report:
    """Counts that every run has."""

    failed: int = 0
    """Lines without a document, and documents that cannot be encoded, or that the engine or an
    ingest pipeline keeps out of the index."""
    empty: int = 0
    """Encoded documents whose text has no latents."""
    truncated: int = 0
    """Encoded documents longer than the backbone window, truncated."""
    pooled: int = 0
    """Encoded documents longer than the backbone window, pooled over several windows."""
    no_text: bool = False
    """Whether no document of the index has text, so that latent terms find nothing."""
    tokens: int = 0
    seconds: float = 0.0
    failures_file: str | None = None
    stopped: str | None = None
    """Why the run ended early; None if it did not."""

    @property
    def documents(self) -> int:
        """Documents that count for the speed."""
        raise NotImplementedError

    def count_encoded(self, actions: Sequence[Action]) -> None:
        """Count the texts without latents, and those longer than the backbone window."""
        self.empty += sum(action.empty for action in actions)
        self.truncated += sum(action.truncated for action in actions)
        self.pooled += sum(action.pooled for action in actions)

    def to_json(self) -> dict[str, Any]:
        """All counts, and documents and tokens per second."""
        seconds = max(self.seconds, 1e-9)
        return {
            **asdict(self),
            "documents_per_second": self.documents / seconds,
            "tokens_per_second": self.tokens / seconds,
        }


@dataclass(slots=True)
class IngestReport(Report):
    """Counts of an ingest.

    Always, `lines == indexed + replaced + failed + not_sent + blank + of_other_shards`.
    """

    lines: int = 0
    """Lines that were handled; if the run stops early, those before it stopped."""
    indexed: int = 0
    """Documents in the index from this run."""
    replaced: int = 0
    """Documents whose id occurs again later in the file; the last one is in the index."""
    repeated: int = 0
    """Indexed documents whose id occurs earlier in the file, if the engine makes ids: all documents
    with the id are in the index."""
    not_sent: int = 0
    """Documents that were waiting to be sent when the engine ended the run."""
    blank: int = 0
    """Empty lines."""
    of_other_shards: int = 0
    """Lines that other shards of the corpus handle."""
    chunks: int = 0
    """Indexed chunks, in an index of chunks; all other counts are documents."""
    removed_chunks: int = 0
    """Deleted chunks that their documents no longer have."""
    generated_ids: int = 0
    """Documents without an id in the file."""
    documents_in_index: int | None = None
    bytes_a_document: float | None = None
    """Bytes of all primary shards per document or chunk."""
    resumed_after: int = 0
    """Lines that an earlier, interrupted run has done; all counts include them."""

    @property
    def ok(self) -> bool:
        """Whether every document of the file is in the index."""
        return not (self.failed or self.not_sent or self.stopped or self.no_text)

    @property
    def documents(self) -> int:
        return self.indexed + self.replaced


@dataclass(slots=True)
class EnrichReport(Report):
    """Counts of an enrich. `read == up_to_date + encoded + deleted + failed + left`, always."""

    read: int = 0
    """Documents read; if the run stops early, those before it stopped."""
    up_to_date: int = 0
    """Documents that already had the latent terms of their text."""
    encoded: int = 0
    """Documents that got latent terms."""
    deleted: int = 0
    """Documents that somebody else deleted after they were read."""
    left: int = 0
    """Documents read but not updated when the run stopped."""
    conflicts: int = 0
    """Times that a document had changed after it was read, and was encoded again."""

    @property
    def ok(self) -> bool:
        """Whether every document has the latent terms of its text."""
        return not (self.failed or self.left or self.stopped or self.no_text)

    @property
    def documents(self) -> int:
        return self.read


@dataclass(slots=True)
class WatchReport(EnrichReport):
    """Counts of an index that is watched, since the command began."""

    index: str = ""
    """Name of the index."""
    writes_behind: int = 0
    """Writes to the index that have not been read, when the engine was last asked; own ones, too.
    So at least the number of documents whose latent terms may be missing or old."""
    as_of: float = 0.0
    """Unix time in seconds: all documents written before have the latent terms of their text, but
    for those that failed."""
    answered: float = 0.0
    """Unix time in seconds at which the engine was last asked and answered."""
    restarted: int = 0
    """Shards that were read from their first write again, because their history had changed."""

    @property
    def seconds_behind(self) -> float:
        """Seconds since the oldest write that may not have been read; 0 if there is none."""
        return max(0.0, time.time() - self.as_of) if self.writes_behind else 0.0

    @property
    def ok(self) -> bool:
        """Whether watching was ended on purpose, and no document failed."""
        return self.stopped == "interrupted" and not self.failed

    def to_json(self) -> dict[str, Any]:
        """All counts, and `seconds_behind`."""
        return {**asdict(self), "seconds_behind": round(self.seconds_behind, 3)}


class FailuresFile:
    """JSONL file of what failed, created with the first failure; never overwrites a file."""

    def __init__(self, wanted: Path, source: str) -> None:
        """Write nothing yet. Each line will name its `source`, unless another is given with it."""
        self._wanted = wanted
        self._source = source
        self._file: TextIO | None = None
        self._on_disk = True
        self.path: Path | None = None
        """Path of the file; None while there is no failure."""

    def resume(self, path: Path, size: int) -> bool:
        """Append to the file of an interrupted run, after its first `size` bytes.

        Later bytes belong to lines that will be done again. False if the file does not have these
        bytes, or they do not end a line: somebody has corrected or moved it. Then it stays as it
        is, and further failures go to another file.
        """
        if not size:  # the file was corrected before, and nothing has failed since
            return False
        with self._errors(path):
            try:
                with path.open("rb+") as file:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":
                        return False
                    file.truncate(size)
                self._file = path.open("a", encoding="utf-8")
            except FileNotFoundError:
                return False
        self.path = path
        return True

    def write(self, failure: BadLine, source: str | None = None) -> None:
        """Add a line, of another `source` if given; raises InputError if it cannot be written."""
        with self._errors(self.path or self._wanted):
            if self._file is None:
                self.path = unused(self._wanted)
                self._file = self.path.open("x", encoding="utf-8")
            self._file.write(failure.to_json(source or self._source) + "\n")
            self._file.flush()
            self._on_disk = False

    def save(self) -> int:
        """Sync all lines to disk; returns the length of the file in bytes, 0 if there is none."""
        if self._file is None:
            return 0
        with self._errors(self.path or self._wanted):
            if not self._on_disk:
                os.fsync(self._file.fileno())
                self._on_disk = True
            return os.fstat(self._file.fileno()).st_size

    def too_many(
        self, failed: int, handled: int, noun: str, limit: int | None = None
    ) -> str | None:
        """Why the run must end if too many of the handled lines or documents failed, else None.

        The default limit is 1,000, or 1 % of `handled` if that is more.
        """
        if limit is None:
            limit = max(MAX_FAILED, handled // 100)
        if failed <= limit:
            return None
        return f"{failed:,} {noun} failed, more than {limit:,}; {self.path} says why"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @contextmanager
    def _errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._file is not None:
                with suppress(OSError):  # closing tries again to write what did not fit
                    self._file.close()
            raise unwritable(path, error.strerror, FIX) from error


def check_writable(path: Path) -> None:
    """Raise InputError unless a failures file can be created at `path`, or next to it."""
    if not os.access(path.parent, os.W_OK):
        number = errno.EACCES if path.parent.is_dir() else errno.ENOENT
        raise unwritable(path, os.strerror(number), FIX)


def unused(path: Path) -> Path:
    """`path`, or the first of `name-2.jsonl`, `name-3.jsonl`, ... that does not exist."""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(candidate for candidate in chain([path], others) if not candidate.exists())


def default_path(corpus: str | None, index: str, shard: str | None = None) -> Path:
    """Default failures file, in the current folder: named after the corpus, else the index.

    Each `shard` has its own.
    """
    return Path(f"{corpus or index}{f'.{shard}' if shard else ''}.failed.jsonl")
