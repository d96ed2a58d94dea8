"""First hits: the request for them, and the latent terms that they hold.

request body → request for its first hits → hits → their latent terms → expansion

A document's latent terms are in its `_source`. Lean indices leave them out there; term vectors have
them if the mapping stores these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from opensearchpy.exceptions import TransportError

from latent_ingest.connector import terms
from latent_ingest.connector.document_text import texts_at
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.feedback.expansion import FEEDBACK_HITS, Counts, Document
from latent_ingest.connector.querying.indices.asked_indices import raise_if_unanswered
from latent_ingest.connector.querying.request import BY_SCORE, asks_for_none, sort_keys

Body = dict[str, Any]
Hit = Mapping[str, Any]
Send = Callable[..., Awaitable[Any]]
Result = TypeVar("Result")

# Parts of a request that change neither its first hits nor their order.
NOT_NEEDED = {
    "_source", "aggregations", "aggs", "docvalue_fields", "explain", "fields", "from", "highlight",
    "include_named_queries_score", "profile", "script_fields", "search_after",
    "seq_no_primary_term", "stats", "stored_fields", "suggest", "track_scores", "version",
}  # fmt: skip

# Documents, or chunks, that are read by their ids, and chunks of each.
MOST_DOCUMENTS = 1000
CHUNKS = 20

# Characters of a document's latent terms that are read; a document of 10,000 latents has about
# 200,000 in the repeat spelling.
MOST_CHARACTERS = 1_000_000

# A document with a latent beyond this was written by something else.
MOST_LATENTS = 2**31


def no_feedback_because(body: Mapping[str, Any]) -> str | None:
    """Return the reason why feedback would not change the hits of a request; None if it would."""
    if sort_keys(dict(body))[:1] not in BY_SCORE:
        return "none, since the hits are not sorted by score"
    if asks_for_none(dict(body)):
        return "none, since no hits are asked for"
    if "query" not in body:
        return "none, since the request has no query"
    return None


def first_hits_request(body: Mapping[str, Any], latent_field: str) -> Body:
    """Return the request for the first hits of a request body, with their latent terms alone."""
    kept = {name: part for name, part in body.items() if name not in NOT_NEEDED}
    if isinstance(kept.get("collapse"), dict):
        kept["collapse"] = {"field": kept["collapse"].get("field")}
    needed = {"size": FEEDBACK_HITS, "track_total_hits": False, "_source": [latent_field]}
    return {**kept, **needed}


def documents_request(ids: Sequence[str], latent_field: str, parent: str | None) -> Body:
    """Return the request for documents by their `_id`, with their latent terms alone.

    In an index of chunks, `parent` is the field by which all chunks of a document are found.
    """
    query: Body = {"ids": {"values": list(ids)}}
    if parent:
        query = {"bool": {"should": [query, {"terms": {parent: list(ids)}}]}}
    size = min(MOST_DOCUMENTS, len(ids) * (CHUNKS if parent else 1))
    return {"query": query, "size": size, "_source": [latent_field], "track_total_hits": False}


def text_in(hit: Hit, latent_field: str) -> str:
    """Return the latent terms of a hit as they are written; "" if its `_source` has none."""
    source = hit.get("_source")
    return " ".join(texts_at(source, latent_field)) if isinstance(source, dict) else ""


def counts_in(hit: Hit, latent_field: str) -> Counts:
    """Return latent → count of a hit; empty if it holds none, or something else."""
    text = text_in(hit, latent_field)
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS].rpartition(" ")[0]
    try:
        counts = terms.parse(text, "delimited")  # the repeat spelling is read too
    except (InputError, ValueError):  # int() refuses thousands of digits
        return {}
    return counts if max(counts, default=0) < MOST_LATENTS else {}


def documents_of(
    hits: Sequence[Hit], latent_field: str, indices: Collection[str]
) -> tuple[list[Document], list[str]]:
    """Return the hits that hold latent terms, and notes on the others.

    Args:
        hits: hits of a response, the best first.
        latent_field: the field of the latent terms.
        indices: the indices whose latent terms are of the right model; empty for any.
    """
    documents: list[Document] = []
    lacking: list[str] = []
    foreign: list[str] = []
    for hit in hits:
        if indices and hit.get("_index", "") not in indices:
            foreign.append(str(hit.get("_id")))
        elif counts := counts_in(hit, latent_field):
            documents.append(Document(str(hit.get("_id")), counts))
        else:
            lacking.append(str(hit.get("_id")))
    notes = []
    if not hits:
        notes.append("none, since there are no hits")
    elif not documents:
        notes.append("none, since no hit holds latent terms that can be read")
    if documents and lacking:
        notes.append(f"not of {', '.join(lacking)}, without latent terms that can be read")
    if foreign:
        notes.append(f"not of {', '.join(foreign)}, in an index that may be of another model")
    return documents, notes


async def with_term_vectors(hits: Sequence[Hit], latent_field: str, vectors: Send) -> Sequence[Hit]:
    """Return hits with the latent terms that their term vectors have, where `_source` has none.

    `vectors` is the client's `mtermvectors`.
    """
    lacking = [hit for hit in hits if not text_in(hit, latent_field)]
    if not lacking:
        return hits
    asked = [
        {
            "_index": hit["_index"],
            "_id": hit["_id"],
            **({"routing": hit["_routing"]} if "_routing" in hit else {}),
            "fields": [latent_field],
            **dict.fromkeys(("positions", "offsets", "field_statistics"), False),
        }
        for hit in lacking
    ]
    try:
        answer = await vectors(body={"docs": asked})
    except TransportError as error:
        raise_if_unanswered(error)
        return hits
    found = {
        (one["_index"], one["_id"]): one.get("term_vectors", {}).get(latent_field, {})
        for one in answer["docs"]
    }
    return [
        hit
        if text_in(hit, latent_field)
        else filled(hit, latent_field, found.get((hit["_index"], hit["_id"])))
        for hit in hits
    ]


def filled(hit: Hit, latent_field: str, vector: Mapping[str, Any] | None) -> Hit:
    """Return a hit with the terms of a term vector in its `_source`."""
    counts = (vector or {}).get("terms", {})
    text = " ".join(f"{term}|{one['term_freq']}" for term, one in counts.items())
    return {**hit, "_source": {latent_field: text}} if text else hit


async def at_once(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Call a blocking function."""
    return function(*arguments, **options)


def finished(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of a coroutine that awaits only `at_once`, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("Result", done.value)
    raise RuntimeError("the coroutine waits for an event loop")
