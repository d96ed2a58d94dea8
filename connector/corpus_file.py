"""Corpus files: plain, compressed or from standard input, opened for reading.

Read line by line and never as a whole. Files that do not hold a document per line are read by
`connector/corpus`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from latent_ingest.connector.errors import InputError

# Part of the standard library since Python 3.14; before that in the `files` extra.
_ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
try:
    zstd: Any = import_module(_ZSTD_MODULE)
except ImportError:
    zstd = None
CODEC_ERRORS: tuple[type[Exception], ...] = (EOFError, zlib.error, lzma.LZMAError, OSError)
if zstd is not None:
    CODEC_ERRORS += (zstd.ZstdError,)

# Bytes at the start of a file that are looked at.
PEEK = 65536

# First bytes of compressed files, whatever their names.
GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, without its line end; or a row or an item, as a JSON object."""

    number: int
    """Counted from 1; greater than that of the line before."""
    content: bytes
    problem: str | None = None
    """Why it cannot be read and what to do; then the content is what the file has there."""


class CorpusFile:
    """A file, opened for reading; iterate over its lines once.

    Opening raises InputError if the path is missing, a folder or unreadable. Iterating raises
    InputError if a compressed file is truncated or broken; the lines before that are good.
    """

    def __init__(
        self, path: str | Path, opened: BinaryIO | None = None, size: int | None = None
    ) -> None:
        """Open a path, "-" for standard input; or take what is `opened`, with its size in bytes."""
        self.name = "standard input" if str(path) == "-" else str(path)
        self.lines_read = 0
        self.share: float | None = None
        """Share of the file that is read, of formats that are not read from start to end."""
        self.size = size
        """Size of the file in bytes, compressed or not; None for pipes."""
        try:
            # Closed by __exit__.
            self._raw: BinaryIO = opened or (
                sys.stdin.buffer if str(path) == "-" else Path(path).open("rb", buffering=PEEK)  # noqa: SIM115
            )
            if opened is None and not is_pipe(path):
                self.size = Path(path).stat().st_size
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the path") from None
        except IsADirectoryError:
            raise InputError(f"{path}: a folder; name a file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self.stream = decompressed(self._raw, self.name)
        """The decompressed bytes."""

    @property
    def position(self) -> int:
        """Bytes of the file read so far; 0 for pipes."""
        if self.size is None:
            return 0
        return self._raw.tell() if self.share is None else int(self.size * self.share)

    def __iter__(self) -> Iterator[Line]:
        try:
            for content in self.stream:
                self.lines_read += 1
                yield Line(self.lines_read, content.rstrip(b"\r\n"))
        except CODEC_ERRORS as error:
            raise InputError(
                f"{self.name}: broken after line {self.lines_read}: {error}; the lines before it "
                f"were read, fetch the file again for the rest"
            ) from error

    def peek(self) -> bytes:
        """The first bytes, some thousands; nothing is consumed. Empty if the file is broken."""
        try:
            return bytes(self.stream.peek(PEEK))
        except CODEC_ERRORS:
            return b""  # reading says so

    def seekable(self) -> Any:
        """A file object with the bytes that can be read in any order."""
        plain = isinstance(self.stream, io.BufferedReader)
        if plain and self.size is not None and self.stream.seekable():
            return self.stream
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        shutil.copyfileobj(self.stream, copy)
        copy.seek(0)
        return copy

    def __enter__(self) -> CorpusFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._raw is not sys.stdin.buffer:
            self._raw.close()


def is_pipe(path: str | Path) -> bool:
    """Whether the path is standard input, or another file that can be read only once."""
    if str(path) == "-":
        return True
    path = Path(path)
    return path.exists() and not (path.is_file() or path.is_dir())


def decompressed(raw: Any, name: str) -> Any:
    """Lines of a file, decompressed if its first bytes say so.

    Raises:
        InputError: a Zstandard file needs the `files` extra.
    """
    if not isinstance(raw, io.BufferedReader):
        raw = io.BufferedReader(raw)
    head = raw.peek(PEEK)
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=raw)
    if head.startswith(BZIP2):
        return bz2.BZ2File(raw)
    if head.startswith(XZ):
        return lzma.LZMAFile(raw)
    if head.startswith(ZSTD):
        if zstd is None:
            raise InputError(f"{name}: .zst needs the 'files' extra: pip install backports.zstd")
        return zstd.ZstdFile(raw)
    return raw
