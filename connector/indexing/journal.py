"""What the engine has acknowledged, run by run, so that the same command goes on where it was.

One SQLite file for all runs of a user. A run is written after each batch that the engine has
answered for; what came after that is done again, which changes nothing, since ids are the same.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing.outcomes import IngestReport

VERSION = 1

SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    corpus TEXT NOT NULL,
    index_name TEXT NOT NULL,
    index_uuid TEXT NOT NULL,
    settings TEXT NOT NULL,
    command TEXT NOT NULL,
    started REAL NOT NULL,
    updated REAL NOT NULL,
    state TEXT NOT NULL,
    progress TEXT NOT NULL,
    UNIQUE (corpus, index_uuid)
);
CREATE TABLE rejected (
    run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    line INTEGER NOT NULL,
    PRIMARY KEY (run, line)
) WITHOUT ROWID;
"""

RUNNING, DONE = "running", "done"


@dataclass(frozen=True, slots=True)
class RunKey:
    """What makes two commands the same run."""

    corpus: str
    """Absolute path, or "-" for standard input."""
    index: str
    index_uuid: str
    """The engine's own: an index that was deleted and made again is another."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What must be the same to go on."""
    command: str = ""
    """That goes on with it, for people."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    lines: int = 0
    """Lines at the beginning of the file that are done."""
    digest: str = ""
    """Of those lines; see `Batch.digest`."""
    position: int = 0
    """Bytes of the file they take, compressed as it is."""
    size: int | None = None
    """Bytes of the file."""
    failures_bytes: int = 0
    """Length of the failures file."""
    report: dict[str, Any] = field(default_factory=lambda: asdict(IngestReport()))
    """Counts."""

    @classmethod
    def of(cls, stored: str) -> Progress:
        """What a journal has of it, which may be an older one with more in it.

        Raises:
            sqlite3.DatabaseError: it is damaged, where SQLite does not notice it.
        """
        known = {field.name for field in fields(cls)}
        try:
            content = json.loads(stored)
            return cls(**{name: value for name, value in content.items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise sqlite3.DatabaseError(f"a run in it is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as `latent-ingest runs` shows it."""

    corpus: str
    index: str
    command: str
    started: float
    """Seconds since 1970."""
    updated: float
    state: str
    """"running", "done", "interrupted", or why it stopped."""
    progress: Progress


class Journal:
    """The file of runs."""

    def __init__(self, path: Path | None = None) -> None:
        """Open or make it.

        Args:
            path: by default in the user's folder for the state of programs.

        Raises:
            InputError: it cannot be written, is damaged, or is of a newer version.
        """
        self.path = path or default_journal()
        with self.errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA foreign_keys = ON")
            with self.transaction():
                ((version,),) = self._database.execute("PRAGMA user_version")
                if version == 0:
                    for statement in SCHEMA.split(";"):
                        self._database.execute(statement)
                    self._database.execute(f"PRAGMA user_version = {VERSION}")
        if version > VERSION:
            raise InputError(
                f"{self.path}: journal of a newer version ({version}, this is {VERSION}); "
                f"upgrade latent-ingest, or name another with --journal"
            )

    def open(
        self,
        key: RunKey,
        *,
        restart: bool = False,
        reopen: bool = False,
        once: str | None = None,
    ) -> Run:
        """Begin a run, or go on with the one that was cut.

        Args:
            key: which.
            restart: from the beginning in any case.
            reopen: go on also with one that was not cut, after its last line.
            once: why it must not begin a second time, where it must not.

        Raises:
            InputError: another process is at it, it was begun with other settings, or it must not
                begin again.
        """
        lock = self._lock(key)
        try:
            with self.errors(), self.transaction():
                row = self._database.execute(
                    "SELECT id, settings, state, progress FROM run WHERE corpus = ? "
                    "AND index_uuid = ?",
                    (key.corpus, key.index_uuid),
                ).fetchone()
                if row and not restart and (reopen or row[2] != DONE):
                    check_settings(key, json.loads(row[1]))
                    progress = Progress.of(row[3])
                    if progress.lines:
                        self._database.execute(
                            "UPDATE run SET command = ? WHERE id = ?", (key.command, row[0])
                        )
                        return Run(self, row[0], lock, progress)
                if once and (row or restart):
                    raise InputError(once)
                if row:
                    self._database.execute("DELETE FROM run WHERE id = ?", (row[0],))
                now = time.time()
                cursor = self._database.execute(
                    "INSERT INTO run (corpus, index_name, index_uuid, settings, command, started, "
                    "updated, state, progress) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        key.corpus,
                        key.index,
                        key.index_uuid,
                        json.dumps(key.settings),
                        key.command,
                        now,
                        now,
                        RUNNING,
                        json.dumps(asdict(Progress())),
                    ),
                )
                assert cursor.lastrowid is not None
                return Run(self, cursor.lastrowid, lock, None)
        except BaseException:
            lock.close()
            raise

    def runs(self) -> list[RunRecord]:
        """All runs, the latest first."""
        with self.errors():
            rows = self._database.execute(
                "SELECT corpus, index_name, index_uuid, command, started, updated, state, "
                "progress FROM run ORDER BY updated DESC"
            ).fetchall()
            records = []
            for corpus, index, uuid, command, started, updated, state, stored in rows:
                if state == RUNNING and not self._locked(corpus, uuid):
                    state = "interrupted"
                progress = Progress.of(stored)
                records.append(RunRecord(corpus, index, command, started, updated, state, progress))
        return records

    def knows(self, corpus: str, index_uuid: str) -> bool:
        """Whether there is a run of this corpus into this index."""
        return corpus in self._corpora(index_uuid)

    def running(self, index_uuid: str) -> bool:
        """Whether a process is ingesting into this index now."""
        return any(self._locked(corpus, index_uuid) for corpus in self._corpora(index_uuid))

    def _corpora(self, index_uuid: str) -> list[str]:
        with self.errors():
            rows = self._database.execute(
                "SELECT corpus FROM run WHERE index_uuid = ?", (index_uuid,)
            )
            return [corpus for (corpus,) in rows]

    def rejected(self, run: int) -> set[int]:
        """Lines of a run whose documents the engine rejected."""
        with self.errors():
            rows = self._database.execute("SELECT line FROM rejected WHERE run = ?", (run,))
            return {line for (line,) in rows}

    def write(self, run: int, progress: Progress, rejected: Sequence[int], state: str) -> None:
        """Replace what is known of a run; on disk when this returns."""
        with self.errors(), self.transaction():
            self._database.execute(
                "UPDATE run SET progress = ?, state = ?, updated = ? WHERE id = ?",
                (json.dumps(asdict(progress)), state, time.time(), run),
            )
            self._database.executemany(
                "INSERT OR IGNORE INTO rejected VALUES (?, ?)", [(run, line) for line in rejected]
            )

    def close(self) -> None:
        self._database.close()

    def _lock(self, key: RunKey) -> sqlite3.Connection:
        """Held while a run lasts; the system lets go of it when the process ends."""
        # Longer than `runs` takes to see whether it is held.
        lock = self._connect_lock(key.corpus, key.index_uuid, timeout=2)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            raise InputError(
                f"{key.corpus} is being ingested into {key.index} by another process; wait for "
                f"it, or stop it"
            ) from error
        return lock

    def _locked(self, corpus: str, uuid: str) -> bool:
        lock = self._connect_lock(corpus, uuid)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return True
        finally:
            lock.close()
        return False

    def _connect_lock(self, corpus: str, uuid: str, timeout: float = 0) -> sqlite3.Connection:
        name = hashlib.sha256(f"{corpus}\n{uuid}".encode()).hexdigest()[:16]
        folder = self.path.with_name(self.path.name + ".locks")
        with self.errors():
            folder.mkdir(exist_ok=True)
            return sqlite3.connect(folder / name, timeout=timeout, isolation_level=None)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # SQLite has rolled back by itself on a full disk
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """SQLite's errors in words."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            hints = {
                "full": "make room and give the same command again",
                "readonly": "name another with --journal",
                "unable to open": "name another with --journal",
                "locked": "give the same command again",
            }
            hint = next(
                (hints[word] for word in hints if word in str(error)),
                "move it away to begin a new one",
            )
            raise InputError(f"{self.path}: the journal fails: {error}; {hint}") from error
        except OSError as error:
            raise InputError(
                f"{self.path}: the journal cannot be written: {error.strerror}; name another "
                f"with --journal"
            ) from error


class Run:
    """One run, held by this process until it is closed."""

    def __init__(
        self, journal: Journal, number: int, lock: sqlite3.Connection, resumed: Progress | None
    ) -> None:
        self._journal = journal
        self._number = number
        self._lock = lock
        self._progress = resumed or Progress()
        self.resumed = resumed
        """Where it was cut; none when it begins."""
        self.rejected = journal.rejected(number) if resumed else set()
        """Lines that the engine rejected before the cut."""

    def note(self, progress: Progress, rejected: Sequence[int] = ()) -> None:
        """The engine has answered for all documents up to here."""
        self._progress = progress
        self._journal.write(self._number, progress, rejected, RUNNING)

    def end(self, reason: str | None) -> None:
        """The run ends: done, or why it stopped."""
        self._journal.write(self._number, self._progress, (), reason or DONE)

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()


def check_settings(key: RunKey, before: dict[str, Any]) -> None:
    """Raise InputError where a run was begun with other settings."""
    for name, value in key.settings.items():
        if before.get(name) != value:
            raise InputError(
                f"{key.corpus}: the interrupted run had {name} {before.get(name)!r}, this one has "
                f"{value!r}; go on with that, or begin again with --restart"
            )


def default_journal() -> Path:
    """In the user's folder for the state of programs."""
    return platformdirs.user_state_path("latent-ingest") / "journal.sqlite"
