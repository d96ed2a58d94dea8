"""Latent terms for documents that are in the index already → partial updates → one ending each.

An update holds only against the state of the document that was read: what somebody else has
written since is never overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError

from latent_ingest.connector.corpus import text_hash
from latent_ingest.connector.engine.client import reason_in
from latent_ingest.connector.engine.retry import Retry, TryAgain, item_passes
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.reading import Stored
from latent_ingest.connector.indexing.sender import NO_INDEX, Halving, TheEnd, TooLarge, last_words

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

    @property
    def id(self) -> str:
        """Of the document."""
        return self.stored.id


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


class UpdateSender:
    """Sends updates of one index, a request at a time."""

    def __init__(self, client: OpenSearch, target: dict[str, Any], retry: Retry) -> None:
        """Nothing is sent yet.

        Args:
            client: of the engine.
            target: parameters of each bulk request, which name the index.
            retry: for answers that pass; once its `ended` is set, nothing more is sent.
        """
        self._client = client
        self._target = target
        self._retry = retry
        self._halving = Halving()
        self._why: str | None = None

    def send(self, request: Sequence[Update]) -> list[UpdateOutcome]:
        """Every update's outcome; a request too large (413) is halved, and so are later ones.

        A request whose answer was lost is sent again: what it had changed comes back as a conflict.
        """
        outcomes: list[UpdateOutcome] = []

        def refuse(update: Update, reason: str) -> None:
            outcomes.append(UpdateOutcome(update, "failed", reason))

        self._halving(request, lambda part: self._send_part(part, outcomes), refuse)
        return outcomes

    def _send_part(self, pending: list[Update], outcomes: list[UpdateOutcome]) -> None:
        """Send until each update has its outcome, or it is time to give up for good.

        `pending` loses those that have. Raises TooLarge.
        """
        try:
            if self._why is None and not self._retry.ended.is_set():
                self._retry(self._send_once, pending, outcomes)
        except (OpenSearchException, TryAgain, TheEnd) as error:
            if isinstance(error, TransportError) and error.status_code == 413:
                raise TooLarge from error
            self._why = self._retry.in_words(error)
        outcomes += [UpdateOutcome(update, "left", self._why) for update in pending]

    def _send_once(self, pending: list[Update], outcomes: list[UpdateOutcome]) -> None:
        """One request; raises TryAgain or TheEnd when some of `pending` are left."""
        body = b"".join(update.body for update in pending)
        answer = self._client.bulk(body=body, **self._target)
        items = answer.get("items", []) if isinstance(answer, dict) else []
        if len(items) != len(pending):
            raise TryAgain(f"the engine answered for {len(items)} of {len(pending)} documents")
        left: list[tuple[Update, dict[str, Any]]] = []
        for update, item in zip(pending, items, strict=True):
            (result,) = item.values()
            if ending := ending_of(result):
                reason = reason_in(result["error"]) if ending == "failed" else None
                outcomes.append(UpdateOutcome(update, ending, reason))
            else:
                left.append((update, result))
        pending[:] = [update for update, _ in left]
        for _, result in left:
            if not item_passes(result):
                raise TheEnd(last_words(result))
        if left:
            _, result = left[0]
            why = f"{result['status']}: {reason_in(result['error'])}"
            raise TryAgain(f"the engine turns documents away ({why})")


def ending_of(result: dict[str, Any]) -> Ending | None:
    """How one item of a bulk answer ends its update; none when it does not."""
    error = result.get("error")
    if error is None:
        return "encoded"
    if result["status"] == 409:
        return "conflict"
    if error.get("type") == "document_missing_exception":
        return "deleted"
    refused = result["status"] in (401, 403) or error.get("type") == NO_INDEX
    return None if refused or item_passes(result) else "failed"
