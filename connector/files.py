"""Files that are written whole or not at all, and one line for what a disk refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from latent_ingest.connector.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file by the one that the block writes at the path given, on disk at the end.

    A reader, or a crash, sees the old file or the new one, whole. The temporary file has the
    process id in its name, so that two processes may write the same file.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file by `content`; text is written in UTF-8. See `replacing`.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def disk_errors(path: Path | str, fix: str = "", *, if_full: str = "") -> Iterator[None]:
    """Turn what a disk refuses inside the block into an InputError of one line.

    `fix` says what the user can do, and `if_full`, in its place, when the disk is full.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        if full and if_full:
            raise InputError(f"{path}: the disk is full; {if_full}") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise unwritable(path, reason, fix) from error


def unwritable(path: Path | str, reason: str | None, fix: str = "") -> InputError:
    """The error for a file or folder that cannot be written, in the system's words."""
    return InputError(f"{path}: cannot be written: {reason}" + (f"; {fix}" if fix else ""))
