"""Handle of one index: what the engine knows of it, and the changes made to it as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException

from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.client import engine_errors, in_words, url_of
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.meta import IndexMeta, mapping_of, stored_meta, with_meta

# The engine synchronizes retention leases every 30 seconds.
LEASE_SECONDS = 120

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
        self._ask(self.client.indices.put_mapping, body={"_meta": with_meta(mapping, stored)})

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
        self._ask(self.client.indices.refresh, ignore=404)

    def size(self) -> IndexSize:
        """Searchable documents, and bytes of the primary shards.

        Bytes are summed over segments: the engine's own sum, `store` in its statistics, may be ten
        seconds old (`index.store.stats_refresh_interval`).
        """
        documents = self.count()
        segments = self._ask(self.client.indices.segments, ignore=404) or {}
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

    def merge(self, *, lean: bool) -> None:
        """Merge each shard to one segment.

        A field that `_source` excludes (`lean`) is kept whole in a hidden copy until a merge that
        happens after the shard's retention lease has passed the document: so flush and wait first.
        """
        self._ask(self.client.indices.flush, request_timeout=600)
        deadline = time.monotonic() + LEASE_SECONDS
        while lean and not self._leases_caught_up():
            if time.monotonic() > deadline:
                raise EngineError(
                    f"index {self.name}: retention leases lag after {LEASE_SECONDS} s"
                )
            time.sleep(1)
        self._ask(self.client.indices.forcemerge, max_num_segments=1, request_timeout=3600)
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

    def put_settings_closed(self, settings: dict[str, Any]) -> None:
        """Close the index, change settings that an open index refuses, and open it in any case."""
        try:
            self._ask(self.client.indices.close)
            self.put_settings(settings)
        finally:
            self.open()

    def open(self) -> None:
        """Open the index and wait until it answers."""
        try:
            Retry(self.client)(self.client.indices.open, index=self.name)
            self.client.cluster.health(index=self.name, wait_for_status="yellow")
        except OpenSearchException as error:
            raise EngineError(
                f"{in_words(error, url_of(self.client))}; index {self.name} may be left closed: "
                f"the same command opens it, and so does POST /{self.name}/_open"
            ) from error

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
