"""Which keys were there before, in bounded memory."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence


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
