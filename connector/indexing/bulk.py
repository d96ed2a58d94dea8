"""Encoded documents → actions → bulk requests; and how each document ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latent_ingest.connector.corpus import Document

# A request holds at most this many documents and bytes; one document larger than that goes
# alone. 5 to 10 MB is the useful size; the engine refuses above 100 MB.
MAX_DOCUMENTS = 500
MAX_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class Action:
    """A document ready to be sent."""

    document: Document
    body: bytes
    """Its two lines of a bulk request."""
    empty: bool
    """Whether its text gives no latents."""
    truncated: bool
    """Whether its text is longer than the backbone's window."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a document ended."""

    document: Document
    reason: str | None = None
    """Why it is not indexed; none when it is."""
    sent: bool = True
    """Whether the engine has answered for it; without that it may be indexed, or not."""


def make_action(
    document: Document, latent_field: str, latent_string: str, *, truncated: bool = False
) -> Action:
    """The bulk lines that index a document with its latent terms."""
    header = {"index": {"_id": document.id}}
    source = {**document.fields, latent_field: latent_string}
    lines = f"{json.dumps(header)}\n{json.dumps(source, ensure_ascii=False)}\n"
    # A lone surrogate is valid JSON as an escape but no UTF-8.
    return Action(document, lines.encode("utf-8", "replace"), not latent_string, truncated)


def requests(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Cut actions into requests by count and bytes; no request has the same id twice.

    So that of two documents with one id the later wins, whichever of them is retried.
    """
    request: list[Action] = []
    size = 0
    ids: set[str] = set()
    for action in actions:
        full = len(request) >= MAX_DOCUMENTS or size + len(action.body) > MAX_BYTES
        if request and (full or action.document.id in ids):
            yield request
            request, size, ids = [], 0, set()
        request.append(action)
        size += len(action.body)
        ids.add(action.document.id)
    if request:
        yield request
