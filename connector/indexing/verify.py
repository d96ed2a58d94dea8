"""Comparison of a corpus file with an index: missing, extra, different and stale documents.

The file is read twice, because the last of several lines with one id counts. Memory is bounded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from opensearchpy import helpers

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.finding import Sources, listed, piped
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.document import DEFAULT_ID_FIELDS, Document, parse_line
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta, missing_source
from latent_ingest.connector.index.pipelines import pipelines
from latent_ingest.connector.indexing.chunks import (
    Stored,
    chunk_fields,
    parent_of,
    spans_of,
    stored,
    stored_chunks,
)
from latent_ingest.connector.seen_keys import key_hash, temporary_database

log = logging.getLogger(__name__)

# Documents fetched by one request, bytes of their lines, and ids listed by one request.
AT_ONCE = 500
BYTES_AT_ONCE = 5_000_000
IDS_AT_ONCE = 5000

# Examples kept of each kind of difference.
EXAMPLES = 10


@dataclass(slots=True)
class Difference:
    """A kind of difference: the number of documents, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def extend(self, other: Difference) -> None:
        """Add those that were found later."""
        self.count += other.count
        self.examples = [*self.examples, *other.examples][:EXAMPLES]


@dataclass(slots=True)
class VerifyReport:
    """Counts of a comparison."""

    lines: int = 0
    same: int = 0
    """Documents that are the same in the index and in the file."""
    replaced: int = 0
    """Lines whose id occurs again later; the last one counts."""
    blank: int = 0
    failed: Difference = field(default_factory=Difference)
    """Lines that hold no document."""
    missing: Difference = field(default_factory=Difference)
    """Documents of the file that are not in the index."""
    different: Difference = field(default_factory=Difference)
    """Documents that have other fields in the index, or no latent terms."""
    stale: Difference = field(default_factory=Difference)
    """Documents whose text was changed in the index after it was encoded."""
    extra: Difference = field(default_factory=Difference)
    """Documents of the index that are not in the file."""
    doubled: Difference = field(default_factory=Difference)
    """Documents that are in the index more often than in the file, if the engine makes ids; they
    are also counted as the same, different or stale."""

    @property
    def ok(self) -> bool:
        """Whether the index holds exactly the file."""
        kinds = (self.failed, self.missing, self.different, self.stale, self.extra, self.doubled)
        return not any(kind.count for kind in kinds)

    def to_json(self) -> dict[str, Any]:
        """All counts and examples."""
        return {**asdict(self), "ok": self.ok}

    def extend(self, other: VerifyReport) -> None:
        """Add what was found in later lines."""
        for item in fields(self):
            value, more = getattr(self, item.name), getattr(other, item.name)
            if isinstance(value, Difference):
                value.extend(more)
            else:
                setattr(self, item.name, value + more)


class Verification:
    """One comparison of a corpus file with an index."""

    def __init__(
        self,
        index: Index,
        corpus: Sources,
        *,
        reading: Reading | None = None,
        id_fields: Sequence[str] = DEFAULT_ID_FIELDS,
        first: int = 0,
    ) -> None:
        """Open the files and read the index meta; raises as `Corpus` and `Index.meta`.

        Lines are numbered from `first` + 1.

        Also raises InputError if the file is standard input or another pipe, and MismatchError if
        the index does not keep its documents.
        """
        if piped(corpus):
            path = listed(corpus)[0]
            name = "standard input" if path == "-" else path
            raise InputError(f"{name} can be read only once; verify needs a file")
        self._read_index(index)
        self._reading = reading or Reading()
        if self._meta.sample != self._reading.sample:
            log.warning(
                "the latest ingest into index %s had %s; compare with the same",
                index.name,
                f"--sample {self._meta.sample}" if self._meta.sample else "no --sample",
            )
        self._id_fields = id_fields
        self.report = VerifyReport()
        self._last = temporary_database(
            "CREATE TABLE last (id INTEGER PRIMARY KEY, line INTEGER NOT NULL, chunks INTEGER,"
            " lines INTEGER NOT NULL DEFAULT 1);"
            "CREATE TABLE alike (content INTEGER PRIMARY KEY, lines INTEGER NOT NULL);"
        )
        self._corpus = Corpus(corpus, self._reading, first=first)
        self.file_bytes = self._corpus.size
        self.unit, self.name = self._corpus.unit, self._corpus.name

    def _read_index(self, index: Index) -> None:
        self._index = index
        mapping = index.mapping()
        self._meta = IndexMeta.from_mapping(index.name, mapping)
        if gap := missing_source(mapping, self._meta):
            raise MismatchError(f"index {index.name} {gap}, so there is nothing to compare")

    def run(self, on_progress: Callable[[int], None] = lambda position: None) -> VerifyReport:
        """Compare every line, then look for documents that are not in the file.

        `on_progress` is called every 1,000 lines with the bytes read; the file is read twice.
        Raises InputError if it is broken, and EngineError.
        """
        with engine_errors(self._index.client):
            self._index.refresh()
            self._say_pipelines()
            self._note_last_lines(on_progress)
            self._compare_documents(on_progress)
            self._find_extra()
        self._last.close()
        return self.report

    def _say_pipelines(self) -> None:
        names = []
        with suppress(EngineError):  # a login that may only read documents
            names = pipelines(self._index.settings())
        if names:
            log.warning(
                "documents pass through the ingest pipeline %s of index %s: what differs may be "
                "what it changed",
                " and ".join(names),
                self._index.name,
            )

    def _note_last_lines(self, on_progress: Callable[[int], None]) -> None:
        insert = (
            "INSERT INTO last (id, line) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET "
            "line = excluded.line, lines = lines + 1"
        )
        for document, _ in self._documents(on_progress, 0):
            self._last.execute(insert, (key_hash(document.id), document.line))
        self.report = VerifyReport()  # the second reading counts

    def _compare_documents(self, on_progress: Callable[[int], None]) -> None:
        waiting: list[Document] = []
        size = 0
        for document, length in self._documents(on_progress, self.file_bytes or 0):
            if self._noted("line", document.id) != document.line and not self._meta.id_field:
                self.report.replaced += 1
                continue
            waiting.append(document)
            size += length
            if len(waiting) == AT_ONCE or size >= BYTES_AT_ONCE:
                self._compare(waiting)
                waiting, size = [], 0
        if waiting:
            self._compare(waiting)

    def _documents(
        self, on_progress: Callable[[int], None], before: int
    ) -> Iterator[tuple[Document, int]]:
        """Each document, and the bytes of its line."""
        with self._corpus as file:
            for line in file:
                self.report.lines += 1
                if not self.report.lines % 1000:
                    on_progress(before + file.position)
                if not line.content.strip():
                    self.report.blank += 1
                    continue
                document = parse_line(
                    line,
                    id_fields=self._id_fields,
                    text_fields=self._meta.text_fields,
                    # An enriched index may hold documents that an ingest would refuse.
                    strict=bool(self._meta.analyzer),
                    change=self._reading.changes,
                )
                if isinstance(document, Document):
                    yield document, len(line.content)
                else:
                    self.report.failed.add(f"{self._place(line.number)}: {document.reason}")
            on_progress(before + file.position)

    def _place(self, number: int) -> str:
        return self._corpus.place(number).short

    def _noted(self, column: str, identifier: str) -> int | None:
        """A column of `last` for an id; None if the file has no such id."""
        query = f"SELECT {column} FROM last WHERE id = ?"
        found = self._last.execute(query, (key_hash(identifier),)).fetchone()
        return found[0] if found else None

    def _note_chunks(self, identifier: str, chunks: int) -> None:
        """Note how many chunks a document has in the index."""
        update = "UPDATE last SET chunks = ? WHERE id = ?"
        self._last.execute(update, (chunks, key_hash(identifier)))

    def _compare(self, documents: list[Document]) -> None:
        ids = [document.id for document in documents]
        index, hidden = self._index, self._meta.latent_field if self._meta.lean else None
        if self._meta.long == "chunks":
            self._compare_chunks(documents, stored_chunks(index, ids, hidden))
        elif self._meta.id_field:
            self._compare_copies(documents, self._meta.id_field)
        else:
            found = stored(index, ids, hidden)
            for document, source in zip(documents, found, strict=True):
                self._compare_one(document, [] if source is None else [source])

    def _compare_copies(self, documents: list[Document], id_field: str) -> None:
        """If the engine makes ids: compare each line with all documents that have its id."""
        copies: dict[str, list[Stored]] = {document.id: [] for document in documents}
        latents = {"exists": {"field": self._meta.latent_field, "_name": "latents"}}
        ours = {"filter": [{"terms": {id_field: list(copies)}}], "should": [latents]}
        query = {"query": {"bool": ours}}
        for hit in self._scan(query, AT_ONCE):
            if hit.get("matched_queries"):  # also if `_source` excludes latent terms
                hit["_source"].setdefault(self._meta.latent_field, "")
            copies[hit["_source"][id_field]].append(hit["_source"])
        for document in documents:
            found = copies[document.id]
            last, lines = (self._noted(column, document.id) or 1 for column in ("line", "lines"))
            self._compare_one(document, found, self._count_alike(document) if lines > 1 else 1)
            if document.line == last and len(found) > lines:
                more = f"is in the index {len(found)} times, {lines} in the file"
                self.report.doubled.add(f"document {document.id!r} {more}")

    def _count_alike(self, document: Document) -> int:
        """Number of lines up to this one with its id and its fields."""
        content = (key_hash(json.dumps([document.id, document.fields], sort_keys=True)),)
        self._last.execute(
            "INSERT INTO alike VALUES (?, 1) ON CONFLICT (content) DO UPDATE SET lines = lines + 1",
            content,
        )
        query = "SELECT lines FROM alike WHERE content = ?"
        return int(self._last.execute(query, content).fetchone()[0])

    def _compare_one(self, document: Document, stored: Sequence[Stored], needed: int = 1) -> None:
        """Compare a line with the documents of its id; `needed` of them must equal the line."""
        place = f"{self._place(document.line)}: document {document.id!r}"
        alike = [source for source in stored if not self._differs(document, source)]
        if not stored or 0 < len(alike) < needed:
            self.report.missing.add(place)
        elif not alike:
            self.report.different.add(f"{place}: {self._differs(document, stored[0])}")
        elif all(self._is_stale(document, source) for source in alike):
            self.report.stale.add(f"{place}: its latent terms are of another text")
        else:
            self.report.same += 1

    def _compare_chunks(
        self, documents: list[Document], stored: Iterator[list[Stored | None]]
    ) -> None:
        for document, chunks in zip(documents, stored, strict=True):
            place = f"{self._place(document.line)}: document {document.id!r}"
            self._note_chunks(document.id, len(chunks))
            if chunks == [None]:
                self.report.missing.add(place)
            elif reason := self._chunks_differ(document, chunks):
                self.report.different.add(f"{place}: {reason}")
            else:
                self.report.same += 1

    def _chunks_differ(self, document: Document, stored: Sequence[Stored | None]) -> str | None:
        """The difference in number, span or fields; None if there is none."""
        chunks = [chunk for chunk in stored if chunk is not None]
        if len(chunks) < len(stored):
            return f"chunk {stored.index(None)} is missing"
        spans = spans_of(chunks, len(document.text))
        if spans is None:
            return "its chunks are not of its text"
        for number, chunk in enumerate(chunks):
            fields = chunk_fields(document, self._meta.text_fields, spans, number)
            if reason := self._differs(replace(document, fields=fields), chunk):
                return f"chunk {number}: {reason}"
        return None

    def _differs(self, document: Document, stored: dict[str, Any]) -> str | None:
        """The difference in fields or latent terms; None if there is none."""
        wanted, absent = document.fields, object()
        names = sorted(
            name
            for name in (wanted.keys() | stored.keys()) - self._meta.own_fields
            if wanted.get(name, absent) != stored.get(name, absent)
        )
        if names:
            return f"other {', '.join(map(repr, names))}"
        return "no latent terms" if stored.get(self._meta.latent_field) is None else None

    def _is_stale(self, document: Document, stored: dict[str, Any]) -> bool:
        field = self._meta.hash_field
        return field is not None and stored.get(field) != document.text_hash

    def _scan(self, query: dict[str, Any], size: int, **named: Any) -> Iterator[dict[str, Any]]:
        client, name = self._index.client, self._index.name
        yield from helpers.scan(client, index=name, query=query, size=size, **named)

    def _find_extra(self, shard: int | None = None) -> None:
        """Look for documents that are not in the file: of one shard, or of all."""
        wanted = self._meta.id_field or False
        query: dict[str, Any] = {"query": {"match_all": {}}, "_source": wanted}
        where = {} if shard is None else {"preference": f"_shards:{shard}"}
        for hit in self._scan(query, IDS_AT_ONCE, **where):
            identifier = hit["_id"]
            if self._meta.id_field:
                identifier = hit["_source"].get(self._meta.id_field, identifier)
            if self._is_extra(identifier):
                self.report.extra.add(f"document {identifier!r}")

    def _is_extra(self, identifier: str) -> bool:
        if self._meta.long != "chunks":
            return self._noted("line", identifier) is None
        if (found := parent_of(identifier)) is None:
            return True
        parent, chunk = found
        return chunk >= (self._noted("chunks", parent) or 0)
