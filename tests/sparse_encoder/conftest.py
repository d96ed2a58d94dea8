"""A SparseEncoder of minilm-32k, and a small, untrained one."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SparseEncoder

from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE
from latent_ingest.connector.sentence_transformers import (
    SparseAutoEncoderTokenEncoder,
    SparseTokenPooling,
    load_sparse_encoder,
    load_transformer,
)


@pytest.fixture(scope="session")
def shipped() -> SparseEncoder:
    return load_sparse_encoder(device="cpu")


@pytest.fixture
def small() -> SparseEncoder:
    """1,024 latents, k 8, with a decoder."""
    torch.manual_seed(0)
    return SparseEncoder(
        modules=[
            load_transformer(DEFAULT_BACKBONE),
            SparseAutoEncoderTokenEncoder(384, 1024, k=8),
            SparseTokenPooling(1024),
        ],
        device="cpu",
    )
