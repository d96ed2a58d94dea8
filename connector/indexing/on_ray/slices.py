"""Slices of an index: documents of a shard at one point in time, by the numbers of their writes.

A slice is the same whenever it is read, so a task of Ray that is run again gives the same batches.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.reading import pages_at, scan_errors, search_at, search_body
from latent_ingest.connector.indexing import enrich
from latent_ingest.connector.indexing.enrich import Batch, Texts
from latent_ingest.connector.indexing.on_ray.settings import client_of


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a shard."""

    number: int
    """Number of the slice, from 0."""
    point: str
    """Id of the point in time."""
    after: int
    """The latest write of each document has a number (`_seq_no`) after this."""
    upto: int
    """The last such number."""
    done: frozenset[int] = frozenset()
    """Numbers of the batches that the driver has."""


@dataclass(slots=True)
class SliceBatch:
    """A batch of documents of a slice."""

    slice: int
    number: int
    """Number of the batch in its slice, from 0."""
    batch: Batch = field(default_factory=Batch)
    has_text: bool = False
    """Whether a document of the slice so far has text."""
    unseen: Sequence[str] = ()
    """Fields that no document of the slice so far has."""
    ended: bool = False
    """Whether the slice ends here."""
    left: bool = False
    """Whether it was not encoded, since the run is to end."""
    problem: str | None = None
    """Why the run must end."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to encode."""
        return not self.batch.texts


@dataclass(frozen=True, slots=True)
class SliceReading:
    """How a worker reads slices."""

    connection: Connection
    index: str
    """Own name of the index."""
    meta: IndexMeta
    characters: int
    """Characters of text in a batch."""
    give_up_after: float
    """Seconds of refusals or silence after which the run ends."""

    def batches(self, part: Slice) -> Generator[SliceBatch]:
        """The batches of a slice; the last says so, or what is wrong."""
        number, texts = 0, Texts(self.meta)
        index = Index(client_of(self.connection), self.index)
        retry = Retry(index.client, give_up_after=self.give_up_after)
        try:
            with scan_errors(index):
                body = between(search_body(self.meta, 1.0), part.after, part.upto)
                pages = pages_at(index, self.meta, part.point, body, retry)
                for batch in enrich.batches(pages, self.meta, self.characters, texts.of):
                    if number not in part.done:
                        yield SliceBatch(part.number, number, batch, texts.found, texts.unseen)
                    number += 1
            yield SliceBatch(part.number, number, ended=True, unseen=texts.unseen)
        except EngineError as error:
            yield SliceBatch(part.number, number, problem=str(error), unseen=texts.unseen)


def between(body: dict[str, Any], after: int, upto: int) -> dict[str, Any]:
    """A search of the documents whose latest writes are in a range of numbers."""
    numbers = {"range": {"_seq_no": {"gt": after, "lte": upto}}}
    chosen = body["query"]["bool"]
    return {**body, "query": {"bool": {**chosen, "filter": [numbers]}}}


def slices_of(
    index: Index, points: Sequence[str], retry: Retry, documents: int, least: int
) -> list[Slice]:
    """Slices of about so many documents, at least `least` in all; each point has one shard."""
    found: list[Slice] = []
    for point in points:
        ends: list[int] = []
        total = 0
        for order in ("asc", "desc"):
            body = {"size": 1, "sort": [{"_seq_no": order}], "track_total_hits": True}
            hits = search_at(index, point, {**body, "_source": False}, retry)
            total = hits["total"]["value"]
            ends += [hit["sort"][0] for hit in hits["hits"]]
        if not ends:
            continue
        first, last = ends
        parts = max(-(-total // documents), -(-least // len(points)))
        width = max(1, -(-(last - first + 1) // parts))
        found += [
            Slice(len(found) + number, point, after, min(after + width, last))
            for number, after in enumerate(range(first - 1, last, width))
        ]
    return found


def fill(batch: Batch, encoder: Any, meta: IndexMeta) -> None:
    """Encode a batch, and leave out of it what the driver does not need: the texts."""
    enrich.fill(batch, encoder, meta)
    batch.texts, batch.stale = [], []
    batch.actions = [
        replace(action, stored=replace(action.stored, source={})) for action in batch.actions
    ]
    batch.failed = [(replace(stored, source={}), reason) for stored, reason in batch.failed]
