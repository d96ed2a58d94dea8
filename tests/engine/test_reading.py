"""Reading the documents of an index, all or a share."""

from __future__ import annotations

import json
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.reading import scan


def test_a_share_of_the_documents_is_the_same_each_time(
    either: OpenSearch, new_index: Any, load: Any
) -> None:
    name = new_index(either)
    lines = [json.dumps({"_id": str(i), "text": f"zinc {i}"}) for i in range(300)]
    load(either, name, lines)
    index, retry = Index(either, name), Retry(either)

    def read(share: float) -> list[str]:
        pages = scan(index, index.meta(), 1, retry, share)
        return [one.id for page in pages for one in page]

    assert len(read(1)) == 300
    half = read(0.5)
    assert 100 < len(half) < 200
    assert half == read(0.5)
    assert len(set(half)) == len(half)
    assert 0 < len(read(0.1)) < 70
