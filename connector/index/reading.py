"""Reading the documents of an index: shard by shard, each at one point in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, OpenSearchException

from latent_ingest.connector.document_text import text_in
from latent_ingest.connector.engine.client import EngineInfo, engine_errors, reason_of, url_of
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.prefetch import prefetch

# Maximum of documents per request; fewer if they are long.
PAGE = 200
FIRST_PAGE = 20
PAGE_CHARACTERS = 1_000_000

# Shards read at the same time, and pages of each that are fetched ahead.
READERS = 4
AHEAD = 1

# How long the engine keeps the reading position between two requests: longer than all the retries
# of a bulk request.
KEEP_ALIVE = "30m"

HAS_LATENTS = "has_latents"


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as it is stored in the engine."""

    id: str
    routing: str | None
    seq_no: int
    """Identifies, with `primary_term`, the state of the document that was read."""
    primary_term: int
    source: dict[str, Any]
    """Text fields, and the hash field."""
    has_latents: bool = False

    @classmethod
    def of(cls, hit: dict[str, Any]) -> Stored:
        """The document in a search hit, or in an `_mget` answer, which lacks `has_latents`."""
        return cls(
            hit["_id"],
            hit.get("_routing"),
            hit["_seq_no"],
            hit["_primary_term"],
            hit["_source"],
            HAS_LATENTS in hit.get("matched_queries", ()),
        )


def scan(
    index: Index, meta: IndexMeta, shards: int, retry: Retry, share: float = 1.0
) -> Generator[list[Stored]]:
    """Read all documents, in pages, as they are when the reading of their shard begins.

    `shards` is the number of primary shards; of a `share` below 1, about that share of the
    documents is read, chosen at random, the same each time. Raises EngineError, also if the engine
    has lost the reading position.
    """
    read = point_in_time if retry.ask(has_points_in_time, index.client) else scroll
    waiting = deque(range(shards))
    active: deque[Generator[list[Stored]]] = deque()
    try:
        while waiting or active:
            while waiting and len(active) < READERS:
                active.append(prefetch(read(index, meta, waiting.popleft(), retry, share), AHEAD))
            page = next(active[0], None)
            if page is None:
                active.popleft()
            else:
                active.rotate(-1)
                yield page
    finally:
        for reader in active:
            reader.close()


def has_points_in_time(client: OpenSearch) -> bool:
    """Whether the engine has points in time as opensearch-py asks for them; raises EngineError."""
    engine = EngineInfo.read(client)
    return engine.distribution == "opensearch" and engine.version >= (2, 4)


def point_in_time(
    index: Index, meta: IndexMeta, shard: int, retry: Retry, share: float
) -> Generator[list[Stored]]:
    """Read the pages of a shard. Requests that fail are sent again, which changes nothing."""
    with scan_errors(index), open_point(index, shard, retry) as point:
        yield from pages_at(index, meta, point, search_body(meta, share), retry)


@contextmanager
def open_point(index: Index, shard: int, retry: Retry) -> Iterator[str]:
    """A context with the id of a point in time of a shard."""
    client = index.client
    # One shard only: within a shard, `_doc` is a total order.
    params = {"keep_alive": KEEP_ALIVE, "preference": f"_shards:{shard}"}
    params["allow_partial_pit_creation"] = "false"
    point = retry(client.create_pit, index=index.name, params=params)["pit_id"]
    try:
        yield point
    finally:
        with suppress(OpenSearchException):
            client.delete_pit(body={"pit_id": [point]})


def search_at(index: Index, point: str, body: dict[str, Any], retry: Retry) -> dict[str, Any]:
    """The `hits` of a search at a point in time, which the engine keeps for longer then."""
    body = {**body, "pit": {"id": point, "keep_alive": KEEP_ALIVE}}
    params = {"allow_partial_search_results": "false"}
    found: dict[str, Any] = retry(index.client.search, body=body, params=params)["hits"]
    return found


def pages_at(
    index: Index, meta: IndexMeta, point: str, body: dict[str, Any], retry: Retry
) -> Generator[list[Stored]]:
    """The pages of a search (`search_body`) at a point in time; each time, they are the same."""
    body = {**body, "track_total_hits": False}
    while hits := search_at(index, point, body, retry)["hits"]:
        body["search_after"] = hits[-1]["sort"]
        page = [Stored.of(hit) for hit in hits]
        length = sum(len(text_in(one.source, meta.text_fields)) for one in page)
        fitting = len(page) * PAGE_CHARACTERS // max(length, 1)
        body["size"] = max(1, min(PAGE, fitting))
        yield page


def scroll(
    index: Index, meta: IndexMeta, shard: int, _retry: Retry, share: float
) -> Generator[list[Stored]]:
    """Read the pages of a shard, for engines without points in time.

    A request that fails ends the scan: sent again, it would skip a page.
    """
    client = index.client
    with scan_errors(index):
        answer = client.search(
            index=index.name,
            body={**search_body(meta, share), "size": PAGE},
            params={
                "scroll": KEEP_ALIVE,
                "preference": f"_shards:{shard}",
                "allow_partial_search_results": "false",
            },
        )
        try:
            while hits := answer["hits"]["hits"]:
                yield [Stored.of(hit) for hit in hits]
                answer = client.scroll(
                    body={"scroll_id": answer["_scroll_id"], "scroll": KEEP_ALIVE}
                )
        finally:
            with suppress(OpenSearchException):
                client.clear_scroll(body={"scroll_id": [answer["_scroll_id"]]})


@contextmanager
def scan_errors(index: Index) -> Iterator[None]:
    """Turn the client's exceptions into one EngineError, also if the engine lost the position."""
    with engine_errors(index.client):
        try:
            yield
        except NotFoundError as error:
            raise EngineError(
                f"{url_of(index.client)} has lost the reading position in index {index.name}: "
                f"{reason_of(error)}"
            ) from error


def search_body(meta: IndexMeta, share: float) -> dict[str, Any]:
    """The request body for a page; the latent terms themselves are not fetched."""
    chosen: dict[str, Any] = {"match_all": {}}
    if share < 1:
        chosen = {
            "function_score": {
                "random_score": {"seed": 0, "field": "_seq_no"},
                "boost_mode": "replace",
                "min_score": 1 - share,
            }
        }
    has_latents = {"exists": {"field": meta.latent_field, "_name": HAS_LATENTS}}
    return {
        "size": FIRST_PAGE,
        "sort": ["_doc"],
        "query": {"bool": {"filter": [chosen], "should": [has_latents]}},
        "_source": {"includes": source_fields(meta)},
        "seq_no_primary_term": True,
    }


def fetch(index: Index, meta: IndexMeta, stored: Sequence[Stored], retry: Retry) -> list[Stored]:
    """Read documents again, at most a page, as they are now, without those that were deleted."""
    wanted = [
        {"_id": one.id, **({"routing": one.routing} if one.routing else {})} for one in stored
    ]
    with engine_errors(index.client):
        answer = retry(
            index.client.mget,
            body={"docs": wanted},
            index=index.name,
            params={"_source_includes": ",".join(source_fields(meta))},
        )
    return [Stored.of(found) for found in answer["docs"] if found.get("found")]


def source_fields(meta: IndexMeta) -> list[str]:
    """Names of the fields that are read."""
    return [*meta.text_fields, *([meta.hash_field] if meta.hash_field else [])]
