"""The objective and its gradients, compared with plain autograd over dense matrices."""

from __future__ import annotations

import pytest
import torch

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.training.activation import (
    SPARSITY_WEIGHT,
    BatchTopK,
    Jump,
    JumpReLU,
    TopK,
)
from latent_ingest.connector.training.objective import (
    AUX_WEIGHT,
    MULTI_K_WEIGHT,
    Objective,
    transposed_product,
)


def small() -> TokenAutoencoder:
    model = TokenAutoencoder(AutoencoderConfig(d_in=16, n_latents=64, k=4))
    model.initialize(torch.Generator().manual_seed(3))
    model.data_mean = torch.linspace(-0.5, 0.5, 16)
    with torch.no_grad():
        model.b_pre.copy_(torch.linspace(0.1, -0.1, 16))
        model.b_enc.copy_(torch.linspace(-0.1, 0.1, 64))
    return model.train()


def plain_loss(
    model: TokenAutoencoder, hidden: torch.Tensor, dead: torch.Tensor, *, multi_k: bool
) -> torch.Tensor:
    """The loss as in the papers, with dense matrices."""
    assert model.W_dec is not None
    x = model.normalize(hidden)
    pre = (x - model.b_pre) @ model.W_enc + model.b_enc
    top = pre.topk(4)
    z = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    residual = x - (z @ model.W_dec + model.b_pre)
    variance = (x - x.mean(dim=0)).square().sum()
    loss = residual.square().sum() / variance
    if multi_k:
        more = pre.topk(16)
        z_more = torch.zeros_like(pre).scatter(1, more.indices, more.values.relu())
        error = x - (z_more @ model.W_dec + model.b_pre)
        loss = loss + MULTI_K_WEIGHT * error.square().sum() / variance
    if len(dead):
        pre_dead = (x - model.b_pre.detach()) @ model.W_enc[:, dead] + model.b_enc[dead]
        top_dead = pre_dead.topk(min(8, len(dead)))
        z_dead = torch.zeros_like(pre_dead).scatter(1, top_dead.indices, top_dead.values.relu())
        target = residual.detach()
        error = z_dead @ model.W_dec[dead] - target
        loss = loss + AUX_WEIGHT * error.square().sum() / target.square().sum()
    return loss


@pytest.mark.parametrize("dead", [[], [3, 9], list(range(0, 64, 3))])
@pytest.mark.parametrize("multi_k", [False, True])
def test_loss_and_gradients_are_those_of_plain_autograd(
    dead: list[int], multi_k: bool, generator: torch.Generator
) -> None:
    hidden = torch.randn(40, 16, generator=generator)
    ours, plain = small(), small()
    objective = Objective(ours, dead_after=100, multi_k=multi_k)
    objective.tokens_since_fired[dead] = 101
    # Dead latents that are active in this batch revive: both sides must agree on which are dead.
    x = plain.normalize(hidden)
    fired = ((x - plain.b_pre) @ plain.W_enc + plain.b_enc).topk(4).indices.unique()
    still_dead = torch.tensor([i for i in dead if i not in fired.tolist()], dtype=torch.int64)
    loss = objective(hidden).total
    expected = plain_loss(plain, hidden, still_dead, multi_k=multi_k)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for (name, got), (_, want) in zip(
        ours.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert got.grad is not None
        assert want.grad is not None
        assert torch.allclose(got.grad, want.grad, rtol=1e-4, atol=1e-6), name


def test_a_latent_is_dead_after_so_many_tokens_without_firing(generator: torch.Generator) -> None:
    objective = Objective(small(), dead_after=80)
    objective.autoencoder.b_enc.data[5] = -1e6
    hidden = torch.randn(40, 16, generator=generator)
    for _ in range(2):
        objective(hidden)
    assert 5 not in objective.dead.tolist()
    objective(hidden)
    assert 5 in objective.dead.tolist()
    assert len(objective.dead) < 64


def test_transposed_product_is_that_of_the_dense_matrix(generator: torch.Generator) -> None:
    indices = torch.randint(0, 10, (30, 3), generator=generator)
    values = torch.randn(30, 3, generator=generator)
    x = torch.randn(30, 5, generator=generator)
    dense = torch.zeros(30, 10)
    for row in range(30):
        for column, value in zip(indices[row].tolist(), values[row].tolist(), strict=True):
            dense[row, column] += value
    assert torch.allclose(transposed_product(values, indices, 10, x), dense.T @ x, atol=1e-5)


def test_what_fires_of_each_activation(generator: torch.Generator) -> None:
    """For 30 tokens, with the same pre-activations."""
    pre = torch.randn(30, 64, generator=generator).sort(dim=1, descending=True).values
    indices = torch.arange(64).repeat(30, 1)
    acts, _ = TopK(4)(pre, indices)
    assert acts.shape == (30, 4)
    assert torch.equal(acts, pre[:, :4].relu())

    batch = BatchTopK(4).train()
    acts, _ = batch(pre, indices)
    assert int((acts > 0).sum()) == 4 * 30
    assert acts[acts > 0].min() > pre[:, :16][acts == 0].max()
    assert batch.thresholds(64).tolist() == pytest.approx([acts[acts > 0].min().item()] * 64)

    jump = JumpReLU(4, 64)
    jump(pre, indices)
    jump.theta.data[:] = torch.linspace(0.2, 2.0, 64)
    acts, penalty = jump(pre, indices)
    wanted = torch.where(pre[:, :16] > jump.theta[:16], pre[:, :16], 0.0)
    assert torch.equal(acts, wanted.relu())
    surplus = float((acts > 0).sum()) / (30 * 4) - 1
    assert penalty.item() == pytest.approx(SPARSITY_WEIGHT * surplus**2)


def test_jumprelus_thresholds_rise_where_too_many_fire() -> None:
    pre = torch.linspace(1.2, 0.9, 16).repeat(30, 1)
    jump = JumpReLU(4, 16)
    jump.theta.data.fill_(1.0)
    for way, k in ((1, 2), (-1, 15)):
        jump.k = k
        jump.theta.grad = None
        _, penalty = Jump.apply(pre, jump.theta[torch.arange(16)].repeat(30, 1))
        surplus = penalty.sum() / (30 * k) - 1
        surplus.square().backward()
        assert jump.theta.grad is not None
        assert (way * -jump.theta.grad >= 0).all()
        assert (jump.theta.grad != 0).any()
