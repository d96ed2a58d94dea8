"""The folder of a report: made, and what prevents writing to it said in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latent_ingest.connector.errors import InputError


def make_folder(path: Path) -> None:
    """Make a folder, and see that it can be written to; raises InputError."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        trial = path / ".trial"
        trial.touch()
        trial.unlink()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what prevents writing to a folder into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--out {folder}: cannot be written: {error.strerror or error}; name a folder that "
            f"can be"
        ) from error
