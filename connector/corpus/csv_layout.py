"""The layout of a CSV file, by its start: encoding, delimiter, quotation marks and columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.corpus_file import PEEK, CorpusFile
from latent_ingest.connector.document_text import nearest
from latent_ingest.connector.errors import InputError

DELIMITERS = (",", "\t", ";", "|")

# Byte order marks; that of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# Part of csv's message for a quotation mark that is not closed.
END = "unexpected end of data"

# MS MARCO's files have no header: passages are `pid text`, documents `docid url title text`.
PASSAGES, DOCUMENTS = ("_id", "text"), ("_id", "url", "title", "text")

# Python's limit of a cell is 131,072 characters for the whole process.
csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are written."""

    encoding: str
    delimiter: str
    quotes: bool
    """Whether quotation marks enclose cells."""
    columns: list[str]
    """Names of the columns; empty if the file is."""
    header: bool
    """Whether the first row is a header."""
    note: str = ""
    """What to tell the user about it."""


def layout_of(file: CorpusFile, reading: Reading, kind: str) -> Layout:
    """Find the layout by the start of the file; nothing is consumed.

    Raises:
        InputError: the encoding is not known, or the header is broken or names a column twice.
    """
    delimiter = reading.delimiter or ("\t" if kind == "tsv" else None)
    head = file.peek()
    encoding = encoding_of(file.name, head, reading.encoding)
    texts = first_lines(file.name, head, encoding)
    header = reading.header is None
    if not texts:  # empty, or so broken that reading says so
        columns = list(reading.header or ())
        return Layout(encoding, delimiter or ",", reading.quotes is not False, columns, header)
    delimiters = DELIMITERS if delimiter is None else (delimiter,)
    told = (reading.header, reading.quotes) != (None, None) or "\t" not in delimiters
    if not told and (known := columns_of_msmarco(texts)):
        note = f"MS MARCO's layout, without a header: {', '.join(known)}"
        return Layout(encoding, "\t", False, list(known), False, note)
    found = guessed(texts, delimiters, reading.quotes)
    if found is None:
        raise InputError(
            f"{file.name}: line 1: the header has a quotation mark that is not closed, or is "
            f"followed by more than the delimiter; correct it, or read with --no-quotes"
        )
    separator, quotes, first = found
    columns = named(file.name, first, separator, reading)
    note = ""
    if nameless := [place for place, cell in enumerate(first, 1) if not cell.strip()]:
        note = f"column {nameless[0]} has no name: it is named {columns[nameless[0] - 1]}"
    return Layout(encoding, separator, quotes, columns, header, note if header else "")


def guessed(
    texts: Sequence[str], delimiters: Sequence[str], given: bool | None
) -> tuple[str, bool, list[str]] | None:
    """The delimiter, whether quotation marks enclose cells, and the first row.

    Those with which most rows have as many cells as the first one; None if none can read that.
    Only the first delimiter is taken for one that does not occur.
    """
    ranked = []
    for delimiter in delimiters:
        for quotes in (True, False) if given is None else (given,):
            rows, fitting = sampled(texts, delimiter, quotes)
            if not rows or (len(rows[0]) == 1 and delimiter != delimiters[0]):
                continue
            # Without quotation marks only if they cannot enclose cells.
            if quotes or given is False or (delimiter == "\t" and loose(rows)):
                rank = (len(rows[0]) > 1, fitting, len(rows[0]), quotes)
                ranked.append((rank, (delimiter, quotes, rows[0])))
    return max(ranked, key=lambda found: found[0])[1] if ranked else None


def named(name: str, first: Sequence[str], delimiter: str, reading: Reading) -> list[str]:
    """The names of the columns; raises InputError if they do not fit the `first` row."""
    if reading.header is not None:
        columns = list(reading.header)
        if len(columns) != len(first):
            raise InputError(
                f"{name}: line 1: {len(first)} cells, and --header names {len(columns)} columns; "
                f"the delimiter read is {delimiter!r}, --delimiter names another"
            )
    else:
        columns = [cell.strip() or f"column_{place}" for place, cell in enumerate(first, 1)]
    for parsed in reading.json_fields:
        if parsed not in columns:
            has = ", ".join(columns)
            raise InputError(
                f"{name}: no column {parsed!r} for --json-fields (columns: {has:.120}"
                f"{nearest(parsed, columns)})"
            )
    if double := [column for column in columns if columns.count(column) > 1]:
        places = [place for place, column in enumerate(columns, 1) if column == double[0]]
        raise InputError(
            f"{name}: line 1: columns {places[0]} and {places[1]} are both named {double[0]!r}; "
            f"rename one"
        )
    return columns


def columns_of_msmarco(texts: Sequence[str]) -> tuple[str, ...] | None:
    """The columns of MS MARCO's passages or documents; None for other files."""
    rows, _ = sampled(texts, "\t", quotes=False)
    for columns, number in ((PASSAGES, r"\d+"), (DOCUMENTS, r"D\d+")):
        if rows and all(len(row) == len(columns) and re.fullmatch(number, row[0]) for row in rows):
            return columns
    return None


def sampled(texts: Sequence[str], delimiter: str, quotes: bool) -> tuple[list[list[str]], float]:
    """The rows of some lines, and the share of them that has as many cells as the first.

    No rows if the first one is broken.
    """
    reader = csv.reader(iter(texts), **dialect(delimiter, quotes))
    rows: list[list[str]] = []
    wrong = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if not rows:
                return [], 0
            wrong += END not in str(error)  # the last row of a sample may be cut
            continue
        if row:
            rows.append(row)
    if not rows:
        return [], 0
    fitting = sum(len(row) == len(rows[0]) for row in rows)
    return rows, fitting / (len(rows) + wrong)


def loose(rows: Sequence[Sequence[str]]) -> bool:
    """Whether no cell of these rows, read without quotation marks, is enclosed in them."""
    return len(rows[0]) > 1 and not any(
        cell.startswith('"') and cell.endswith('"') and len(cell) > 1
        for row in rows
        for cell in row
    )


def dialect(delimiter: str, quotes: bool) -> dict[str, Any]:
    """Arguments of `csv.reader`."""
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    return {"delimiter": delimiter, "quoting": quoting, "strict": True}


def first_lines(name: str, head: bytes, encoding: str) -> list[str]:
    """The whole lines at the start of a file; the first one also if it is not whole.

    Raises InputError if they do not end as lines do, or lack the mark that the encoding begins
    with.
    """
    try:
        text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head)
    except UnicodeError as error:
        raise InputError(
            f"{name}: not {encoding.upper()}: {error}; leave --encoding out, or name another such "
            f"as utf-16-le"
        ) from error
    text = text.removeprefix("\ufeff")
    if "\r" in text and "\n" not in text and len(text) < PEEK // 4:
        raise InputError(
            f"{name}: its lines end in a carriage return alone; convert it: tr '\\r' '\\n'"
        )
    texts = io.StringIO(text, newline="\n").readlines()
    return texts if len(texts) == 1 or text.endswith("\n") else texts[:-1]


def encoding_of(name: str, head: bytes, given: str | None) -> str:
    """The encoding that is given, or that the first bytes of a file tell.

    Raises InputError if they are not UTF-8.
    """
    if given:
        return given
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    if b"\0" in head[:2]:
        return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start)
        whole = UnicodeDecodeError(*error.args)
        whole.start = error.start - (head.rfind(b"\n", 0, error.start) + 1)
        whole.object = head[error.start - whole.start :]
        raise InputError(f"{name}: line {line + 1}: {not_encoded(whole, 'utf-8')}") from error
    return "utf-8"


def not_encoded(error: UnicodeDecodeError, encoding: str) -> str:
    """What is wrong with bytes that are not in an encoding."""
    bad = error.object[error.start : error.start + 1].hex()
    return (
        f"not {encoding.upper()}: byte 0x{bad} at position {error.start}; name the encoding of the "
        f"file, such as --encoding latin-1 or cp1252"
    )


def wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
