"""A survey of real text by minilm-32k, and a small, fast model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.inspection.labelling import Labelling
from latent_ingest.connector.inspection.survey import Survey, survey

SmallModel = Callable[..., Path]


@pytest.fixture(scope="session")
def texts(documents: list[dict[str, str]]) -> list[str]:
    """Docstrings, one of them with several windows."""
    some = [document["text"] for document in documents]
    return [*some, " ".join(some)[:4000]]


@pytest.fixture(scope="session")
def found(encoder: LatentEncoder, texts: list[str]) -> Survey:
    (counts,) = survey([encoder], texts, tokens=10**9)
    assert counts.n_texts == len(texts)
    return counts


@pytest.fixture(scope="session")
def labelling(found: Survey) -> Labelling:
    return Labelling(found)


@pytest.fixture
def small_model(tmp_path: Path, encoder: LatentEncoder) -> SmallModel:
    """Write a model of 512 random latents for the shipped backbone."""

    def write(name: str = "small", *, decoder: bool = False, seed: int = 0) -> Path:
        config = AutoencoderConfig(
            d_in=encoder.backbone.d_in,
            n_latents=512,
            k=8,
            backbone=encoder.backbone.name,
            backbone_fingerprint=encoder.backbone.fingerprint,
        )
        model = TokenAutoencoder(config)
        model.initialize(torch.Generator().manual_seed(seed))
        model.save(tmp_path / name, decoder=decoder)
        return tmp_path / name

    return write
