"""The handle of an index: how it is found, what it reads, what a change leaves as it is."""

from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, MismatchError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index


def test_an_index_is_found_by_its_name_or_an_alias(client: OpenSearch, new_index: Any) -> None:
    first, second = new_index(), new_index()
    assert Index.find(client, first) is None
    for name in (first, second):
        client.indices.create(index=name)
    client.indices.put_alias(index=first, name=f"{first}-alias")
    assert Index.find(client, f"{first}-alias") == Index.find(client, first) == Index(client, first)
    client.indices.put_alias(index=second, name=f"{first}-alias")
    with pytest.raises(MismatchError, match=f"{first}-alias: 2 indices .*; name one"):
        Index.find(client, f"{first}-alias")


def test_a_change_of_the_meta_leaves_the_rest(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    meta = open_index(client, index, encoder, {})
    handle = Index(client, index)
    stored = handle.stored_meta()
    own = {"owner": "shop", "latent_ingest": stored}
    client.indices.put_mapping(index=index, body={"_meta": own})
    handle.update_meta(runs=7)
    assert handle.mapping()["_meta"] == {"owner": "shop", "latent_ingest": {**stored, "runs": 7}}
    assert (meta.runs, handle.meta().runs) == (0, 7)


def test_an_index_without_latent_terms_has_no_meta(client: OpenSearch, index: str) -> None:
    client.indices.create(index=index)
    assert Index(client, index).stored_meta() == {}
    with pytest.raises(MismatchError, match=f"index {index} has no latent terms"):
        Index(client, index).meta()


def test_an_index_is_open_again_when_a_setting_is_refused(client: OpenSearch, index: str) -> None:
    client.indices.create(index=index)
    handle = Index(client, index)
    with pytest.raises(EngineError, match="Failed to build analyzers"):
        handle.put_settings_closed(
            {"index.analysis.analyzer.a.tokenizer": "klingon"}, Retry(client)
        )
    assert client.cat.indices(index=index, format="json", h="status") == [{"status": "open"}]
    handle.put_settings_closed(
        {"index.similarity.s.type": "BM25", "index.similarity.s.k1": 3}, Retry(client)
    )
    assert handle.settings()["index.similarity.s.k1"] == "3"


def test_writes_and_documents_are_counted(client: OpenSearch, index: str) -> None:
    client.indices.create(index=index)
    handle = Index(client, index)
    assert (handle.writes(), handle.holds_documents(), handle.size().documents) == (0, False, 0)
    for text in ("bees", "wasps"):
        client.index(index=index, id="a", body={"text": text})
    assert (handle.writes(), handle.holds_documents(), handle.size().documents) == (2, True, 1)
    assert handle.count({"match": {"text": "bees"}}) == 0
    assert handle.size().bytes > 0
