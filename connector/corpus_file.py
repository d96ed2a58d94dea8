"""Corpus files: files of lines, plain, compressed or from standard input.

Read line by line and never as a whole.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from latent_ingest.connector.errors import InputError

# Part of the standard library since Python 3.14; before that in the `train` extra.
_ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
try:
    zstd: Any = import_module(_ZSTD_MODULE)
except ImportError:
    zstd = None
CODEC_ERRORS: tuple[type[Exception], ...] = (EOFError, zlib.error, lzma.LZMAError, OSError)
if zstd is not None:
    CODEC_ERRORS += (zstd.ZstdError,)

# Bytes at the start of a file that are looked at.
PEEK = 8192

# First bytes of compressed files, whatever their names.
GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"

# First bytes of files that are not JSON lines, and how to convert them.
OTHER_FILES = {
    b"PK\x03\x04": "a ZIP archive; unpack it",
    b"PAR1": "a Parquet file; convert it to JSONL, one object per line",
    b"\xff\xfe": "UTF-16; convert it with 'iconv -f UTF-16 -t UTF-8'",
    b"\xfe\xff": "UTF-16; convert it with 'iconv -f UTF-16 -t UTF-8'",
    b"{\x00": "UTF-16; convert it with 'iconv -f UTF-16LE -t UTF-8'",
    b"\x00{": "UTF-16; convert it with 'iconv -f UTF-16BE -t UTF-8'",
}

# Keys of what is in an action of a bulk request, and of a hit as elasticdump writes it.
BULK_ACTIONS = {"index", "create", "update", "delete"}
BULK_KEYS = {
    "_id", "_index", "_type", "routing", "_routing", "pipeline", "version", "version_type",
    "if_seq_no", "if_primary_term", "require_alias", "retry_on_conflict", "dynamic_templates",
}  # fmt: skip
HIT_KEYS = {
    "_id", "_index", "_type", "_score", "_source", "_version", "_routing", "_seq_no",
    "_primary_term", "sort", "fields", "found",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, without its line end."""

    number: int
    """Counted from 1."""
    content: bytes


class CorpusFile:
    """A file of lines, opened for reading; iterate over it once.

    Opening raises InputError if the path is missing, a folder or unreadable. Iterating raises
    InputError if a compressed file is truncated or broken; the lines before that are good.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.lines_read = 0
        try:
            # Closed by __exit__.
            self._raw: BinaryIO = (
                sys.stdin.buffer if str(path) == "-" else Path(path).open("rb")  # noqa: SIM115
            )
            self.size = None if is_pipe(path) else Path(path).stat().st_size
            """Size of the file in bytes, compressed or not; None for pipes."""
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the path") from None
        except IsADirectoryError:
            raise InputError(f"{path}: a folder; name a JSONL file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self._lines = decompressed(self._raw, self.name)

    @property
    def position(self) -> int:
        """Bytes of the file read so far; 0 for pipes."""
        return self._raw.tell() if self.size is not None else 0

    def __iter__(self) -> Iterator[Line]:
        try:
            for content in self._lines:
                self.lines_read += 1
                yield Line(self.lines_read, content.rstrip(b"\r\n"))
        except CODEC_ERRORS as error:
            raise InputError(
                f"{self.name}: broken after line {self.lines_read}: {error}; the lines before it "
                f"were read, fetch the file again for the rest"
            ) from error

    def check_json_lines(self) -> None:
        """Raise InputError if the file does not begin like one JSON object per line.

        Nothing is consumed.
        """
        try:
            head = bytes(self._lines.peek(PEEK))
        except CODEC_ERRORS:
            return  # reading says so
        if what := other_layout(head):
            raise InputError(f"{self.name}: {what}")

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
        InputError: a Zstandard file needs the `train` extra.
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
            raise InputError(f"{name}: .zst needs the 'train' extra: pip install backports.zstd")
        return zstd.ZstdFile(raw)
    return raw


def other_layout(head: bytes) -> str | None:
    """How a file is not one JSON object per line, by its first bytes, and how to convert it."""
    for magic, what in OTHER_FILES.items():
        if head.startswith(magic):
            return what
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    line, _, rest = start.partition(b"\n")
    if start[:1] == b"[" and start[1:].lstrip()[:1] in (b"{", b"]"):
        return "one JSON array; write one object per line: jq -c '.[]'"
    if line.strip() == b"{" and rest.lstrip()[:1] in (b'"', b"}"):
        return "JSON over several lines; write one object per line: jq -c ."
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    if len(fields) == 1 and BULK_ACTIONS.issuperset(fields):
        (action,) = fields.values()
        if isinstance(action, dict) and BULK_KEYS.issuperset(action):
            return (
                "a bulk request, in which the ids stand on lines of their own; write one object "
                "per line with its _id, or send it to the engine and use 'latent-ingest enrich'"
            )
    if isinstance(fields.get("_source"), dict) and HIT_KEYS.issuperset(fields):
        return (
            "hits of a search (elasticdump), whose documents are in _source; write them out: "
            "jq -c '{_id} + ._source'"
        )
    return None
