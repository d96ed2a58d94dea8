"""A folder for the documents that are being added to an index, by one of several processes.

Its path names the run in the index: see `Guard`. So it is the same for the next process, which then
removes what a killed one left there and in the index. A lock tells whether a process lives.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.guard import Guard
from latent_ingest.connector.index.index import Index

# Calls of one user that run at once; further ones have folders that differ each time, and if they
# are killed, nobody knows their guard aliases.
PLACES = 16

DOCUMENTS, FAILURES = "documents.jsonl", "failed.jsonl"


@contextmanager
def spool(index: Index, retry: Retry) -> Iterator[Path]:
    """A folder of this call's own; it is empty before and after.

    Raises:
        EngineError: what killed processes left in the index cannot be removed.
    """
    with ExitStack() as stack:
        base = folder_of_user()
        places = [] if base is None else [base / str(number) for number in range(PLACES)]
        for place in places:
            if taken(place, stack):
                with ExitStack() as others:
                    remove_left(index, [one for one in places if one != place], retry, others)
                place.mkdir(mode=0o700, exist_ok=True)
                stack.callback(emptied, place)
                emptied(place)
                yield place
                return
        yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latent-ingest-")))


def taken(place: Path, stack: ExitStack) -> bool:
    """Whether nobody else has the place; it is held until the stack ends."""
    try:
        stack.enter_context(FileLock(f"{place}.lock", timeout=0, mode=0o600))
    except (Timeout, OSError):
        return False
    return True


def remove_left(index: Index, places: list[Path], retry: Retry, held: ExitStack) -> None:
    """Remove the guard aliases that killed processes left, and their files, of free places."""
    if not Guard(index, "", retry).numbers():
        return
    for place in places:
        if taken(place, held):
            emptied(place)
            Guard(index, str((place / DOCUMENTS).resolve()), retry).remove_left()


def emptied(place: Path) -> None:
    """Delete the files of a place."""
    for name in (DOCUMENTS, FAILURES):
        (place / name).unlink(missing_ok=True)


def folder_of_user() -> Path | None:
    """The folder of all places of this user; None if it cannot be had to ourselves."""
    try:
        folder = Path(tempfile.gettempdir()) / f"latent-ingest-{getpass.getuser()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except (OSError, KeyError, ImportError):  # a user without a name, a full or read-only disk
        return None
    # Anybody may make a folder of that name in a common temporary folder.
    ours = os.name == "nt" or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    return folder if ours and folder.is_dir() and not folder.is_symlink() else None
