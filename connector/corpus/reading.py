"""How files are read: their format and layout, and what is changed in each document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from latent_ingest.connector.corpus.changes import Changes
from latent_ingest.connector.errors import InputError

# Formats; what a document is in each, and what its place is counted in.
DOCUMENTS = {
    "jsonl": "line",
    "json": "item",
    "bulk": "action",
    "csv": "row",
    "tsv": "row",
    "parquet": "row",
    "arrow": "row",
}
PLACES = {**DOCUMENTS, "bulk": "line", "csv": "line", "tsv": "line"}
FORMATS = tuple(DOCUMENTS)


@dataclass(frozen=True)
class Reading:
    """How files are read. By default the format is found, and documents are as in the file.

        from latent_ingest.connector import Connection, IngestJob, Reading

        client = Connection("http://localhost:9200").open()
        reading = Reading(map={"title": "headline", "text": "body.content"}, sample=1000)
        IngestJob(client, "news/*.parquet", index="news", reading=reading).run()

    Raises:
        InputError: an option cannot be used.
    """

    format: str | None = None
    """"jsonl", "json", "bulk", "csv", "tsv", "parquet" or "arrow"; by default found for each file
    by its first bytes and its name."""
    delimiter: str | None = None
    """What separates the cells of a CSV file; by default found."""
    quotes: bool | None = None
    """Whether a quotation mark encloses a cell of a CSV file; by default found."""
    encoding: str | None = None
    """Encoding of a CSV file, such as "latin-1"; by default by its byte order mark, or UTF-8."""
    header: Sequence[str] | None = None
    """Names of the columns of a CSV file that has no header line."""
    json_fields: Sequence[str] = ()
    """Columns of a CSV file whose cells hold JSON: numbers, true, arrays, objects."""
    map: Mapping[str, str] = field(default_factory=dict)
    """Field → path of the field that becomes it, as in `text_fields`."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Field → value, the same in each document."""
    drop: Sequence[str] = ()
    """Paths of fields that are left out."""
    columns: Sequence[str] | None = None
    """Paths of the fields that are needed: other columns of Parquet and Arrow are not read. None
    for all."""
    sample: int | None = None
    """Number of documents after which reading ends; None for all."""

    def __post_init__(self) -> None:
        if self.format not in (None, *FORMATS):
            raise InputError(f"{self.format!r} is no format; use one of {', '.join(FORMATS)}")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise InputError(f"the delimiter is {self.delimiter!r}; give one character")
        if self.sample is not None and self.sample < 1:
            raise InputError(f"a sample of {self.sample} documents is none; give 1 or more")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError:
                raise InputError(
                    f"{self.encoding!r} is no encoding; use one such as latin-1 or cp1252"
                ) from None

    @cached_property
    def changes(self) -> Changes | None:
        """What is changed in each document; None if nothing is."""
        if not (self.map or self.set or self.drop):
            return None
        return Changes(dict(self.map), dict(self.set), tuple(self.drop))

    @property
    def csv_options(self) -> list[str]:
        """Names of the options given that only CSV has."""
        values = {
            "--delimiter": self.delimiter,
            "--no-quotes": self.quotes is False,
            "--encoding": self.encoding,
            "--header": self.header,
            "--json-fields": self.json_fields,
        }
        return [name for name, value in values.items() if value]

    def to_json(self) -> dict[str, Any] | None:
        """What is given, for the journal: a run resumes with the same; None if all is as usual."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, {}, ())}
        lists = {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
        return lists or None
