"""Corpus files: lines → documents.

JSONL, plain, compressed or from standard input, read line by line and never as a whole.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from latent_ingest.connector.document_text import (
    nearest,
    paths_in,
    text_hash,
    text_in,
    values_at,
)
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

DEFAULT_ID_FIELDS = ("_id", "id")
DEFAULT_TEXT_FIELDS = ("title", "text")

# Key that lines of a failures file have in addition to the document's keys, and the keys inside;
# see `BadLine.to_json`.
FAILURE_KEY = "_failure"
FAILURE_PARTS = {"file", "line", "reason"}

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

# Types of MongoDB's extended JSON that are a string or a whole number with a name.
EXTENDED_IDS = {"$oid", "$uuid", "$numberLong", "$numberInt"}

# A line with half of a surrogate pair contains one of these: an escape, or the first byte of bytes
# that Python decodes to one although they are not UTF-8.
SIGNS_OF_SURROGATES = (rb"\ud", rb"\uD", b"\xed")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, without its line end."""

    number: int
    """Counted from 1."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus."""

    line: int
    """Number of the line in the file, counted from 1."""
    id: str
    generated: bool
    """Whether the id was made of the content, since the line has none."""
    text: str
    """The text that is encoded; see `text_in`."""
    fields: dict[str, Any]
    """The line's object, without `_id`, which the engine refuses inside a document."""
    lost_id: bool = False
    """Whether the line has an `_id` that is not the id, and so is not kept."""

    @property
    def text_hash(self) -> str:
        """Hash of the text."""
        return text_hash(self.text)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no document, or a document that the engine rejected."""

    line: int
    reason: str
    """The problem with the value, and how to fix it."""
    content: bytes | Document
    """The line itself, or its document."""

    def to_json(self, source: str) -> str:
        """A line for the failures file, which can be corrected and ingested."""
        failure: dict[str, Any] = {"file": source, "line": self.line, "reason": self.reason}
        fields: dict[str, Any] = {}
        if isinstance(self.content, bytes):
            # surrogateescape and ASCII output preserve bytes that are not UTF-8.
            failure["original"] = self.content.decode("utf-8", "surrogateescape")
        else:
            fields = {"_id": self.content.id, **self.content.fields}
        if FAILURE_KEY in fields:  # the document has such a key itself
            failure["original"], fields = json.dumps(fields), {}
        return json.dumps({FAILURE_KEY: failure, **fields})


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


def parse_line(
    line: Line,
    *,
    id_fields: Sequence[str] = DEFAULT_ID_FIELDS,
    text_fields: Sequence[str] = DEFAULT_TEXT_FIELDS,
    strict: bool = True,
) -> Document | BadLine:
    """Parse the document on a line that is not blank, or say what is wrong with it.

    The first id field that the document has is its id. If `strict`, it must have at least one text
    field, with strings only; else it is read as a document of an index is.
    """
    try:
        fields = parse_object(line)
        failure = fields.get(FAILURE_KEY)
        if isinstance(failure, dict) and failure.keys() - {"original"} == FAILURE_PARTS:
            if isinstance(failure.get("original"), str):
                original = failure["original"].encode("utf-8", "surrogateescape")
                again = Line(line.number, original)
                return parse_line(
                    again, id_fields=id_fields, text_fields=text_fields, strict=strict
                )
            del fields[FAILURE_KEY]
        check_surrogates(line, fields)
        if strict:
            check_texts(fields, text_fields)
        stated = stated_id(fields, id_fields)
    except ValueError as error:
        return BadLine(line.number, str(error), line.content)
    identifier = generated_id(fields) if stated is None else stated
    own = plain_id(fields.pop("_id", None))
    lost_id = own not in (None, "") and str(own) != identifier
    text = text_in(fields, text_fields)
    return Document(line.number, identifier, stated is None, text, fields, lost_id)


def parse_object(line: Line) -> dict[str, Any]:
    """The JSON object on a line; raises ValueError, as the functions below, if it has none."""
    try:
        fields = json.loads(line.content, object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        raise ValueError(not_utf8(error)) from error
    except json.JSONDecodeError as error:
        what = f"{error.msg} at character {error.pos + 1}"
        raise ValueError(f"not JSON: {what}: {excerpt(line)}; write one object per line") from error
    except DoubleKeyError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}: {excerpt(line)}") from error
    if not isinstance(fields, dict):
        kind = json_kind(fields)
        raise ValueError(f"{kind}, not an object: {excerpt(line)}; write one object per line")
    return fields


class DoubleKeyError(ValueError):
    """An object has a key twice, which engines refuse."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `json.loads`; raises DoubleKeyError."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in fields if keys.count(key) > 1)
        raise DoubleKeyError(f"key {double!r} twice in one object; remove one or rename it")
    return fields


def not_utf8(error: UnicodeDecodeError) -> str:
    """Message for bytes that are not UTF-8."""
    bad = error.object[error.start : error.start + 1].hex()
    return f"not UTF-8: byte 0x{bad} at position {error.start}; convert the file to UTF-8"


def check_surrogates(line: Line, fields: dict[str, Any]) -> None:
    """Refuse keys and values with half of a surrogate pair."""
    if not any(sign in line.content for sign in SIGNS_OF_SURROGATES):
        return
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(
            f"{half} is half of a surrogate pair, which no UTF-8 can hold; write the character"
        ) from error


def plain_id(value: Any) -> Any:
    """The string in an id of MongoDB's extended JSON; any other value as it is."""
    if isinstance(value, dict) and len(value) == 1 and EXTENDED_IDS.issuperset(value):
        (value,) = value.values()
    return value


def stated_id(fields: dict[str, Any], id_fields: Sequence[str]) -> str | None:
    """The first id field that is not empty, as text; None if there is none."""
    stated = next((fields[name] for name in id_fields if fields.get(name) not in (None, "")), None)
    stated = plain_id(stated)
    if isinstance(stated, bool) or not isinstance(stated, str | int | None):
        raise ValueError(
            f"the id is {json_kind(stated)}: {stated!r:.60}; write a string or a whole number, or "
            f"name another field with --id-field"
        )
    return None if stated is None else str(stated)


def check_texts(fields: dict[str, Any], text_fields: Sequence[str]) -> None:
    """Refuse a document without any text field, and one that has another value in one."""
    found = False
    for name in text_fields:
        for value in values_at(fields, name):
            found = True
            if not isinstance(value, str | None):
                inside = f", or name a field in it with --text-fields {name}.FIELD"
                raise ValueError(
                    f"field {name!r} is {json_kind(value)}: {value!r:.60}; write a string"
                    f"{inside if isinstance(value, dict) else ''}"
                )
    if not found:
        names = list(dict.fromkeys(paths_in(fields)))
        has = ", ".join(map(repr, names)) or "none"
        near = next(filter(None, (nearest(name, names) for name in text_fields)), "")
        wanted = " or ".join(map(repr, text_fields))
        raise ValueError(
            f"no text field: no {wanted} (fields: {has:.120}{near}); use --text-fields"
        )


def generated_id(fields: dict[str, Any]) -> str:
    """An id made of the content: the same document always gets the same id."""
    canonical = json.dumps(fields, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(canonical).hexdigest()[:20]


def json_kind(value: object) -> str:
    """JSON's name for the type of a value, with an article."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array"}
    return names.get(type(value), "an object" if isinstance(value, dict) else "a number")


def excerpt(line: Line) -> str:
    """Start of a line, for a message."""
    text = line.content.decode("utf-8", "replace")
    return repr(text if len(text) <= 60 else text[:60] + "...")
