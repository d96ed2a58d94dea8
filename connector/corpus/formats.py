"""The format of a file, by its first bytes and its name, and how each is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from latent_ingest.connector.corpus import arrow_rows, bulk_actions, csv_rows, json_items
from latent_ingest.connector.corpus.reading import FORMATS, Reading
from latent_ingest.connector.corpus_file import CorpusFile, Line
from latent_ingest.connector.errors import InputError

# Endings of names → format; one of a compression may follow.
ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")

# First bytes of files that are not text.
BINARY = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}

# First bytes of files that are not read, and how to convert them.
OTHER_FILES = {
    b"PK\x03\x04": "a ZIP archive; unpack it",
    b"FEA1": "Feather, version 1; write it again with version 2, or as Parquet",
    b"Obj\x01": "an Avro file; convert it to Parquet or JSON lines",
    b"SQLite format 3": "an SQLite database; write its table as CSV",
}
UTF_16 = {
    b"\xff\xfe": "UTF-16; convert it with 'iconv -f UTF-16 -t UTF-8'",
    b"\xfe\xff": "UTF-16; convert it with 'iconv -f UTF-16 -t UTF-8'",
    b"{\x00": "UTF-16; convert it with 'iconv -f UTF-16LE -t UTF-8'",
    b"\x00{": "UTF-16; convert it with 'iconv -f UTF-16BE -t UTF-8'",
    b"[\x00": "UTF-16; convert it with 'iconv -f UTF-16LE -t UTF-8'",
    b"\x00[": "UTF-16; convert it with 'iconv -f UTF-16BE -t UTF-8'",
}

# Keys of a hit as elasticdump writes it.
HIT_KEYS = {
    "_id", "_index", "_type", "_score", "_source", "_version", "_routing", "_seq_no",
    "_primary_term", "sort", "fields", "found",
}  # fmt: skip


def ending(name: str) -> str:
    """The ending of a file's name that tells its format, without that of a compression; or ""."""
    path = Path(name.lower())
    if path.suffix in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix if path.suffix in ENDINGS else ""


def stem(name: str) -> str:
    """The name of a file without its folder and the endings that tell format and compression."""
    path = Path(name)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def find_format(file: CorpusFile, reading: Reading) -> str:
    """The format of a file, and that it begins as such a file does; nothing is consumed.

    Raises:
        InputError: it does not, or its format is not known.
    """
    head = file.peek()
    binary = next((kind for magic, kind in BINARY.items() if head.startswith(magic)), None)
    for magic, refused in OTHER_FILES.items():
        if head.startswith(magic):
            raise InputError(f"{file.name}: {refused}")
    kind = reading.format or binary
    if kind is None:
        kind = found_text(file.name, head)
    if binary and kind != binary:
        raise InputError(
            f"{file.name}: {'a Parquet' if binary == 'parquet' else 'an Arrow'} file, not "
            f"{kind.upper()}; leave --input-format out"
        )
    if kind in ("csv", "tsv"):
        csv_rows.check(file, reading, kind)
    elif options := reading.csv_options:
        raise InputError(f"{file.name}: {options[0]} is for CSV, and the file is {kind}")
    if kind in ("parquet", "arrow"):
        arrow_rows.check(file, kind)
    if kind in ("jsonl", "json", "bulk") and (what := other_json(head)):
        raise InputError(f"{file.name}: {what}")
    return kind


def found_text(name: str, head: bytes) -> str:
    """The format of a text file."""
    kind = ENDINGS.get(ending(name), "")
    if kind in ("csv", "tsv", "parquet", "arrow"):
        return kind
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    line = start.partition(b"\n")[0]
    if start[:1] == b"[" and start[1:].lstrip()[:1] in (b"{", b"]"):
        return "json"
    if bulk_actions.parse_action(line):
        return "bulk"
    json_like = re.search(rb"^\s*[{[]", start, re.MULTILINE) or not start or utf_16(head)
    if not (kind or json_like):
        raise InputError(
            f"{name}: not JSON, and its name tells no format: it begins with "
            f"{line[:40].decode('utf-8', 'replace')!r}; name the format with --input-format "
            f"({', '.join(FORMATS)})"
        )
    return "jsonl"


def utf_16(head: bytes) -> str | None:
    """What to do with JSON in UTF-16; None for other encodings."""
    return next((what for magic, what in UTF_16.items() if head.startswith(magic)), None)


def other_json(head: bytes) -> str | None:
    """How a file is JSON of another layout, by its first bytes, and how to convert it."""
    if what := utf_16(head):
        return what
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    line, _, rest = start.partition(b"\n")
    if line.strip() == b"{" and rest.lstrip()[:1] in (b'"', b"}"):
        return "JSON over several lines; write one object per line: jq -c ."
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    if isinstance(fields.get("_source"), dict) and HIT_KEYS.issuperset(fields):
        return (
            "hits of a search (elasticdump), whose documents are in _source; write them out: "
            "jq -c '{_id} + ._source'"
        )
    return None


def read(file: CorpusFile, kind: str, reading: Reading) -> Iterator[Line]:
    """The documents of a file, numbered by their places in it."""
    if kind in ("csv", "tsv"):
        return csv_rows.read(file, reading, kind)
    if kind == "json":
        return json_items.read(file)
    if kind == "bulk":
        return bulk_actions.read(file)
    if kind in ("parquet", "arrow"):
        return arrow_rows.read(file, kind, unread(reading), reading.columns)
    return iter(file)


def unread(reading: Reading) -> list[str]:
    """Names that are dropped, and that no renamed field is taken from."""
    return [
        name
        for name in reading.drop
        if not any(f"{source}.".startswith(f"{name}.") for source in reading.map.values())
    ]
