"""Documents in chunks: how a chunk is stored, and chunks that a document no longer has.

A chunk has the id `<parent>#<number>` and, beside the document's fields, those of `CHUNK_FIELDS`:
`parent_id`, `chunk` (its number, from 0), `chunks` (how many the document has), and `start` and
`end` in the encoded text, in characters. The last text field of a long document is cut among its
chunks; every other field is in each of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from opensearchpy import OpenSearch, helpers
from opensearchpy.exceptions import OpenSearchException

from latent_ingest.connector.corpus import Document, text_of
from latent_ingest.connector.engine.client import engine_errors, reason_in
from latent_ingest.connector.engine.retry import BLOCKED, PASSING, Retry, TryAgain
from latent_ingest.connector.errors import EngineError

# Chunks asked for by one request.
AT_ONCE = 500

Stored = dict[str, Any]
"""A chunk as the index has it."""


def chunk_id(parent: str, number: int) -> str:
    """The `_id` of a chunk."""
    return f"{parent}#{number}"


def parent_of(identifier: str) -> tuple[str, int] | None:
    """The parent and the number in the `_id` of a chunk; none where it is no chunk's."""
    parent, hash_sign, number = identifier.rpartition("#")
    is_number = number.isascii() and number.isdigit() and str(int(number)) == number
    return (parent, int(number)) if hash_sign and is_number else None


def chunk_fields(
    document: Document, text_fields: Sequence[str], spans: Sequence[tuple[int, int]], number: int
) -> dict[str, Any]:
    """What is stored of a chunk, but for its latent terms.

    Args:
        document: the whole one.
        text_fields: that were encoded.
        spans: start and end of all its chunks in the encoded text.
        number: which chunk.
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
        name, begin = last_text(document, text_fields)
        fields[name] = document.text[max(start, begin) : max(end, begin)]
    return fields


def last_text(document: Document, text_fields: Sequence[str]) -> tuple[str, int]:
    """The last text field that is not empty, and where it begins in the encoded text."""
    for name in reversed(text_fields):
        if name in document.fields and (text := text_of(document.fields, [name])):
            assert isinstance(text, str)
            return name, len(document.text) - len(text)
    raise ValueError(f"document {document.id!r} has no text")


def stored_chunks(
    client: OpenSearch, index: str, parents: Sequence[str], hidden: str | None = None
) -> Iterator[list[Stored | None]]:
    """The chunks of each document as the index has them, with none where one is missing.

    How many a document has is what its first chunk says; where that is missing, it is the only.
    For `hidden` see `stored`.
    """
    firsts = list(stored(client, index, [chunk_id(parent, 0) for parent in parents], hidden))
    counts = [first["chunks"] if first else 1 for first in firsts]
    rest = stored(
        client,
        index,
        (
            chunk_id(parent, number)
            for parent, count in zip(parents, counts, strict=True)
            for number in range(1, count)
        ),
        hidden,
    )
    for first, count in zip(firsts, counts, strict=True):
        yield [first, *islice(rest, count - 1)]


def stored(
    client: OpenSearch, index: str, ids: Iterable[str], hidden: str | None = None
) -> Iterator[Stored | None]:
    """Documents of the engine by id, none where there is none.

    Args:
        client: of the engine.
        index: its name.
        ids: of the documents.
        hidden: a field that `_source` leaves out; documents that have it get it, without content.
    """
    left = iter(ids)
    while some := list(islice(left, AT_ONCE)):
        having = with_field(client, index, some, hidden) if hidden else ()
        for found in client.mget(body={"ids": some}, index=index)["docs"]:
            if not found.get("found"):
                yield None
            elif hidden and found["_id"] in having:
                yield {**found["_source"], hidden: ""}
            else:
                yield found["_source"]


def with_field(client: OpenSearch, index: str, ids: Sequence[str], field: str) -> set[str]:
    """Those of some documents in which a field is indexed, as of the last refresh."""
    having = [{"ids": {"values": ids}}, {"exists": {"field": field}}]
    body = {"size": len(ids), "_source": False, "query": {"bool": {"filter": having}}}
    return {hit["_id"] for hit in client.search(body=body, index=index)["hits"]["hits"]}


def spans_of(chunks: Sequence[Stored], length: int) -> list[tuple[int, int]] | None:
    """Start and end of a document's chunks, or none when they do not cover its text."""
    spans = [(chunk.get("start", -1), chunk.get("end", -1)) for chunk in chunks]
    ends = [0, *(end for _, end in spans)]
    whole = all(start == end for (start, _), end in zip(spans, ends, strict=False))
    return spans if whole and ends[-1] == length else None


def remove_stale(client: OpenSearch, index: str, retry: Retry) -> int:
    """Delete the chunks of documents that now have fewer; returns how many they were.

    Reads the ids of all chunks but the first ones. A chunk that somebody writes meanwhile stays.

    Raises:
        EngineError: the engine cannot be asked, or does not delete them.
    """
    removed = 0
    query = {
        "query": {"range": {"chunk": {"gt": 0}}},
        "_source": ["parent_id", "chunk"],
        "seq_no_primary_term": True,
    }

    def once() -> None:
        nonlocal removed
        client.indices.refresh(index=index)
        hits = helpers.scan(client, index=index, query=query, size=AT_ONCE)
        turned_away = None
        while some := list(islice(hits, AT_ONCE)):
            lines = [deletion(hit) for hit in stale(client, index, some)]
            items = client.bulk(body="".join(lines), index=index)["items"] if lines else []
            for result in (item["delete"] for item in items):
                error = result.get("error", {})
                if result["status"] == 200:
                    removed += 1
                elif result["status"] in PASSING or error.get("type") in BLOCKED:
                    turned_away = f"{result['status']}: {reason_in(error)}"
                elif result["status"] not in (404, 409):
                    raise EngineError(f"chunks of before cannot be deleted: {reason_in(error)}")
        if turned_away:
            raise TryAgain(f"the engine does not delete chunks of before ({turned_away})")

    try:
        retry(once)
    except (OpenSearchException, TryAgain) as error:
        raise EngineError(retry.in_words(error)) from error
    if removed:
        with engine_errors(client):
            client.indices.refresh(index=index)
    return removed


def deletion(hit: dict[str, Any]) -> str:
    """The line of a bulk request that deletes a document, if it is as it was read."""
    target = {
        "_id": hit["_id"],
        "if_seq_no": hit["_seq_no"],
        "if_primary_term": hit["_primary_term"],
    }
    return json.dumps({"delete": target}) + "\n"


def stale(client: OpenSearch, index: str, hits: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Chunks whose number their document no longer has."""
    parents = sorted({hit["_source"]["parent_id"] for hit in hits})
    ids = [chunk_id(parent, 0) for parent in parents]
    found = client.mget(body={"ids": ids}, index=index, _source=["chunks"])["docs"]
    counts = {
        parent: first["_source"]["chunks"]
        for parent, first in zip(parents, found, strict=True)
        if first.get("found")
    }
    for hit in hits:
        source = hit["_source"]
        if source["chunk"] >= counts.get(source["parent_id"], source["chunk"] + 1):
            yield hit
