"""The training objective: reconstruct token embeddings from few latents, and revive dead latents.

TopK, AuxK and the multi-k term follow Gao et al. 2024 (arXiv 2406.04093).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder, decode
from latent_ingest.connector.training.activation import MOST_TIMES_K, TopK

# Weight of the dead latents' reconstruction of the residual (Gao et al. 2024, section 2.4).
AUX_WEIGHT = 1 / 32

# Weight of the reconstruction from 4k latents, so that k can be changed later (appendix B.2).
MULTI_K_WEIGHT = 1 / 8

# Tokens of a batch that AuxK uses: enough of a shuffled batch, and its top-k is slow.
AUX_TOKENS = 1024


class TopActivations(torch.autograd.Function):
    """The k largest of `(x - b_pre) @ W_enc + b_enc`, largest first, with a sparse gradient.

    The plain gradient of `W_enc` costs as much as the forward product, for a matrix that is zero in
    all but k of `n_latents` columns per token; this one is a sparse product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        b_pre: torch.Tensor,
        W_enc: torch.Tensor,
        b_enc: torch.Tensor,
        k: int,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        centred = x - b_pre
        pre = torch.addmm(b_enc.to(dtype), centred.to(dtype), W_enc.to(dtype))
        top = pre.topk(k, dim=-1)
        ctx.save_for_backward(centred, W_enc, top.indices)
        ctx.mark_non_differentiable(top.indices)
        return top.values.float(), top.indices

    @staticmethod
    def backward(
        ctx: Any, grad: torch.Tensor, _: torch.Tensor
    ) -> tuple[None, torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        centred, W_enc, indices = ctx.saved_tensors
        grad_W = transposed_product(grad, indices, W_enc.shape[1], centred).T
        grad_b = torch.zeros_like(W_enc[0]).index_add_(0, indices.flatten(), grad.flatten())
        return None, -(W_enc @ grad_b), grad_W, grad_b, None, None


def transposed_product(
    values: torch.Tensor, indices: torch.Tensor, n_columns: int, x: torch.Tensor
) -> torch.Tensor:
    """`S.T @ x` for S `[n, n_columns]` with k `values` per row, at columns `indices`.

    Shapes: `[n, k]`, `[n, k]`, `[n, d]` → `[n_columns, d]`.
    """
    column = indices.flatten()
    order = column.argsort(stable=True)
    counts = torch.bincount(column, minlength=n_columns)
    return nn.functional.embedding_bag(
        order // indices.shape[1],
        x,
        counts.cumsum(0) - counts,
        per_sample_weights=values.flatten()[order],
        mode="sum",
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """Result of the objective for one batch."""

    total: torch.Tensor
    """To be minimized, `[]`."""
    normalized_mse: torch.Tensor
    """`sum |x - x_hat|^2 / sum |x - mean(x)|^2` over the batch, x the normalized input, `[]`:
    0 is perfect, 1 is no better than the mean.
    """
    latents_per_token: torch.Tensor
    """Mean number of active latents per token, `[]`."""


class Objective(nn.Module):
    """Normalized MSE, AuxK over dead latents, and the multi-k term."""

    tokens_since_fired: torch.Tensor
    """Tokens since each latent was active, int64 `[n_latents]`."""

    def __init__(
        self,
        autoencoder: TokenAutoencoder,
        activation: TopK | None = None,
        *,
        dead_after: int,
        multi_k: bool = False,
        k_aux: int | None = None,
        matmul_dtype: torch.dtype = torch.float32,
    ) -> None:
        """Train an autoencoder that has a decoder; by default with its own top k.

        `k_aux` is the number of dead latents that AuxK uses per token, by default `d_in / 2`.
        Pre-activations are in `matmul_dtype`; weights and gradients stay in float32. For the other
        settings see `TrainingConfig`.
        """
        super().__init__()
        self.autoencoder = autoencoder
        self.activation = activation or TopK(autoencoder.config.k)
        self.dead_after = dead_after
        self.multi_k = multi_k
        self.k_aux = autoencoder.config.d_in // 2 if k_aux is None else k_aux
        self.matmul_dtype = matmul_dtype
        fired = torch.zeros(autoencoder.config.n_latents, dtype=torch.int64)
        self.register_buffer("tokens_since_fired", fired)

    @property
    def dead(self) -> torch.Tensor:
        """Numbers of the dead latents, int64 `[n_dead]`."""
        return (self.tokens_since_fired > self.dead_after).nonzero().flatten()

    def forward(self, hidden: torch.Tensor) -> Loss:
        """The loss of token embeddings `[n_tokens, d_in]`; in training, records active latents."""
        model = self.autoencoder
        x = model.normalize(hidden)
        candidates = (
            MOST_TIMES_K * self.activation.k if self.multi_k else self.activation.candidates
        )
        pre, indices = TopActivations.apply(
            x,
            model.b_pre,
            model.W_enc,
            model.b_enc,
            min(candidates, model.config.n_latents),
            self.matmul_dtype,
        )
        acts, penalty = self.activation(pre, indices)
        chosen = indices[:, : acts.shape[1]]
        variance = (x - x.mean(dim=0)).square().sum()
        residual = x - model.reconstruct(acts, chosen)
        normalized_mse = residual.square().sum() / variance
        if self.training:
            self._record_fired(chosen[acts > 0], len(x))
        total = normalized_mse + penalty + AUX_WEIGHT * self._auxiliary(x, residual.detach())
        if self.multi_k:
            more = x - model.reconstruct(pre.relu(), indices)
            total = total + MULTI_K_WEIGHT * more.square().sum() / variance
        return Loss(total, normalized_mse.detach(), (acts > 0).sum() / max(len(x), 1))

    def _auxiliary(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """AuxK: how badly the dead latents reconstruct the residual of the living ones."""
        model, dead = self.autoencoder, self.dead
        k = min(self.k_aux, len(dead))
        if not k:
            return x.new_zeros(())
        assert model.W_dec is not None
        pre, indices = TopActivations.apply(
            x[:AUX_TOKENS],
            model.b_pre.detach(),
            model.W_enc[:, dead],
            model.b_enc[dead],
            k,
            self.matmul_dtype,
        )
        target = residual[:AUX_TOKENS]
        error = decode(pre.relu(), indices, model.W_dec[dead]) - target
        return (error.square().sum() / target.square().sum()).nan_to_num(0.0)

    @torch.no_grad()
    def _record_fired(self, fired: torch.Tensor, n_tokens: int) -> None:
        self.tokens_since_fired += n_tokens
        self.tokens_since_fired[fired] = 0
