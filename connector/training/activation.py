"""Which of a token's strongest pre-activations fire: TopK, BatchTopK or JumpReLU.

All three choose among the `candidates` strongest pre-activations of each token, so nothing dense
of `[n_tokens, n_latents]` is needed but the pre-activations themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ACTIVATIONS = ("topk", "batchtopk", "jumprelu")

# BatchTopK and JumpReLU let a token have more than k latents, up to this many times k.
MOST_TIMES_K = 4

# Width of the rectangle through which JumpReLU's thresholds get a gradient (Rajamanoharan et al.
# 2024, arXiv 2407.14435), and weight of the squared relative error of the number of latents.
BANDWIDTH = 0.5
SPARSITY_WEIGHT = 0.1

# How fast BatchTopK's threshold for encoding follows the batches' own.
THRESHOLD_DECAY = 0.99


class TopK(nn.Module):
    """The k strongest of each token."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    @property
    def candidates(self) -> int:
        """Pre-activations that `forward` wants, `[n_tokens, candidates]`, strongest first."""
        return self.k

    def forward(
        self, pre: torch.Tensor, indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations, zero where nothing fires, and a penalty that is added to the loss.

        Args:
            pre: strongest pre-activations, `[n_tokens, candidates]` or more, descending.
            indices: their latents, same shape.
        """
        return pre[:, : self.k].relu(), pre.new_zeros(())

    def thresholds(self, n_latents: int) -> torch.Tensor | None:
        """For encoding, `[n_latents]`; none where k alone decides."""
        return None


class BatchTopK(TopK):
    """The strongest, k a token on average (Bussmann et al. 2024, arXiv 2412.06410)."""

    threshold: torch.Tensor
    """Running mean of the weakest activation that fired, `[]`."""

    def __init__(self, k: int) -> None:
        super().__init__(k)
        self.register_buffer("threshold", torch.tensor(float("nan")))

    @property
    def candidates(self) -> int:
        return MOST_TIMES_K * self.k

    def forward(
        self, pre: torch.Tensor, indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept = pre[:, : self.candidates]
        wanted = min(self.k * len(kept), kept.numel())
        weakest = kept.detach().flatten().topk(wanted, sorted=False).values.min()
        if self.training:
            old = torch.where(self.threshold.isnan(), weakest, self.threshold)
            self.threshold.copy_(THRESHOLD_DECAY * old + (1 - THRESHOLD_DECAY) * weakest)
        return torch.where(kept >= weakest, kept, 0.0).relu(), pre.new_zeros(())

    def thresholds(self, n_latents: int) -> torch.Tensor:
        return self.threshold.clamp(min=0.0).repeat(n_latents)


class JumpReLU(TopK):
    """What is above a threshold of the latent's own, which is learned so that k fire on average."""

    def __init__(self, k: int, n_latents: int) -> None:
        super().__init__(k)
        self.theta = nn.Parameter(torch.zeros(n_latents))
        self._begun = False

    @property
    def candidates(self) -> int:
        return MOST_TIMES_K * self.k

    def forward(
        self, pre: torch.Tensor, indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept, latents = pre[:, : self.candidates], indices[:, : self.candidates]
        if not self._begun and not self.theta.detach().any():
            # From the first batch: the mean of each token's k-th.
            self.theta.data.fill_(kept[:, self.k - 1].mean().item())
        self._begun = True
        theta = self.theta[latents]
        acts, fires = Jump.apply(kept, theta)
        surplus = fires.sum() / (len(kept) * self.k) - 1
        return acts.relu(), SPARSITY_WEIGHT * surplus.square()

    def thresholds(self, n_latents: int) -> torch.Tensor:
        return self.theta.detach().clamp(min=0.0)


class Jump(torch.autograd.Function):
    """`z * (z > theta)` and `z > theta`, with straight-through gradients for theta."""

    @staticmethod
    def forward(
        ctx: Any, z: torch.Tensor, theta: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        fires = (z > theta).to(z.dtype)
        ctx.save_for_backward(z, theta, fires)
        return z * fires, fires

    @staticmethod
    def backward(
        ctx: Any, grad_acts: torch.Tensor, grad_fires: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        z, theta, fires = ctx.saved_tensors
        near = ((z - theta).abs() < BANDWIDTH / 2).to(z.dtype) / BANDWIDTH
        return grad_acts * fires, -near * (theta * grad_acts + grad_fires)


def make_activation(name: str, k: int, n_latents: int) -> TopK:
    """An activation of `ACTIVATIONS`."""
    if name == "jumprelu":
        return JumpReLU(k, n_latents)
    return BatchTopK(k) if name == "batchtopk" else TopK(k)
