"""A set of strings that does not have to fit into memory."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence


class SeenKeys:
    """A set of strings in a temporary SQLite file.

    It holds 64 bits of each: among a hundred million strings, the probability that any two are
    confused is 0.03 %; then one of them is counted as seen, or left out.
    """

    def __init__(self) -> None:
        self._database = temporary_database("CREATE TABLE seen (key INTEGER PRIMARY KEY);")

    def add(self, keys: Sequence[str]) -> int:
        """Add some keys; returns how many of them are new."""
        return self.add_hashes([key_hash(key) for key in keys])

    def add_hashes(self, hashes: Sequence[int]) -> int:
        """Add some keys by their `key_hash`; returns how many of them are new."""
        rows = ((one,) for one in hashes)
        statement = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self._database.executemany(statement, rows).rowcount if hashes else 0

    def close(self) -> None:
        """Delete the file."""
        self._database.close()


def temporary_database(schema: str) -> sqlite3.Connection:
    """A temporary SQLite file, which is deleted when it is closed."""
    # The empty name is SQLite's temporary file: pages beyond its small cache go to disk.
    database = sqlite3.connect("", isolation_level=None)
    database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {schema}")
    database.execute("BEGIN")
    return database


def key_hash(key: str) -> int:
    """64 bits of a string, as SQLite's signed integer."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
