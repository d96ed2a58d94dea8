"""A lock in the engine: of the shards of a corpus, one at a time changes the index as a whole.

Engines have no compare-and-set for mappings, settings and aliases; but of several requests that
create the same index, one succeeds. So the lock is an empty index: who creates it has the lock, and
deletes it to give it back. It names the shard that has it. If that is killed, the same shard takes
the lock over when it is started again, on whichever machine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.creation import EXISTS
from latent_ingest.connector.index.meta import mappings_of
from latent_ingest.connector.indexing.sharding.shard import Shard

# Seconds between two attempts; until the wait is logged; and of waiting once the run is to stop.
BETWEEN_SECONDS = 0.3
SAID_SECONDS = 5
STOPPING_SECONDS = 10

# Key of the holder in the mapping's `_meta`.
HOLDER = "latent_ingest_shard"

log = logging.getLogger(__name__)


class ShardLock:
    """The lock of all shards that load one alias or index."""

    def __init__(self, client: OpenSearch, name: str, shard: Shard, retry: Retry) -> None:
        """Take nothing yet; `name` is that of the alias or index."""
        self.index = f"{name}.shard-lock"
        """Name of the index that is the lock."""
        self._client = client
        self._shard = shard
        self._retry = retry

    @contextmanager
    def held(self) -> Iterator[None]:
        """A context in which no other shard is; raises EngineError."""
        self._take()
        try:
            yield
        finally:
            delete = self._client.indices.delete
            self._retry.ask(delete, index=self.index, ignore=404)

    def _take(self) -> None:
        started, said = time.monotonic(), False
        while (holder := self._attempt()) not in (None, str(self._shard)):
            waited = time.monotonic() - started
            if self._retry.ended.is_set() and waited > STOPPING_SECONDS:
                raise EngineError(f"index {self.index} is held by shard {holder}")
            if waited > SAID_SECONDS and not said:
                said = True
                log.info(
                    "waiting for shard %s; if that command is gone, start it again, or delete "
                    "index %s if nobody will",
                    holder,
                    self.index,
                )
            time.sleep(BETWEEN_SECONDS)

    def _attempt(self) -> str | None:
        """Create the index; returns None, or the shard that has it."""
        body: dict[str, Any] = {
            "settings": {"index": {"number_of_shards": 1, "number_of_replicas": 0, "hidden": True}},
            "mappings": {"_meta": {HOLDER: str(self._shard)}},
        }
        try:
            create = self._client.indices.create
            self._retry.ask(create, index=self.index, body=body, wait_for_active_shards="0")
        except EngineError as error:
            cause = error.__cause__
            if not isinstance(cause, RequestError) or cause.error != EXISTS:
                raise
        else:
            return None
        mappings = self._retry.ask(mappings_of, self._client, self.index)
        for mapping in mappings.values():
            return str(mapping.get("_meta", {}).get(HOLDER))
        return "that has just ended"
