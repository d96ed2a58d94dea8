"""Documents that an index lacks."""

from __future__ import annotations

from collections.abc import Iterable

from opensearchpy import OpenSearch

from latent_ingest.connector.client import engine_errors
from latent_ingest.connector.evaluation.systems import chunks
from latent_ingest.connector.index_meta import IndexMeta

# Ids looked up in one request; engines give at most 10,000 hits.
LOOKED_UP = 5_000


def missing_documents(client: OpenSearch, index: str, ids: Iterable[str]) -> list[str]:
    """Those of some documents that the index does not hold, sorted; raises EngineError."""
    meta = IndexMeta.read(client, index)
    suffix = "#0" if meta and meta.long == "chunks" else ""
    missing: list[str] = []
    for some in chunks(sorted(ids), LOOKED_UP):
        wanted = {"ids": {"values": [id + suffix for id in some]}}
        body = {"query": wanted, "size": len(some), "_source": False}
        with engine_errors(client):
            hits = client.search(index=index, body=body)["hits"]["hits"]
        held = {hit["_id"] for hit in hits}
        missing += [id for id in some if id + suffix not in held]
    return missing
