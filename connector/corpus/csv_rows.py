"""CSV and TSV files: a header line, then a document per row; MS MARCO's files, without a header."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from latent_ingest.connector.corpus.csv_layout import (
    END,
    dialect,
    layout_of,
    named,
    not_encoded,
    wide,
)
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.corpus_file import CorpusFile, Line
from latent_ingest.connector.errors import InputError

# Characters after which a quotation mark that is not closed is taken for a mistake.
MAX_ROW = 64_000_000

log = logging.getLogger(__name__)


def check(file: CorpusFile, reading: Reading, kind: str = "csv") -> None:
    """Find the layout by the start of the file, and tell of it; raises as `layout_of`."""
    if note := layout_of(file, reading, kind).note:
        log.info("%s: %s", file.name, note)


def read(file: CorpusFile, reading: Reading, kind: str = "csv") -> Iterator[Line]:
    """The rows as JSON objects, numbered by the line on which each begins.

    Empty cells are null. A row whose quotation marks are wrong is a line with a problem, and
    reading goes on with the next line, whatever the quotation mark encloses.
    """
    layout = layout_of(file, reading, kind)
    lines = Physical(file, layout.encoding)
    rows = csv.reader(lines, **dialect(layout.delimiter, layout.quotes))
    number, header, columns = 1, layout.header, layout.columns
    while True:
        lines.start_row()
        cells, problem = [], None
        try:
            cells = next(rows)
        except StopIteration:
            return
        except (csv.Error, RowTooLongError) as error:
            problem = wrong_quotes(error)
            lines.give_back()
        start, number = number, number + len(lines.taken)
        if not cells and not problem:  # an empty line
            continue
        if header and problem:
            raise InputError(f"{file.name}: line {start}: the header: {problem}")
        if header:  # again, since the start of a pipe may end within it
            header, columns = False, named(file.name, cells, layout.delimiter, reading)
            continue
        problem = problem or next((bad for _, bad in lines.taken if bad), None)
        if not problem and len(cells) != len(columns):
            problem = ragged(len(cells), len(columns), layout.delimiter)
        fields = {}
        if not problem:
            try:
                fields = fields_of(columns, cells, reading.json_fields)
            except ValueError as error:
                problem = str(error)
        if problem:
            content = "".join(text for text, _ in lines.taken).rstrip("\r\n")
            yield Line(start, content.encode("utf-8", "surrogateescape"), problem)
        else:
            yield Line(start, json.dumps(fields, ensure_ascii=False).encode("utf-8"))


def ragged(cells: int, columns: int, delimiter: str) -> str:
    """What is wrong with a row that has other cells than there are columns, and what to do."""
    fix = f"enclose cells that contain the delimiter {delimiter!r} in quotation marks"
    if cells < columns:
        fix = f"its last cells are missing: end it with {delimiter!r} for each empty one"
    return f"{counted(cells, 'cell')}, and {counted(columns, 'column')}; {fix}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def fields_of(
    columns: Sequence[str], cells: Sequence[str], parsed: Sequence[str]
) -> dict[str, Any]:
    """The fields of a row; raises ValueError if a cell to be `parsed` is not JSON."""
    fields: dict[str, Any] = {name: cell or None for name, cell in zip(columns, cells, strict=True)}
    for name in parsed:
        if fields.get(name) is not None:
            try:
                fields[name] = json.loads(fields[name])
            except (ValueError, RecursionError):
                raise ValueError(
                    f"column {name!r} is not JSON: {fields[name]!r:.60}; correct it, or leave it "
                    f"out of --json-fields"
                ) from None
    return fields


def wrong_quotes(error: Exception) -> str:
    """What is wrong with the quotation marks of a row, and what to do."""
    text = str(error)
    if END in text:
        what = "a quotation mark is not closed"
    elif isinstance(error, RowTooLongError):
        what = f"a quotation mark is not closed within {MAX_ROW:,} characters"
    elif "expected after" in text:
        what = "a closing quotation mark is followed by more than the delimiter"
    else:
        what = f"{text.partition(' - ')[0]}"
    return f'{what}; double a quotation mark inside a cell (""), or read with --no-quotes'


class RowTooLongError(Exception):
    """A quotation mark encloses more than `MAX_ROW` characters."""


class Physical:
    """The physical lines of a file as text, for `csv.reader`; lines can be given back."""

    def __init__(self, file: CorpusFile, encoding: str) -> None:
        self._lines = decoded(file, encoding)
        self._waiting: deque[tuple[str, str | None]] = deque()
        self._size = 0
        self.taken: list[tuple[str, str | None]] = []
        """Lines of the current row, each with what is wrong with its bytes."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self.taken.append(line)
        self._size += len(line[0])
        if self._size > MAX_ROW and len(self.taken) > 1:
            raise RowTooLongError
        return line[0]

    def start_row(self) -> None:
        """The next line begins a row."""
        self.taken, self._size = [], 0

    def give_back(self) -> None:
        """Give back all lines of the row but the first."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def decoded(file: CorpusFile, encoding: str) -> Iterator[tuple[str, str | None]]:
    """The lines of a file as text, each with what is wrong with its bytes.

    Raises InputError if UTF-16 or UTF-32 is broken, whose lines cannot be told from then on.
    """
    lines = wide_lines if wide(encoding) else narrow_lines
    for number, (text, problem) in enumerate(lines(file, encoding)):
        yield (text if number else text.removeprefix("\ufeff")), problem


def wide_lines(file: CorpusFile, encoding: str) -> Iterator[tuple[str, str | None]]:
    """Lines of UTF-16 or UTF-32."""
    texts = io.TextIOWrapper(file.stream, encoding, newline="\n")
    number = 0
    try:
        for text in texts:
            number += 1
            yield text, None
    except UnicodeError as error:
        raise InputError(
            f"{file.name}: broken after line {number}: not {encoding.upper()}: {error}; fetch the "
            f"file again, or name another with --encoding"
        ) from error
    finally:
        if not file.stream.closed:
            texts.detach()


def narrow_lines(file: CorpusFile, encoding: str) -> Iterator[tuple[str, str | None]]:
    """Lines of an encoding in which a line end is the byte of ASCII."""
    for line in file.stream:
        try:
            yield line.decode(encoding), None
        except UnicodeDecodeError as error:
            yield line.decode("utf-8", "surrogateescape"), not_encoded(error, encoding)
