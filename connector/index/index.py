"""Handle of one index: what the engine knows of it, and the changes made to it as a whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.blocks import CLOSED
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry, TryAgain, duration, refused
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.meta import IndexMeta, mapping_of, stored_meta, with_meta
from latent_ingest.connector.prefetch import in_background

log = logging.getLogger(__name__)

# The engine synchronizes retention leases every 30 seconds.
LEASE_SECONDS = 120

# How long the engine waits for an index to open; it is asked again.
OPENING_SECONDS = 2

# Statuses of serverless engines for operations that they lack: Amazon's, and Elastic's.
LACKING = (404, 410)

REFRESH_OFF = {"refresh_interval": "-1"}


@dataclass(frozen=True, slots=True)
class IndexSize:
    """Number of documents and bytes of an index."""

    documents: int
    bytes: int
    """Bytes of all primary shards on disk."""


@dataclass(frozen=True, slots=True)
class Index:
    """One index of an engine. Each method asks the engine; nothing is remembered.

    All methods raise EngineError if the engine cannot be asked, refuses, or has no such index.
    """

    client: OpenSearch
    name: str
    """Name of the index; most methods also take an alias that points at one index."""

    @classmethod
    def find(cls, client: OpenSearch | Client, name: str) -> Index | None:
        """The index that a name or alias stands for; None if none, MismatchError if several."""
        client = adapted(client)
        found = mapping_of(client, name)
        return cls(client, found[0]) if found else None

    def mapping(self) -> dict[str, Any]:
        """The mapping: `properties`, `_meta`, `_source`, ..."""
        (found,) = self._ask(self.client.indices.get_mapping).values()
        mapping: dict[str, Any] = found["mappings"]
        return mapping

    def settings(self) -> dict[str, Any]:
        """The settings, flat: `index.number_of_shards` is a key."""
        (found,) = self._ask(self.client.indices.get_settings, flat_settings=True).values()
        settings: dict[str, Any] = found["settings"]
        return settings

    def put_mapping(self, mapping: dict[str, Any]) -> None:
        """Add fields, or replace `_meta` as a whole."""
        self._ask(self.client.indices.put_mapping, body=mapping)

    def put_settings(self, settings: dict[str, Any]) -> None:
        """Change dynamic settings, flat or nested; None resets one to its default."""
        self._ask(self.client.indices.put_settings, body=settings)

    def meta(self) -> IndexMeta:
        """The index meta; raises MismatchError if the index has none, or one of another version."""
        return IndexMeta.from_mapping(self.name, self.mapping())

    def stored_meta(self) -> dict[str, Any]:
        """`_meta.latent_ingest` as it is stored; empty if the index has none."""
        return stored_meta(self.mapping()) or {}

    def update_meta(self, **changes: Any) -> None:
        """Change fields of `_meta.latent_ingest`; others, and other keys of `_meta`, stay."""
        mapping = self.mapping()
        stored = {**(stored_meta(mapping) or {}), **changes}
        self.put_mapping({"_meta": with_meta(mapping, stored)})

    def uuid(self) -> str:
        """The engine's id of the index, which changes if it is deleted and created again."""
        return str(self.settings()["index.uuid"])

    def count(self, query: dict[str, Any] | None = None) -> int:
        """Number of searchable documents that match; see `refresh`."""
        body = {"query": query} if query else None
        return int(self._ask(self.client.count, body=body)["count"])

    def holds_documents(self) -> bool:
        """Refresh the index and say whether it has any document."""
        self.refresh()
        return self.count() > 0

    def refresh(self) -> None:
        """Make all documents searchable; does nothing if the index was deleted."""
        self._ask(self.client.indices.refresh, ignore=LACKING)

    def size(self) -> IndexSize:
        """Searchable documents, and bytes of the primary shards.

        Bytes are summed over segments: the engine's own sum, `store` in its statistics, may be ten
        seconds old (`index.store.stats_refresh_interval`).
        """
        documents = self.count()
        segments = self._ask(self.client.indices.segments, ignore=LACKING) or {}
        size = sum(
            segment["size_in_bytes"]
            for found in segments.get("indices", {}).values()
            for copy in primaries(found)
            for segment in copy["segments"].values()
        )
        return IndexSize(documents, size)

    def writes(self) -> int:
        """A number that grows with every write to the index."""
        # max_seq_no is -1 in a shard that was never written to.
        return sum(int(copy["seq_no"]["max_seq_no"]) + 1 for copy in primaries(self._stats()))

    def merge(self, retry: Retry, *, lean: bool) -> None:
        """Merge each shard to one segment; once `retry.ended` is set, leave that to the engine.

        A field that `_source` excludes (`lean`) is kept whole in a hidden copy until a merge that
        happens after the shard's retention lease has passed the document: so flush and wait first.
        """
        self._ask(self.client.indices.flush, request_timeout=600)
        deadline = time.monotonic() + min(LEASE_SECONDS, retry.give_up_after)
        while lean and not self._leases_caught_up():
            if time.monotonic() > deadline:
                seconds = duration(min(LEASE_SECONDS, retry.give_up_after))
                raise EngineError(
                    f"index {self.name}: retention leases lag after {seconds}, so it is not merged"
                )
            if retry.ended.wait(1):
                return
        forcemerge = self.client.indices.forcemerge
        merging = in_background(
            lambda: self._ask(forcemerge, max_num_segments=1, request_timeout=3600)
        )
        while not wait([merging], timeout=0.1).done:
            if retry.ended.is_set():
                log.warning("the engine goes on merging index %s by itself", self.name)
                return
        merging.result()
        self._ask(self.client.indices.refresh)

    def refresh_off(self, **changes: Any) -> dict[str, Any]:
        """Stop refreshing while documents are loaded; note in the index how it was refreshed.

        An interval of -1 with a note was left by a load that was killed, or belongs to another
        load that is running: the note stays. An interval of -1 without a note is the index's own.
        `changes` are other changes of the index meta. Returns the note: the settings to restore.
        """
        before, noted = self._refreshing()
        if before != REFRESH_OFF or noted is None:
            noted = before
        self.update_meta(loading=noted, **changes)
        self.put_settings({"index": REFRESH_OFF})
        return noted

    def refresh_on(self, before: dict[str, Any], **changes: Any) -> None:
        """Restore refreshing as noted, else as `before`, unless somebody has restored it."""
        now, noted = self._refreshing()
        if now == REFRESH_OFF:
            self.put_settings({"index": noted or before})
        self.update_meta(loading=None, **changes)

    def put_settings_closed(self, settings: dict[str, Any], retry: Retry) -> None:
        """Close the index, change settings that an open index refuses, and open it in any case."""
        self.close(retry)
        try:
            self.put_settings(settings)
        finally:
            self.reopen(retry)

    def close(self, retry: Retry) -> None:
        """Close the index; it stays open, or is opened again, if that fails."""
        try:
            answer = self._ask(self.client.indices.close)
            if not all(found["closed"] for found in answer.get("indices", {}).values()):
                raise EngineError(f"index {self.name} cannot be closed: a shard of it is not ready")
        except BaseException as error:
            if not refused(error):
                self.reopen(retry)
            raise

    def open(self, retry: Retry) -> None:
        """Open the index and wait until its shards have started."""

        def attempt() -> None:
            # The engine would wait for 30 s; opensearch-py takes `timeout` for that of the request.
            path = f"/{quote(self.name)}/_open?timeout={OPENING_SECONDS}s&wait_for_active_shards=1"
            answer = self.client.transport.perform_request("POST", path)
            if not answer.get("shards_acknowledged", True):
                raise TryAgain(f"index {self.name} is open, but its shards have not started")

        retry.ask(attempt)

    def reopen(self, retry: Retry) -> None:
        """As `open`; the EngineError says how the index is left."""
        try:
            self.open(retry)
        except EngineError as error:
            raise EngineError(f"{error}{self._left()}") from error

    def _left(self) -> str:
        """How to open the index, for the end of a message; empty if it is open."""
        try:
            if CLOSED not in self.settings():
                return ""
            state = "is closed"
        except EngineError:
            state = "may be left closed"
        return (
            f"; index {self.name} {state}: the same command opens it, and so does "
            f"POST /{self.name}/_open"
        )

    def _ask(self, call: Callable[..., Any], **arguments: Any) -> Any:
        with engine_errors(self.client):
            return call(index=self.name, **arguments)

    def _refreshing(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The refresh interval and the note of the one to restore, both at the same moment."""
        (found,) = self._ask(self.client.indices.get).values()
        interval = found["settings"]["index"].get("refresh_interval")
        stored = stored_meta(found["mappings"]) or {}
        return {"refresh_interval": interval}, stored.get("loading")

    def _stats(self) -> dict[str, Any]:
        """Statistics, with those of all copies of all shards."""
        stats = self._ask(self.client.indices.stats, level="shards")
        (found,) = stats["indices"].values()
        return dict(found)

    def _leases_caught_up(self) -> bool:
        """Whether no retention lease holds back a document of any shard."""
        return all(
            lease["retaining_seq_no"] > copy["seq_no"]["max_seq_no"]
            for copies in self._stats()["shards"].values()
            for copy in copies
            for lease in copy["retention_leases"]["leases"]
        )


def primaries(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The primary copy of each shard in the engine's answer about one index."""
    for copies in answer["shards"].values():
        yield from (copy for copy in copies if copy["routing"]["primary"])
