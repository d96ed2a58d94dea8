"""Activation functions of the autoencoder in training: TopK, BatchTopK and JumpReLU.

Each chooses among the `candidates` largest pre-activations of a token, so that apart from the
pre-activations themselves nothing dense of `[n_tokens, n_latents]` is needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ACTIVATIONS = ("topk", "batchtopk", "jumprelu")

# BatchTopK and JumpReLU allow more than k latents per token, up to this many times k.
MOST_TIMES_K = 4

# Width of the rectangular kernel that gives JumpReLU's thresholds a gradient (Rajamanoharan et al.
# 2024, arXiv 2407.14435), and weight of the squared relative error of the number of active latents.
BANDWIDTH = 0.5
SPARSITY_WEIGHT = 0.1

# Decay of the running mean that becomes BatchTopK's threshold for encoding.
THRESHOLD_DECAY = 0.99


class TopK(nn.Module):
    """Keeps the k largest pre-activations of each token."""

    most_times_k = 1
    """Most active latents of a token, in multiples of k."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.candidates = self.most_times_k * k
        """Pre-activations per token that `forward` needs: `[n_tokens, candidates]`, descending."""

    def forward(
        self, pre: torch.Tensor, indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the activations, zero for inactive candidates, and a penalty to add to the loss.

        `pre` has the largest pre-activations, `[n_tokens, candidates]` or wider, descending;
        `indices` their latents.
        """
        return pre[:, : self.k].relu(), pre.new_zeros(())

    def thresholds(self, n_latents: int) -> torch.Tensor | None:
        """Thresholds for encoding, `[n_latents]`; None if k alone decides."""
        return None


class BatchTopK(TopK):
    """Keeps k per token on average over a batch (Bussmann et al. 2024, arXiv 2412.06410)."""

    most_times_k = MOST_TIMES_K

    threshold: torch.Tensor
    """Running mean of the smallest active pre-activation of a batch, `[]`."""

    def __init__(self, k: int) -> None:
        super().__init__(k)
        self.register_buffer("threshold", torch.tensor(float("nan")))

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
    """Keeps what exceeds a learned threshold per latent; about k latents per token are active."""

    most_times_k = MOST_TIMES_K

    def __init__(self, k: int, n_latents: int) -> None:
        super().__init__(k)
        self.theta = nn.Parameter(torch.zeros(n_latents))
        self._begun = False

    def forward(
        self, pre: torch.Tensor, indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept, latents = pre[:, : self.candidates], indices[:, : self.candidates]
        if not self._begun and not self.theta.detach().any():
            # Initialized from the first batch: the mean of each token's k-th pre-activation.
            self.theta.data.fill_(kept[:, self.k - 1].mean().item())
        self._begun = True
        theta = self.theta[latents]
        acts, fires = Jump.apply(kept, theta)
        surplus = fires.sum() / (len(kept) * self.k) - 1
        return acts.relu(), SPARSITY_WEIGHT * surplus.square()

    def thresholds(self, n_latents: int) -> torch.Tensor:
        return self.theta.detach().clamp(min=0.0)


class Jump(torch.autograd.Function):
    """Return `z * (z > theta)` and `z > theta`, with straight-through gradients for theta."""

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
    """The activation named `name`, one of `ACTIVATIONS`."""
    if name == "jumprelu":
        return JumpReLU(k, n_latents)
    return BatchTopK(k) if name == "batchtopk" else TopK(k)
