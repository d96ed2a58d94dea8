"""The ids of documents where the engine makes `_id`, and a field has the document's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.querying.asked_indices import AskedIndices


def show_own_ids(client: OpenSearch, index: str, hits: Sequence[dict[str, Any]]) -> None:
    """Put the document's own id in place of `_id`, in hits of indices whose ids the engine makes.

    Raises:
        MismatchError: no such index, or not one of ours.
        EngineError: the engine cannot be asked.
    """
    metas = AskedIndices.read(client, index).metas
    for hit in hits:
        meta = metas.get(hit["_index"])
        if meta and meta.id_field:
            hit["_id"] = hit["_source"].get(meta.id_field, hit["_id"])


def engine_id(client: OpenSearch, index: str, identifier: str) -> str:
    """The `_id` of a document by its own id, or `identifier` where there is none such.

    Raises:
        MismatchError: no such index, or not one of ours.
        EngineError: the engine cannot be asked.
    """
    for name, meta in AskedIndices.read(client, index).metas.items():
        if meta.id_field:
            query = {"term": {meta.id_field: identifier}}
            with engine_errors(client):
                found = client.search(
                    index=name, body={"query": query, "size": 1, "_source": False}
                )
            for hit in found["hits"]["hits"]:
                return str(hit["_id"])
    return identifier
