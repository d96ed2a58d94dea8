"""Documents in chunks: how a chunk is stored, and how stale chunks are deleted.

A chunk has the id `<parent>#<number>` and, beside the document's fields, those of `CHUNK_FIELDS`:
`parent_id`, `chunk` (its number, from 0), `chunks` (number of chunks of the document), and `start`
and `end` in the encoded text, in characters. The last text field of a long document is divided
among its chunks; every other field is in each chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from itertools import islice
from typing import Any

from opensearchpy import helpers

from latent_ingest.connector.document import Document
from latent_ingest.connector.document_text import replaced, text_in
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.actions import (
    DeleteAction,
    IndexAction,
    Verdict,
    delete_action,
    index_lines,
    version_of,
)
from latent_ingest.connector.indexing.sender import CONCURRENCY, Outcome, Sender, requests

# Chunks per request.
AT_ONCE = 500

Stored = dict[str, Any]
"""`_source` of a chunk in the index."""


def chunk_id(parent: str, number: int) -> str:
    """The `_id` of a chunk."""
    return f"{parent}#{number}"


def parent_of(identifier: str) -> tuple[str, int] | None:
    """Parent and number in the `_id` of a chunk; None if it is not a chunk's."""
    parent, hash_sign, number = identifier.rpartition("#")
    is_number = number.isascii() and number.isdigit() and str(int(number)) == number
    return (parent, int(number)) if hash_sign and is_number else None


def chunk_fields(
    document: Document, text_fields: Sequence[str], spans: Sequence[Sequence[int]], number: int
) -> dict[str, Any]:
    """Fields of chunk `number` of a document, without latent terms.

    `spans` are start and end of all its chunks in the encoded text, in characters.
    """
    start, end = spans[number]
    fields = {
        **document.fields,
        "parent_id": document.id,
        "chunk": number,
        "chunks": len(spans),
        "start": start,
        "end": end,
    }
    if len(spans) > 1:
        name, offset = last_text(document, text_fields)
        if name in document.fields:
            fields[name] = document.text[max(start, offset) : max(end, offset)]
        else:
            fields |= with_part(document.fields, name, start - offset, end - offset)
    return fields


def chunks_action(
    document: Document,
    run: int,
    meta: IndexMeta,
    strings: Sequence[str],
    spans: Sequence[Sequence[int]],
) -> IndexAction:
    """Index a document in chunks: `strings` and `spans` are the latent terms and place of each."""
    version = version_of(document, run)
    ids = [chunk_id(document.id, number) for number in range(len(strings))]
    parts = []
    for number, string in enumerate(strings):
        fields = chunk_fields(document, meta.text_fields, spans, number)
        source = {**fields, meta.latent_field: string}
        parts.append(index_lines(ids[number], version, source))
    return IndexAction(
        id=document.id,
        body=b"".join(parts),
        n_answers=len(parts),
        empty=not any(strings),
        document=document,
        version=version,
        ids=ids,
    )


def last_text(document: Document, text_fields: Sequence[str]) -> tuple[str, int]:
    """Name of the last text field that is not empty, and its offset in the encoded text."""
    for name in reversed(text_fields):
        if text := text_in(document.fields, [name]):
            return name, len(document.text) - len(text)
    raise ValueError(f"document {document.id!r} has no text")


def with_part(fields: dict[str, Any], path: str, start: int, end: int) -> dict[str, Any]:
    """Fields with a part of the text at a path: each of its values with what is in that part."""
    position = 0

    def part(value: Any) -> Any:
        nonlocal position
        if not value:
            return value
        first, position = position, position + len(value) + 1  # the space between two values
        return value[max(start - first, 0) : max(end - first, 0)]

    changed: dict[str, Any] = replaced(fields, path, part)
    return changed


def stored_chunks(
    index: Index, parents: Sequence[str], hidden: str | None = None
) -> Iterator[list[Stored | None]]:
    """The chunks of each document in the index, with None for each that is missing.

    The first chunk says how many a document has; if it is missing, the result is `[None]`. For
    `hidden` see `stored`.
    """
    firsts = list(stored(index, [chunk_id(parent, 0) for parent in parents], hidden))
    counts = [first["chunks"] if first else 1 for first in firsts]
    others = (
        chunk_id(parent, number)
        for parent, count in zip(parents, counts, strict=True)
        for number in range(1, count)
    )
    rest = stored(index, others, hidden)
    for first, count in zip(firsts, counts, strict=True):
        yield [first, *islice(rest, count - 1)]


def stored(index: Index, ids: Iterable[str], hidden: str | None = None) -> Iterator[Stored | None]:
    """`_source` of documents by id, None for each that does not exist.

    `hidden` is a field excluded from `_source`; it is added, empty, to documents that have it.
    """
    left = iter(ids)
    while some := list(islice(left, AT_ONCE)):
        having = with_field(index, some, hidden) if hidden else ()
        for found in index.client.mget(body={"ids": some}, index=index.name)["docs"]:
            if not found.get("found"):
                yield None
            elif hidden and found["_id"] in having:
                yield {**found["_source"], hidden: ""}
            else:
                yield found["_source"]


def with_field(index: Index, ids: Sequence[str], field: str) -> set[str]:
    """Ids of the documents that have an indexed field, as of the last refresh."""
    having = [{"ids": {"values": ids}}, {"exists": {"field": field}}]
    body = {"size": len(ids), "_source": False, "query": {"bool": {"filter": having}}}
    found = index.client.search(body=body, index=index.name)
    return {hit["_id"] for hit in found["hits"]["hits"]}


def spans_of(chunks: Sequence[Stored], length: int) -> list[tuple[int, int]] | None:
    """Start and end of a document's chunks; None if they do not cover a text of that length."""
    spans = [(chunk.get("start", -1), chunk.get("end", -1)) for chunk in chunks]
    ends = [0, *(end for _, end in spans)]
    whole = all(start == end for (start, _), end in zip(spans, ends, strict=False))
    return spans if whole and ends[-1] == length else None


def delete_stale(index: Index, retry: Retry, concurrency: int = CONCURRENCY) -> int:
    """Delete the chunks of documents that now have fewer; returns the number of deleted chunks.

    Reads the ids of all chunks but the first of each document. A chunk that somebody else writes
    meanwhile stays. Raises EngineError.
    """
    sent: list[Future[list[Outcome[DeleteAction]]]] = []

    def scan_and_delete() -> None:
        index.refresh()
        for actions in stale_chunks(index):
            sent.extend(sender.submit(request) for request in requests(actions))
            if retry.ended.is_set():
                return

    target = {"index": index.name}
    with closing(Sender[DeleteAction](index.client, target, retry, concurrency)) as sender:
        retry.ask(scan_and_delete)
    outcomes = [outcome for future in sent for outcome in future.result()]
    for outcome in outcomes:
        if outcome.verdict in (None, Verdict.FAILED):
            raise EngineError(f"stale chunks cannot be deleted: {outcome.reason}")
    if deleted := sum(outcome.verdict is Verdict.DONE for outcome in outcomes):
        index.refresh()
    return deleted


def stale_chunks(index: Index) -> Iterator[list[DeleteAction]]:
    """Delete actions for chunks whose number is not below their document's number of chunks."""
    query = {
        "query": {"range": {"chunk": {"gt": 0}}},
        "_source": ["parent_id", "chunk"],
        "seq_no_primary_term": True,
    }
    hits = helpers.scan(index.client, index=index.name, query=query, size=AT_ONCE)
    while some := list(islice(hits, AT_ONCE)):
        parents = sorted({hit["_source"]["parent_id"] for hit in some})
        ids = {"ids": [chunk_id(parent, 0) for parent in parents]}
        firsts = index.client.mget(body=ids, index=index.name, _source=["chunks"])["docs"]
        # Without its first chunk, nothing is known of a document: its other chunks stay.
        counts = {
            parent: first["_source"]["chunks"] if first.get("found") else float("inf")
            for parent, first in zip(parents, firsts, strict=True)
        }
        yield [
            delete_action(hit)
            for hit in some
            if hit["_source"]["chunk"] >= counts[hit["_source"]["parent_id"]]
        ]
