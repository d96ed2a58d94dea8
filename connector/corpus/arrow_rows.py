"""Parquet, Arrow and Feather files: each row is a document."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from latent_ingest.connector.corpus_file import CODEC_ERRORS, CorpusFile, Line
from latent_ingest.connector.errors import InputError

# Rows that are Python objects at a time, and bytes of a column that are read at a time.
ROWS = 512
BUFFER = 1 << 20

# Bytes of a row above which it is not read: no engine takes a larger document, and several copies
# of a string of gigabytes do not fit into memory. Engines refuse requests of more by default.
MOST_BYTES = 100_000_000

# First bytes of an Arrow file, which has a footer; streams of record batches have none.
ARROW_FILE = b"ARROW1"

NEEDED = "pip install 'latent-ingest[files]'"


def check(file: CorpusFile, kind: str) -> None:
    """Raise InputError if the file cannot be opened as `kind`, "parquet" or "arrow".

    A pipe is not looked at, since it can be read only once.
    """
    pyarrow = library(file, kind)
    if file.size is not None:
        with broken(file, kind, pyarrow):
            opened(file, kind, pyarrow, ())


def read(
    file: CorpusFile,
    kind: str,
    dropped: Sequence[str] = (),
    needed: Sequence[str] | None = None,
) -> Iterator[Line]:
    """The rows, numbered from 1, as JSON objects without the `dropped` columns.

    Of the others, only those with one of the `needed` fields are read, if a column has one.

    A column of a row group, or a record batch, is in memory only in part, or one at a time.

    Raises:
        InputError: the file is truncated or broken; the rows before that are good.
    """
    pyarrow = library(file, kind)
    number = 0
    with broken(file, kind, pyarrow, lambda: number):
        total, batches = opened(file, kind, pyarrow, dropped, needed)
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                for line in lines(batch.slice(start, ROWS), number + 1):
                    number = line.number
                    file.share = number / total if total else None
                    yield line


def library(file: CorpusFile, kind: str) -> Any:
    """The package pyarrow; raises InputError if it is not installed."""
    try:
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{file.name}: {kind.capitalize()} files need pyarrow: {NEEDED}") from None
    return pyarrow


@contextmanager
def broken(
    file: CorpusFile, kind: str, pyarrow: Any, rows: Callable[[], int] = lambda: 0
) -> Iterator[None]:
    """A context that turns errors of a broken file into InputError, with the `rows` read so far."""
    try:
        yield
    except (pyarrow.ArrowException, *CODEC_ERRORS) as error:
        reason = " ".join(str(error).split())[:200]
        if rows():
            raise InputError(
                f"{file.name}: broken after row {rows()}: {reason}; the rows before it were read, "
                f"fetch the file again for the rest"
            ) from error
        raise InputError(
            f"{file.name}: cannot be read as {kind.capitalize()}: {reason}; fetch or write the "
            f"file again"
        ) from error


def opened(
    file: CorpusFile,
    kind: str,
    pyarrow: Any,
    dropped: Sequence[str],
    needed: Sequence[str] | None = None,
) -> tuple[int | None, Iterator[Any]]:
    """The number of rows of the file, if it is known, and its record batches.

    Raises InputError if two columns have one name.
    """
    total = None
    if kind == "parquet":
        # Without a buffer size, a column of a row group is read as a whole; with `pre_buffer`,
        # a default of pyarrow 26, all row groups are.
        source = pyarrow.parquet.ParquetFile(file.seekable(), buffer_size=BUFFER, pre_buffer=False)
        total, schema = source.metadata.num_rows, source.schema_arrow
    elif file.peek().startswith(ARROW_FILE):
        source = pyarrow.ipc.open_file(file.seekable())
        schema = source.schema
    else:
        source = pyarrow.ipc.open_stream(file.stream)
        schema = source.schema
    names = list(schema.names)
    if double := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{file.name}: two columns are named {min(double)!r}; rename one")
    kept = [name for name in names if name not in dropped]
    kept = [n for n in kept if any(f"{path}.".startswith(f"{n}.") for path in needed or ())] or kept

    def batches() -> Iterator[Any]:
        if kind == "parquet":
            found = source.iter_batches(rows_at_once(source.metadata), columns=kept)
        elif hasattr(source, "num_record_batches"):
            found = map(source.get_batch, range(source.num_record_batches))
        else:
            found = iter(source)
        for batch in found:
            batch = batch.select(kept)
            wanted = with_microseconds(batch.schema, pyarrow)
            yield batch if wanted == batch.schema else batch.cast(wanted, safe=False)

    return total, batches()


def with_microseconds(schema: Any, pyarrow: Any) -> Any:
    """The schema with microseconds for nanoseconds, which Python's times do not have."""

    def coarser(kind: Any) -> Any:
        types = pyarrow.types
        if types.is_timestamp(kind) and kind.unit == "ns":
            return pyarrow.timestamp("us", kind.tz)
        if types.is_time64(kind) and kind.unit == "ns":
            return pyarrow.time64("us")
        if types.is_duration(kind) and kind.unit == "ns":
            return pyarrow.duration("us")
        if types.is_list(kind):
            return pyarrow.list_(kind.value_field.with_type(coarser(kind.value_type)))
        if types.is_struct(kind):
            return pyarrow.struct([field.with_type(coarser(field.type)) for field in kind])
        return kind

    return pyarrow.schema([field.with_type(coarser(field.type)) for field in schema])


def lines(batch: Any, first: int) -> Iterator[Line]:
    """The rows of a batch; `first` is the number of the first."""
    if batch.nbytes > MOST_BYTES:
        if batch.num_rows > 1:
            for place in range(batch.num_rows):
                yield from lines(batch.slice(place, 1), first + place)
        else:
            yield too_large(first, batch)
        return
    try:
        rows = batch.to_pylist(maps_as_pydicts="strict")
    except (ValueError, KeyError) as error:
        if batch.num_rows > 1:
            for place in range(batch.num_rows):
                yield from lines(batch.slice(place, 1), first + place)
        else:
            reason = f"a value cannot be read: {error}; correct the file"
            yield Line(first, what_can_be_read(batch), reason)
        return
    for number, row in enumerate(rows, start=first):
        yield line_of(number, row)


def too_large(number: int, batch: Any) -> Line:
    """A row of more than `MOST_BYTES`, without its large values."""
    sizes = {
        name: column.nbytes for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    largest = max(sizes, key=sizes.__getitem__)
    small = batch.select([name for name in sizes if sizes[name] < MOST_BYTES // 100])
    problem = (
        f"a row of {batch.nbytes / 1e6:,.0f} MB, most of it in column {largest!r}; engines take no "
        f"document above {MOST_BYTES / 1e6:,.0f} MB; split it, or leave the column out with "
        f"--drop {largest}"
    )
    return Line(number, what_can_be_read(small), problem)


def rows_at_once(metadata: Any) -> int:
    """How many rows of a Parquet file are read at a time: fewer where they are large."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    sizes = [group.total_byte_size / group.num_rows for group in groups if group.num_rows]
    return max(1, min(ROWS, int(MOST_BYTES / max([1.0, *sizes]))))


def what_can_be_read(batch: Any) -> bytes:
    """The only row of a batch as JSON; of strings that are no text, their bytes as Python's."""
    fields: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        value = column[0]
        try:
            fields[name] = value.as_py()
        except (ValueError, KeyError):
            raw = getattr(value, "as_buffer", None)
            fields[name] = repr(raw().to_pybytes()) if raw else None
    return json.dumps(fields, default=str).encode()


def line_of(number: int, row: dict[str, Any]) -> Line:
    """A row as a line, with a problem if JSON has no such value."""
    try:
        return Line(number, to_json(row))
    except (ValueError, TypeError):
        pass
    fields, problem = {}, None
    for name, value in row.items():
        try:
            fields[name] = without_nan(value)
            to_json(fields[name])
        except (ValueError, TypeError) as error:
            problem = f"column {name!r}: {error}; correct it, or leave it out with --drop {name}"
            fields[name] = repr(value)
    return Line(number, to_json(fields), problem)


def to_json(value: Any) -> bytes:
    """The value as JSON; raises ValueError or TypeError if JSON has no such value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=plain).encode()


def plain(value: Any) -> Any:
    """A value that JSON has no type for, as engines read it."""
    if isinstance(value, date | time):  # datetime, too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return number_of(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError("bytes that are no text in UTF-8") from None
    return str(value)


def number_of(value: Decimal) -> int | float | str:
    """The decimal as a number if a double holds it, else as a string with all its digits."""
    if value == value.to_integral_value():
        return int(value) if abs(value) < 2**63 else str(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def without_nan(value: Any) -> Any:
    """The value with null for NaN; raises ValueError for infinite numbers."""
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("an infinite number, which engines do not take")
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    return value
