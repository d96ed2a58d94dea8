"""Points in time: frozen views of indices, which a request names instead of an index."""

from __future__ import annotations

from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import engine_errors

# Most indices of one point in time; engines give no more buckets by default.
MOST_INDICES = 10_000


def point_in_time(body: object) -> str | None:
    """Return the id of the point in time that a request body searches, if any."""
    pit = body.get("pit") if isinstance(body, dict) else None
    identifier = pit.get("id") if isinstance(pit, dict) else None
    return identifier if isinstance(identifier, str) else None


def indices_at(client: OpenSearch, identifier: str) -> list[str]:
    """Return the indices of a point in time, sorted, without those that have no documents.

    One document of each shard is looked at, so that only the right to search is needed.

    Raises:
        EngineError: the point in time has expired, or the engine cannot be reached.
    """
    body: dict[str, Any] = {
        "pit": {"id": identifier},
        "size": 0,
        "terminate_after": 1,
        "track_total_hits": False,
        "aggs": {"indices": {"terms": {"field": "_index", "size": MOST_INDICES}}},
    }
    with engine_errors(client):
        answer = client.search(body=body)
    return sorted(bucket["key"] for bucket in answer["aggregations"]["indices"]["buckets"])
