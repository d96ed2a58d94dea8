"""Small blocks, so that a small corpus is not embedded many times."""

from __future__ import annotations

import pytest

from latent_ingest.connector.training import embeddings


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "TEXTS_PER_BLOCK", 8)
    monkeypatch.setattr(embeddings, "TOKENS_PER_BLOCK", 64)
