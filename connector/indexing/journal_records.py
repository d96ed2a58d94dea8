"""What the journal records of a run."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.indexing.outcomes import IngestReport


@dataclass(frozen=True, slots=True)
class RunKey:
    """Identity of a run: two commands with the same corpus and index are the same run."""

    corpus: str
    """Absolute path of the corpus file, "-" for standard input, "index:NAME" of an enrich, or
    "watch:NAME"."""
    index: str
    index_uuid: str
    """UUID of the index: it changes if the index is deleted and created again."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that must be the same to resume the run."""
    command: str = ""
    """Command that resumes the run, for people."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run."""

    lines: int = 0
    """Lines at the start of the file that are done."""
    digest: str = ""
    """Digest of those lines; see `Batch.digest`."""
    position: int = 0
    """Bytes of those lines in the file, which may be compressed."""
    size: int | None = None
    """Size of the file in bytes; None for a pipe."""
    failures_bytes: int = 0
    """Length of the failures file in bytes."""
    report: dict[str, Any] = field(default_factory=lambda: asdict(IngestReport()))
    """Counts, as in `IngestReport`."""
    number: int = 0
    """Number of the run in the versions of its documents, if a resumed run keeps it."""
    latest: int = 0
    """Number of the last execution of such a run, in the index."""
    watch: dict[str, Any] = field(default_factory=dict)
    """How far an index that is watched has been read; see `watching.follower.Follower`."""

    @classmethod
    def of(cls, stored: str) -> Progress:
        """Progress as stored in a journal; unknown keys of older journals are ignored.

        Raises DatabaseError if it is damaged, which SQLite does not notice.
        """
        known = {field.name for field in fields(cls)}
        try:
            content = json.loads(stored)
            return cls(**{name: value for name, value in content.items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise sqlite3.DatabaseError(f"a run in it is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of a file that are done, of a run that does not go through its files in order."""

    file: int
    """Number of the file, from 0."""
    after: int
    """Number of the line before the first."""
    last: int
    """Number of the last line."""
    digest: str
    """Digest of the lines."""
    keys: NDArray[np.int64]
    """Hashes of the ids that were indexed; see `SeenKeys.add_hashes`."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run, as shown by `latent-ingest runs`."""

    corpus: str
    index: str
    command: str
    started: float
    """Unix time in seconds, like `updated`."""
    updated: float
    state: str
    """"running", "done", "interrupted", or why the run stopped."""
    progress: Progress
