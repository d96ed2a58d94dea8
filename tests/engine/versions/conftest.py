"""An alias, two models and the command line."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from indexed import PREFIX
from opensearchpy import OpenSearch
from versions import Run

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.index.listing import list_indices


@pytest.fixture
def alias(client: OpenSearch) -> Iterator[str]:
    """A name whose versions are gone after the test."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    yield name
    for index in list_indices(client, f"{name}*"):
        client.indices.delete(index=index.name)


@pytest.fixture(scope="session")
def other(backbone: Backbone) -> LatentEncoder:
    """The shipped model with its latents numbered otherwise: same scores, other terms."""
    autoencoder = TokenAutoencoder.load(SHIPPED_MODEL)
    order = torch.randperm(autoencoder.config.n_latents, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        autoencoder.W_enc.data = autoencoder.W_enc.data[:, order].contiguous()
        autoencoder.b_enc.data = autoencoder.b_enc.data[order]
        assert autoencoder.document_frequency is not None
        autoencoder.document_frequency = autoencoder.document_frequency[order]
    return LatentEncoder(backbone, autoencoder, name="Other Model!")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Choose which loaded model the commands use."""

    def choose(chosen: LatentEncoder) -> None:
        monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda *_: chosen)

    return choose


@pytest.fixture
def run(
    opensearch_url: str, monkeypatch: pytest.MonkeyPatch, model: Any, encoder: LatentEncoder
) -> Run:
    """Call a command; the error is one line."""
    model(encoder)
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: object, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], **options)
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke
