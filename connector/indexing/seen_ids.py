"""Which ids a run has indexed, in bounded memory."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence


class SeenIds:
    """A set of ids in a temporary SQLite file, which the system removes.

    It holds 64 bits of each id: with a hundred million of them the chance that any two are
    mistaken for one is .03 %, and only a count would be off.
    """

    def __init__(self) -> None:
        # The empty name is SQLite's temporary file: pages beyond its small cache go to disk.
        self._database = sqlite3.connect("")
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE seen (key INTEGER PRIMARY KEY);"
        )

    def add(self, ids: Sequence[str]) -> int:
        """Remember ids; returns how many were new."""
        keys = ((key_of(identifier),) for identifier in ids)
        statement = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self._database.executemany(statement, keys).rowcount if ids else 0

    def close(self) -> None:
        """Drop the file."""
        self._database.close()


def key_of(identifier: str) -> int:
    """64 bits of an id, as SQLite's signed integer."""
    digest = hashlib.blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
