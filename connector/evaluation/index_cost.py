"""What an index takes on disk."""

from __future__ import annotations

from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.client import engine_errors


def field_bytes(client: OpenSearch, index: str) -> dict[str, int] | None:
    """Bytes of each field, all its structures; none where the engine does not tell.

    Elasticsearch has told since 7.15; OpenSearch 3.8 does not.

    Raises:
        EngineError: the engine cannot be reached.
    """
    with engine_errors(client):
        try:
            answer = client.transport.perform_request(
                "POST", f"/{index}/_disk_usage", params={"run_expensive_tasks": "true"}
            )
        except TransportError as error:
            if not isinstance(error.status_code, int):  # nothing answers
                raise
            return None
    return fields_in(answer)


def fields_in(answer: dict[str, Any]) -> dict[str, int]:
    """Bytes of each field that anybody searches, in an answer of `_disk_usage`."""
    sizes: dict[str, int] = {}
    for index, content in answer.items():
        if index != "_shards":
            for name, size in content["fields"].items():
                sizes[name] = sizes.get(name, 0) + size["total_in_bytes"]
    return sizes
