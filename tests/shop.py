"""An index made by another application, to be enriched with latent terms."""

from __future__ import annotations

from typing import Any

from opensearchpy import OpenSearch, helpers

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

TEXT = {"type": "text", "analyzer": "english"}
MAPPING: dict[str, Any] = {
    "_meta": {"owner": "shop"},
    "dynamic": "strict",
    "properties": {
        "title": {**TEXT, "fields": {"raw": {"type": "keyword"}}},
        "body": TEXT,
        "year": {"type": "integer"},
        "notes": {"type": "nested", "properties": {"text": {"type": "text"}}},
        "more": {"properties": {"summary": TEXT}},
    },
}


def make(client: OpenSearch, index: str, rows: list[dict[str, Any]], **mapping: Any) -> None:
    """Create an index as another application would, with two shards."""
    body = {
        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
        "mappings": {**MAPPING, **mapping},
    }
    client.indices.create(index=index, body=body)
    helpers.bulk(client, [{"_index": index, **row} for row in rows], refresh=True)


def sources(client: OpenSearch, index: str) -> dict[str, dict[str, Any]]:
    client.indices.refresh(index=index)
    hits = client.search(index=index, body={"size": 1000})["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


def text_of(source: dict[str, Any]) -> str:
    return " ".join(source[name] for name in ("title", "body") if source[name])


def all_done(client: OpenSearch, index: str, encoder: LatentEncoder) -> bool:
    """Whether every document has the latent terms of its text and is found by them."""
    stored = sources(client, index)
    assert stored
    rewriter = QueryRewriter.from_index(client, index, encoder)
    for identifier, source in list(stored.items())[::16]:
        body = rewriter.rewrite(text_of(source), form="latent")
        assert client.search(index=index, body=body)["hits"]["hits"][0]["_id"] == identifier
    return all(
        source.get("latent") and source["latent_hash"] == text_hash(text_of(source))
        for source in stored.values()
    )
