"""The journal: what the engine has acknowledged, so that an interrupted run resumes.

One SQLite file holds all runs of a user. It is written after each batch that the engine has
answered for; later batches are sent again, which changes nothing, since ids are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing.journal_records import Block, Progress, RunKey, RunRecord

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

# Batches that are done, of runs that do not go through their files in order. Journals of older
# versions get the table, too.
BLOCKS = """
CREATE TABLE IF NOT EXISTS block (
    run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    file INTEGER NOT NULL,
    after INTEGER NOT NULL,
    last INTEGER NOT NULL,
    digest TEXT NOT NULL,
    keys BLOB NOT NULL,
    PRIMARY KEY (run, file, after)
) WITHOUT ROWID
"""

RUNNING, DONE = "running", "done"

# Fixes for SQLite's errors, by a word of its message.
HINTS = {
    "full": "free disk space and repeat the command",
    "readonly": "name another with --journal",
    "unable to open": "name another with --journal",
    "locked": "give the same command again",
}


class Journal:
    """The journal of all runs of a user."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, or create it.

        By default it is the file that LATENT_INGEST_JOURNAL names, or one in the user's state
        folder.

        Raises InputError, as all methods, if the file cannot be written, is damaged, or is of a
        newer version.
        """
        folder = platformdirs.user_state_path("latent-ingest")
        named = os.environ.get("LATENT_INGEST_JOURNAL")
        self.path = path or Path(named or folder / "journal.sqlite")
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
                if version <= VERSION:
                    self._database.execute(BLOCKS)
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
        """Start a run, or resume it if it was interrupted.

        `restart` starts from the beginning in any case; `reopen` also resumes a finished run, after
        its last line; `once` says why the run must not start a second time. Raises InputError also
        if another process has the run, or it was started with other settings.
        """
        # The timeout is longer than `runs` takes to test the lock.
        lock = self._lock(key.corpus, key.index_uuid, timeout=2)
        if lock is None:
            raise InputError(
                f"{key.corpus} is being ingested into {key.index} by another process; wait for "
                f"it, or stop it"
            )
        try:
            with self.errors(), self.transaction():
                row = self._database.execute(
                    "SELECT id, settings, state, progress FROM run WHERE corpus = ? "
                    "AND index_uuid = ?",
                    (key.corpus, key.index_uuid),
                ).fetchone()
                if row and not restart and (reopen or row[2] != DONE):
                    check_settings(key, json.loads(row[1]))
                    resumed = Progress.of(row[3])
                    if resumed.lines:
                        update = "UPDATE run SET command = ? WHERE id = ?"
                        self._database.execute(update, (key.command, row[0]))
                        return Run(self, row[0], lock, resumed)
                if once and (row or restart):
                    raise InputError(once)
                if row:
                    self._database.execute("DELETE FROM run WHERE id = ?", (row[0],))
                settings, progress = json.dumps(key.settings), json.dumps(asdict(Progress()))
                identity = (key.corpus, key.index, key.index_uuid, settings, key.command)
                number = self._database.execute(
                    "INSERT INTO run (corpus, index_name, index_uuid, settings, command, started, "
                    "updated, state, progress) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*identity, time.time(), time.time(), RUNNING, progress),
                ).lastrowid
                assert number is not None
                return Run(self, number, lock, None)
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
        """Whether this corpus was ingested into this index, or has started to be."""
        return corpus in self._corpora(index_uuid)

    def running(self, index_uuid: str) -> bool:
        """Whether a process is ingesting into this index now."""
        return any(self._locked(corpus, index_uuid) for corpus in self._corpora(index_uuid))

    def _corpora(self, index_uuid: str) -> list[str]:
        return self._column("SELECT corpus FROM run WHERE index_uuid = ?", index_uuid)

    def rejected(self, run: int) -> set[int]:
        """Lines of a run whose documents the engine rejected."""
        return set(self._column("SELECT line FROM rejected WHERE run = ?", run))

    def _column(self, query: str, parameter: object) -> list[Any]:
        with self.errors():
            return [value for (value,) in self._database.execute(query, (parameter,))]

    def blocks(self, run: int) -> Iterator[Block]:
        """The blocks of a run that are done, in the order of their files and lines."""
        query = "SELECT file, after, last, digest, keys FROM block WHERE run = ? ORDER BY 1, 2"
        with self.errors():
            for file, after, last, digest, keys in self._database.execute(query, (run,)):
                yield Block(file, after, last, digest, np.frombuffer(keys, np.int64))

    def write(
        self,
        run: int,
        progress: Progress,
        rejected: Sequence[int],
        state: str,
        block: Block | None = None,
    ) -> None:
        """Replace the progress and state of a run; they are on disk when this returns."""
        with self.errors(), self.transaction():
            self._database.execute(
                "UPDATE run SET progress = ?, state = ?, updated = ? WHERE id = ?",
                (json.dumps(asdict(progress)), state, time.time(), run),
            )
            self._database.executemany(
                "INSERT OR IGNORE INTO rejected VALUES (?, ?)", [(run, line) for line in rejected]
            )
            if block:
                numbers = (run, block.file, block.after, block.last, block.digest)
                self._database.execute(
                    "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?, ?)",
                    (*numbers, block.keys.tobytes()),
                )

    def close(self) -> None:
        self._database.close()

    def _locked(self, corpus: str, uuid: str) -> bool:
        lock = self._lock(corpus, uuid)
        if lock:
            lock.close()
        return lock is None

    def _lock(self, corpus: str, uuid: str, timeout: float = 0) -> sqlite3.Connection | None:
        """Lock a run until the connection is closed or the process ends; None if it is locked."""
        name = hashlib.sha256(f"{corpus}\n{uuid}".encode()).hexdigest()[:16]
        folder = self.path.with_name(self.path.name + ".locks")
        with self.errors():
            folder.mkdir(exist_ok=True)
            lock = sqlite3.connect(folder / name, timeout=timeout, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            lock.close()
            return None
        return lock

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A context whose changes are made together or not at all."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # on a full disk, SQLite has rolled back itself
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """A context that turns SQLite's errors into InputError."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            hints = [hint for word, hint in HINTS.items() if word in str(error)]
            hint = hints[0] if hints else "move it away to start a new one"
            raise InputError(f"{self.path}: the journal fails: {error}; {hint}") from error
        except OSError as error:
            raise InputError(
                f"{self.path}: the journal cannot be written: {error.strerror}; name another "
                f"with --journal"
            ) from error


class Run:
    """One run, locked by this process until it is closed."""

    def __init__(
        self, journal: Journal, number: int, lock: sqlite3.Connection, resumed: Progress | None
    ) -> None:
        self._journal = journal
        self._number = number
        self._lock = lock
        self._progress = resumed or Progress()
        self.resumed = resumed
        """Progress at the interruption; None if the run starts from the beginning."""
        self.rejected = journal.rejected(number) if resumed else set()
        """Numbers of lines that the engine rejected before the interruption."""

    def note(
        self, progress: Progress, rejected: Sequence[int] = (), block: Block | None = None
    ) -> None:
        """Note that the engine has answered for all documents up to here, or for a block."""
        self._progress = progress
        self._journal.write(self._number, progress, rejected, RUNNING, block)

    def blocks(self) -> Iterator[Block]:
        """The blocks that were done before the interruption."""
        return self._journal.blocks(self._number)

    def end(self, reason: str | None) -> None:
        """Note that the run has ended, with the reason if it stopped early."""
        self._journal.write(self._number, self._progress, (), reason or DONE)

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def check_settings(key: RunKey, before: dict[str, Any]) -> None:
    """Raise InputError if the run was started with other settings."""
    for name, value in key.settings.items():
        if before.get(name) != value:
            raise InputError(
                f"{key.corpus}: the interrupted run had {name} {before.get(name)!r}, this one has "
                f"{value!r}; use the former, or start again with --restart"
            )
