"""Files of a run: replaced whole, and what goes wrong with a disk said in one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from latent_ingest.connector.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file such that a reader, or a crash, sees the old or the new one, whole.

    Raises:
        OSError: it cannot be written; the old one is there.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors(path: Path, mend: str) -> Iterator[None]:
    """Within it, what cannot be written is an InputError.

    Args:
        path: that is written.
        mend: what to do about a full disk.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        if full:
            raise InputError(f"{path}: the disk is full; {mend}") from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be written: {reason}") from error
