"""Latent terms for documents that are in the index already → partial updates → one ending each.

An update holds only against the state of the document that was read: what somebody else has
written since is never overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError

from latent_ingest.connector.client import reason_in
from latent_ingest.connector.corpus import text_hash
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.indexing import bulk
from latent_ingest.connector.indexing.patience import BLOCKED, PASSING, NotYet, Patience
from latent_ingest.connector.indexing.scan import Stored

Ending = Literal["encoded", "conflict", "deleted", "failed", "left"]


@dataclass(frozen=True, slots=True)
class Update:
    """Latent terms ready to be sent."""

    stored: Stored
    body: bytes
    """Its two lines of a bulk request."""
    empty: bool
    """Whether its text gives no latents."""
    truncated: bool
    """Whether its text was cut at the backbone's window."""
    pooled: bool
    """Whether it was encoded in several windows."""


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """How an update ended."""

    update: Update
    ending: Ending
    """"conflict": the document has changed since it was read; "deleted": it is gone; "left": the
    engine takes nothing more."""
    reason: str | None = None
    """Of the last two."""


def make_update(
    stored: Stored,
    meta: IndexMeta,
    latent_string: str,
    text: str,
    *,
    truncated: bool = False,
    pooled: bool = False,
) -> Update:
    """The bulk lines that give a document its latent terms unless it changed since it was read."""
    target: dict[str, Any] = {
        "_id": stored.id,
        "if_seq_no": stored.seq_no,
        "if_primary_term": stored.primary_term,
    }
    if stored.routing is not None:
        target["routing"] = stored.routing
    assert meta.hash_field is not None
    doc = {meta.latent_field: latent_string, meta.hash_field: text_hash(text)}
    lines = f"{json.dumps({'update': target})}\n{json.dumps({'doc': doc})}\n"
    return Update(stored, lines.encode(), not latent_string, truncated, pooled)


def update_requests(updates: Sequence[Update]) -> Iterator[list[Update]]:
    """Cut updates into requests by count and bytes."""
    request: list[Update] = []
    size = 0
    for update in updates:
        full = len(request) >= bulk.MAX_DOCUMENTS or size + len(update.body) > bulk.MAX_BYTES
        if request and full:
            yield request
            request, size = [], 0
        request.append(update)
        size += len(update.body)
    if request:
        yield request


def send_updates(
    client: OpenSearch, index: str, updates: Sequence[Update], patience: Patience
) -> list[UpdateOutcome]:
    """Send one request until each update has its outcome, or it is time to give up.

    A request whose answer was lost is sent again: what it had changed comes back as a conflict.
    """
    outcomes: list[UpdateOutcome] = []
    pending = list(updates)

    def once() -> None:
        pending[:], why = send_once(client, index, pending, outcomes)
        if pending:
            raise NotYet(f"the engine turns documents away ({why})")

    try:
        patience(once)
    except (OpenSearchException, NotYet) as error:
        if isinstance(error, TransportError) and error.status_code == 413:
            return outcomes + send_halves(client, index, pending, patience)
        reason = patience.in_words(error)
        outcomes += [UpdateOutcome(update, "left", reason) for update in pending]
    return outcomes


def send_halves(
    client: OpenSearch, index: str, updates: Sequence[Update], patience: Patience
) -> list[UpdateOutcome]:
    """Send a request that was too large as two; a single update fails."""
    if len(updates) == 1:
        size = len(updates[0].body)
        reason = f"too large for the engine: {size:,} bytes (http.max_content_length)"
        return [UpdateOutcome(updates[0], "failed", reason)]
    middle = len(updates) // 2
    first = send_updates(client, index, updates[:middle], patience)
    return first + send_updates(client, index, updates[middle:], patience)


def send_once(
    client: OpenSearch, index: str, updates: Sequence[Update], outcomes: list[UpdateOutcome]
) -> tuple[list[Update], str]:
    """One request; adds what ended to `outcomes`, returns what did not and why."""
    answer = client.bulk(body=b"".join(update.body for update in updates), index=index)
    items = answer.get("items", []) if isinstance(answer, dict) else []
    if len(items) != len(updates):
        raise NotYet(f"the engine answered for {len(items)} of {len(updates)} documents")
    turned_away: list[Update] = []
    why = ""
    for update, item in zip(updates, items, strict=True):
        result = item["update"]
        error = result.get("error", {})
        if result["status"] in PASSING or error.get("type") in BLOCKED:
            turned_away.append(update)
            why = f"{result['status']}: {reason_in(error)}"
        elif result["status"] == 409:
            outcomes.append(UpdateOutcome(update, "conflict"))
        elif error.get("type") == "document_missing_exception":
            outcomes.append(UpdateOutcome(update, "deleted"))
        elif error:
            outcomes.append(UpdateOutcome(update, "failed", reason_in(error)))
        else:
            outcomes.append(UpdateOutcome(update, "encoded"))
    return turned_away, why
