"""Bulk actions → bulk requests; and how each document ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from latent_ingest.connector.corpus import Document

# A request holds at most this many documents and bytes; one document larger than that goes
# alone. 5 to 10 MB is the useful size; the engine refuses above 100 MB.
MAX_DOCUMENTS = 500
MAX_BYTES = 5_000_000


class Sendable(Protocol):
    """What becomes a part of a bulk request."""

    @property
    def id(self) -> str:
        """Of the document."""

    @property
    def body(self) -> bytes:
        """Its lines."""


One = TypeVar("One", bound=Sendable)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a document ended."""

    document: Document
    reason: str | None = None
    """Why it is not indexed; none when it is."""
    sent: bool = True
    """Whether the engine has answered for it; without that it may be indexed, or not."""


def requests(actions: Sequence[One]) -> Iterator[list[One]]:
    """Cut actions into requests by count and bytes; no request has the same id twice.

    So that of two documents with one id the later wins, whichever of them is retried.
    """
    request: list[One] = []
    size = 0
    ids: set[str] = set()
    for action in actions:
        full = len(request) >= MAX_DOCUMENTS or size + len(action.body) > MAX_BYTES
        if request and (full or action.id in ids):
            yield request
            request, size, ids = [], 0, set()
        request.append(action)
        size += len(action.body)
        ids.add(action.id)
    if request:
        yield request
