"""Where latents begin: at token embeddings that lie apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.embeddings import embedded
from latent_ingest.connector.training.optimization import DISTANT, Optimization
from latent_ingest.connector.training.texts import Source, TrainingTexts

CONFIG = TrainingConfig(n_latents=512, k=8, tokens=8000, batch_tokens=500)


@pytest.fixture(scope="module")
def hidden(backbone: Backbone, corpus: Path) -> torch.Tensor:
    texts = list(TrainingTexts([Source(str(corpus))]).round())[:60]
    tokens = embedded(backbone, texts)
    assert len(tokens) > 2000
    return tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))]


def test_latents_begin_at_distant_tokens(backbone: Backbone, hidden: torch.Tensor) -> None:
    optimization = Optimization(backbone, CONFIG)
    optimization.initialize(hidden)
    model = optimization.autoencoder
    assert model.data_mean is not None
    assert model.W_dec is not None
    torch.testing.assert_close(model.data_mean, hidden.float().mean(dim=0))
    rows = model.W_dec.detach()
    cosines = rows @ normalize(model.normalize(hidden), dim=-1).T
    at_token = cosines.max(dim=1).values > 0.999
    assert at_token.sum() > 100
    directions = normalize(model.W_enc.detach(), dim=0).T
    torch.testing.assert_close(directions, rows)
    apart = (rows[at_token] @ rows[at_token].T).fill_diagonal_(0)
    assert apart.max() <= DISTANT + 1e-3
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(512))


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu"])
def test_the_encoder_is_scaled_by_least_squares_or_by_the_root_of_that(
    backbone: Backbone, hidden: torch.Tensor, activation: str
) -> None:
    """By the root without learned thresholds: what is missing then is as much again."""
    optimization = Optimization(backbone, replace(CONFIG, activation=activation))
    optimization.initialize(hidden)
    model = optimization.autoencoder
    with torch.no_grad():
        x = model.normalize(hidden[: CONFIG.batch_tokens])
        acts, indices = (x @ model.W_enc).topk(CONFIG.k, dim=-1)
        sums = model.reconstruct(acts.relu(), indices)
        still_missing = (x * sums).sum() / sums.square().sum()
        lengths = model.W_enc.norm(dim=0)
    assert lengths[0] < 0.9
    torch.testing.assert_close(lengths, lengths[:1].expand(CONFIG.n_latents))
    expected = lengths[0] if activation == "topk" else torch.tensor(1.0)
    torch.testing.assert_close(still_missing, expected)


def test_a_run_ends_with_a_smaller_error_than_from_random_weights(
    backbone: Backbone, hidden: torch.Tensor
) -> None:
    errors = {}
    for name in ("random", "tokens"):
        optimization = Optimization(backbone, CONFIG)
        if name == "tokens":
            optimization.initialize(hidden)
        else:
            optimization.autoencoder.data_mean = hidden.float().mean(dim=0)
        for number in range(1, 17):
            batch = hidden.roll(-500 * number, dims=0)[:500]
            errors[name] = optimization.step(number, batch).normalized_mse.item()
    assert errors["tokens"] < 0.9 * errors["random"], errors


def test_more_latents_than_distant_tokens(backbone: Backbone, hidden: torch.Tensor) -> None:
    """The others are random directions."""
    optimization = Optimization(backbone, CONFIG)
    model = optimization.autoencoder
    assert model.W_dec is not None
    before = model.W_dec.detach().clone()
    optimization.initialize(hidden[:100])
    tokens = normalize(model.normalize(hidden[:100]), dim=-1)
    distant = ~((tokens @ tokens.T).tril(diagonal=-1) > DISTANT).any(dim=1)
    n = int(distant.sum())
    assert 10 < n < 100
    torch.testing.assert_close(model.W_dec[:n].detach(), tokens[distant])
    assert torch.equal(model.W_dec[n:], before[n:])
