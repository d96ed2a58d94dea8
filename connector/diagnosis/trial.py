"""A trial of a login: each request that the commands send, in an index made for it.

The index is deleted at the end, whatever happens in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError

from latent_ingest.connector.diagnosis.finding import (
    NOTE,
    OK,
    PROBLEM,
    WARNING,
    Finding,
    refusal,
)
from latent_ingest.connector.index.reading import has_points_in_time
from latent_ingest.mappings import MappingConfig, index_body

PREFIX = "latent-ingest-doctor-"

DOCUMENT = {"title": "Bees", "text": "Insects dance.", "latent": "f1 f1 f2"}


class Trial:
    """What a login may do, tried one by one."""

    def __init__(self, client: OpenSearch) -> None:
        self._client = client
        self.index = PREFIX + uuid.uuid4().hex[:8]
        """Name of the index that is made and deleted."""

    def run(self) -> Iterator[Finding]:
        """Try each request; without the right to create an index, nothing else is tried.

        Raises:
            TransportError: the engine does not answer.
        """
        left = True  # an index whose creation is not answered may be there
        try:
            for name, state, advice in STEPS:
                try:
                    found = getattr(self, "_" + name.replace(" ", "_"))()
                except TransportError as error:
                    if not isinstance(error.status_code, int):
                        raise
                    yield Finding(
                        name, state, f"refused for {self.index}: {refusal(error)}", advice
                    )
                    if name == CREATE:
                        left = False
                        return
                else:
                    left = name != DELETE
                    yield Finding(name, OK, found or "allowed")
        finally:
            if left:
                with suppress(OpenSearchException):
                    self._client.indices.delete(index=self.index, ignore=404)

    def _create_an_index(self) -> None:
        self._client.indices.create(index=self.index, body=index_body(MappingConfig(), {}))

    def _write_with_ids(self) -> str:
        action = {"_index": self.index, "_id": "1", "version": 7, "version_type": "external"}
        answer = self._client.bulk(body=[{"index": action}, DOCUMENT])
        (item,) = (result["index"] for result in answer["items"])
        if "error" in item:
            raise TransportError(item["status"], item["error"]["type"], {"error": item["error"]})
        self._client.indices.refresh(index=self.index)
        return "allowed, with external versions"

    def _read_settings(self) -> None:
        self._client.indices.get(index=self.index, flat_settings=True)
        self._client.indices.stats(index=self.index)

    def _search(self) -> str:
        body: dict[str, Any] = {"query": {"match": {"latent": "f1"}}}
        hits = self._client.search(index=self.index, body=body)["hits"]["hits"]
        return "allowed" if hits else "allowed; the document is not visible yet"

    def _profile(self) -> None:
        body = {"query": {"match": {"latent": "f1"}}, "profile": True}
        self._client.search(index=self.index, body=body)

    def _term_statistics(self) -> None:
        body = {"fields": ["latent"], "term_statistics": True}
        self._client.termvectors(index=self.index, id="1", body=body)

    def _read_everything(self) -> str:
        if has_points_in_time(self._client):
            params = {"keep_alive": "1m"}
            point = self._client.create_pit(index=self.index, params=params)["pit_id"]
            self._client.delete_pit(body={"pit_id": [point]})
            return "allowed, by a point in time"
        answer = self._client.search(index=self.index, body={}, params={"scroll": "1m"})
        self._client.clear_scroll(body={"scroll_id": [answer["_scroll_id"]]})
        return "allowed, by scroll"

    def _aliases(self) -> None:
        self._client.indices.put_alias(index=self.index, name=f"{self.index}-alias")
        self._client.indices.delete_alias(index=self.index, name=f"{self.index}-alias")

    def _change_settings(self) -> None:
        self._client.indices.put_settings(index=self.index, body={"index.refresh_interval": "5s"})
        self._client.indices.put_mapping(index=self.index, body={"_meta": {"tried": True}})

    def _close_and_open(self) -> None:
        self._client.indices.close(index=self.index)
        self._client.indices.open(index=self.index)

    def _delete(self) -> None:
        self._client.indices.delete(index=self.index)


CREATE, DELETE = "create an index", "delete"

# Name of each request, the state if it is refused, and what follows from a refusal.
STEPS = (
    (CREATE, PROBLEM, "let somebody create it from mappings/, or grant create_index"),
    ("write with ids", WARNING, "a collection that makes ids itself needs --ids engine"),
    ("read settings", WARNING, "ingest, enrich and search read them; grant view_index_metadata"),
    ("search", PROBLEM, "grant read"),
    ("profile", NOTE, "only benchmarks use it"),
    ("term statistics", NOTE, "questions use the frequencies in the model, not the index's"),
    ("read everything", WARNING, "verify, enrich and questions --index cannot read the index"),
    ("aliases", WARNING, "--alias, rollback and the guard of a run need it"),
    ("change settings", WARNING, "runs and enrich write settings and _meta; grant manage"),
    ("close and open", WARNING, "a new index keeps its model's question table; tune needs it"),
    (DELETE, WARNING, "prune cannot delete old versions; delete this index by hand"),
)
