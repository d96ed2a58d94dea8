"""The documents of an index that were written since: read in the order of their writes.

No write is passed over: the index is refreshed after its global checkpoints are known, so that all
documents up to them can be found. A document that is written again meanwhile has a later number,
and is found by it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.document_text import text_in
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry, TryAgain
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.index.reading import (
    FIRST_PAGE,
    HAS_LATENTS,
    PAGE,
    PAGE_CHARACTERS,
    Stored,
    source_fields,
)

# Sequence numbers that one request asks for. The engine marks all documents with such numbers
# before it gives the first of them: among 400,000 documents, a page took 1.4 times as long without
# this bound, and it takes longer the more there are.
WINDOW = 100_000

REPLICATION = "index.replication.type"


@dataclass(frozen=True, slots=True)
class Changes:
    """Documents of a shard, all whose latest writes are in a range of numbers."""

    shard: int
    documents: list[Stored]
    upto: int
    """The last number of the range."""

    def __iter__(self) -> Iterator[Stored]:
        return iter(self.documents)


class Pace:
    """A bound on documents per second."""

    def __init__(self, rate: float | None, ended: threading.Event) -> None:
        """Allow `rate` documents per second, None for any; no longer wait once `ended` is set."""
        self.most = max(1, int(rate)) if rate else PAGE
        """Documents to read at once."""
        self._rate = rate
        self._ended = ended
        self._free = 0.0

    def wait(self, documents: int) -> None:
        """Wait as long as so many documents may take."""
        if self._rate:
            now = time.monotonic()
            self._free = max(now, self._free) + documents / self._rate
            self._ended.wait(self._free - now)


class ChangeReader:
    """Reads the changes of one index."""

    def __init__(self, index: ExistingIndex, meta: IndexMeta, retry: Retry, pace: Pace) -> None:
        """Ask for nothing yet."""
        self._client: OpenSearch = index.index.client
        self._name = index.name
        self._shards = index.shards
        # With document replication, a refresh makes writes visible in all copies; with segment
        # replication, the others copy the segments of the primary one some time later.
        segments = str(index.settings.get(REPLICATION)).upper() == "SEGMENT"
        self._which = "|_primary" if segments else ""
        self._meta = meta
        self._retry = retry
        self._pace = pace
        self._size = FIRST_PAGE

    def refresh(self) -> None:
        """Make all documents searchable; raises EngineError."""
        self._retry.ask(self._refresh)

    def _refresh(self) -> None:
        with engine_errors(self._client):
            shards = self._client.indices.refresh(index=self._name)["_shards"]
        if shards["failed"] or shards["successful"] < self._shards:
            raise TryAgain(f"index {self._name}: a shard could not be refreshed ({shards})")

    def read(self, ranges: Mapping[int, tuple[int, int]], seconds: float) -> Generator[Changes]:
        """Read the shards' ranges (after, up to), a page of each in turn, for some seconds.

        Raises EngineError.
        """
        deadline = time.monotonic() + seconds
        waiting = deque((shard, *bounds) for shard, bounds in ranges.items())
        while waiting and time.monotonic() < deadline and not self._retry.ended.is_set():
            shard, after, last = waiting.popleft()
            size = min(self._size, self._pace.most)
            page, upto = self._page(shard, after, min(last, after + WINDOW), size)
            yield Changes(shard, page, upto)
            self._pace.wait(len(page))
            if upto < last:
                waiting.append((shard, upto, last))

    def _page(self, shard: int, after: int, upto: int, size: int) -> tuple[list[Stored], int]:
        """The first documents of a range, and the number up to which there are no others."""
        body = self._body(after, upto, size)
        params = {
            "preference": f"_shards:{shard}{self._which}",
            "allow_partial_search_results": "false",
        }
        answer = self._retry.ask(self._client.search, index=self._name, body=body, params=params)
        page = [Stored.of(hit) for hit in answer["hits"]["hits"]]
        if page:
            length = sum(len(text_in(one.source, self._meta.text_fields)) for one in page)
            self._size = max(1, min(PAGE, len(page) * PAGE_CHARACTERS // max(length, 1)))
        return page, page[-1].seq_no if len(page) == size else upto

    def _body(self, after: int, upto: int, size: int) -> dict[str, Any]:
        has_latents = {"exists": {"field": self._meta.latent_field, "_name": HAS_LATENTS}}
        numbers = {"range": {"_seq_no": {"gt": after, "lte": upto}}}
        return {
            "size": size,
            "sort": ["_seq_no"],
            "query": {"bool": {"filter": [numbers], "should": [has_latents]}},
            "_source": {"includes": source_fields(self._meta)},
            "seq_no_primary_term": True,
            "track_total_hits": False,
        }
