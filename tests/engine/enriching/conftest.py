"""An index of another application, and runs that enrich it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tenacity
from enriched import FIELDS, Run
from opensearchpy import OpenSearch
from shop import make

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index import reading
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.indexing import enrich, sender
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.outcomes import EnrichReport


@pytest.fixture
def rows(documents: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "_id": document["_id"],
            "title": document["_id"],
            "body": document["text"][:100],
            "year": n,
        }
        for n, document in enumerate(documents[:32])
    ]


@pytest.fixture
def index(new_index: Any, client: OpenSearch, rows: list[dict[str, Any]]) -> str:
    name: str = new_index()
    make(client, name, rows)
    return name


@pytest.fixture
def run(client: OpenSearch, index: str, encoder: LatentEncoder) -> Run:
    """Enrich the index, or another."""

    def enriched(
        name: str = index,
        wanted: dict[str, Any] | None = None,
        *,
        on: Any = client,
        encoder: LatentEncoder = encoder,
        on_progress: Callable[[Enrich], None] = lambda job: None,
        **options: Any,
    ) -> EnrichReport:
        preparation = plan(
            ExistingIndex.read(on, name), encoder, FIELDS if wanted is None else wanted
        )
        prepare(preparation, Retry(on))
        job = Enrich(on, preparation, encoder, **{"give_up_after": 1, **options})
        return job.run(lambda report: on_progress(job))

    return enriched


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, batches and requests of a few documents."""
    monkeypatch.setattr(reading, "PAGE", 7)
    monkeypatch.setattr(enrich, "PAGE", 7)
    monkeypatch.setattr(enrich, "MAX_BATCH_DOCUMENTS", 5)
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 3)
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_fixed(0.01))
