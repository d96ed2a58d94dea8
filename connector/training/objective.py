"""The objective: reconstruct a token from its strongest latents; revive the dead ones.

TopK and AuxK as in Gao et al. 2024 (arXiv 2406.04093).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder, decode

# Weight of the dead latents' reconstruction of the residual (Gao et al. 2024, section 2.4).
AUX_WEIGHT = 1 / 32

# Tokens of a batch that AuxK looks at; a shuffled batch needs no more, and its top-k is long.
AUX_TOKENS = 1024


class TopActivations(torch.autograd.Function):
    """The k largest of `(x - b_pre) @ W_enc + b_enc`, with gradients that only touch those k.

    The plain gradient of `W_enc` costs as much as the forward product, for a matrix of which
    all but k of `n_latents` columns a token are zero; this one is a sparse product.
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
        top = pre.topk(k, dim=-1, sorted=False)
        acts = top.values.float().relu()
        ctx.save_for_backward(centred, W_enc, acts, top.indices)
        ctx.mark_non_differentiable(top.indices)
        return acts, top.indices

    @staticmethod
    def backward(
        ctx: Any, grad_acts: torch.Tensor, _: torch.Tensor
    ) -> tuple[None, torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        centred, W_enc, acts, indices = ctx.saved_tensors
        grad = grad_acts * (acts > 0)
        grad_W = transposed_product(grad, indices, W_enc.shape[1], centred).T
        grad_b = torch.zeros_like(W_enc[0]).index_add_(0, indices.flatten(), grad.flatten())
        return None, -(W_enc @ grad_b), grad_W, grad_b, None, None


def transposed_product(
    values: torch.Tensor, indices: torch.Tensor, n_columns: int, x: torch.Tensor
) -> torch.Tensor:
    """`S.T @ x` for S `[n, n_columns]` with k `values` a row, at columns `indices`.

    `[n, k]`, `[n, k]`, `[n, d]` → `[n_columns, d]`
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


class Objective(nn.Module):
    """Normalised MSE at k, plus AuxK over latents that have not fired lately."""

    tokens_since_fired: torch.Tensor
    """int64 `[n_latents]`"""

    def __init__(
        self,
        autoencoder: TokenAutoencoder,
        *,
        dead_after: int,
        matmul_dtype: torch.dtype = torch.float32,
    ) -> None:
        """Watch an autoencoder that has a decoder.

        Args:
            autoencoder: in training mode.
            dead_after: tokens without firing after which a latent counts as dead.
            matmul_dtype: dtype of the pre-activations; weights and gradients stay in fp32.
        """
        super().__init__()
        self.autoencoder = autoencoder
        self.dead_after = dead_after
        self.matmul_dtype = matmul_dtype
        fired = torch.zeros(autoencoder.config.n_latents, dtype=torch.int64)
        self.register_buffer("tokens_since_fired", fired)

    @property
    def dead(self) -> torch.Tensor:
        """Numbers of the dead latents, int64 `[n_dead]`."""
        return (self.tokens_since_fired > self.dead_after).nonzero().flatten()

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and normalised MSE of tokens `[n_tokens, d_in]`.

        The normalised MSE is `sum |x - x_hat|^2 / sum |x - mean(x)|^2` over the batch, with x the
        normalised input: 0 is perfect, 1 is no better than the mean.
        """
        model = self.autoencoder
        assert model.W_dec is not None
        x = model.normalize(hidden)
        acts, indices = TopActivations.apply(
            x, model.b_pre, model.W_enc, model.b_enc, model.config.k, self.matmul_dtype
        )
        decoded = decode(acts, indices, model.W_dec) + model.b_pre
        residual = x - decoded
        normalized_mse = residual.square().sum() / (x - x.mean(dim=0)).square().sum()
        self._note_fired(indices[acts > 0], len(x))
        loss = normalized_mse + AUX_WEIGHT * self._auxiliary(x, residual.detach())
        return loss, normalized_mse.detach()

    def _auxiliary(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """How badly the dead latents reconstruct what the living ones left."""
        model, dead = self.autoencoder, self.dead
        if not len(dead):
            return x.new_zeros(())
        assert model.W_dec is not None
        k = min(model.config.d_in // 2, len(dead))
        acts, indices = TopActivations.apply(
            x[:AUX_TOKENS],
            model.b_pre.detach(),
            model.W_enc[:, dead],
            model.b_enc[dead],
            k,
            self.matmul_dtype,
        )
        target = residual[:AUX_TOKENS]
        error = decode(acts, indices, model.W_dec[dead]) - target
        return (error.square().sum() / target.square().sum()).nan_to_num(0.0)

    @torch.no_grad()
    def _note_fired(self, fired: torch.Tensor, n_tokens: int) -> None:
        self.tokens_since_fired += n_tokens
        self.tokens_since_fired[fired] = 0
