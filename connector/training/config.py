"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training.activation import ACTIVATIONS

# Tokens without firing after which a latent is dead.
DEAD_AFTER = 300_000


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Settings of a run; defaults as in the paper where it states them."""

    n_latents: int = 16384
    k: int = 16
    tokens: int = 3_000_000
    """Tokens to train on; more than the texts have are several rounds over them."""
    activation: str = "topk"
    """What fires: "topk", "batchtopk" or "jumprelu"."""
    multi_k: bool = False
    """Reconstruct from 4k latents too, so that k can be changed later."""
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the steps in which the learning rate climbs; after it a cosine to zero."""
    dead_after: int = DEAD_AFTER
    buffer_tokens: int = 131_072
    """Tokens shuffled together; 131,072 x 384 in bf16 are 100 MB."""
    held_out_texts: int = 1000
    """Texts never trained on: reconstruction and document frequencies are measured on them."""
    max_gradient: float = 1.0
    """Norm to which the gradient is clipped."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_tokens < 1 or self.tokens < self.batch_tokens:
            raise InputError(f"{self.tokens} tokens: fewer than one batch, {self.batch_tokens}")
        if not 1 <= self.k <= self.n_latents:
            raise InputError(f"k {self.k}: must be 1 to the number of latents, {self.n_latents}")
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation {self.activation!r}: use {', '.join(ACTIVATIONS)}")
        if self.learning_rate <= 0:
            raise InputError(f"learning rate {self.learning_rate}: must be above 0")

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_tokens

    def memory(self, d_in: int, processes: int = 1) -> int:
        """Bytes that each process of a training needs beside the backbone, roughly.

        Both weight matrices in fp32 with gradient and two moments; pre-activations of its part of
        a batch, and the copy that their top-k makes; the token buffer.
        """
        weights = 2 * d_in * self.n_latents * 4 * 4
        pre_activations = 2 * self.batch_tokens // processes * self.n_latents * 4
        return weights + pre_activations + 2 * self.buffer_tokens * d_in * 2
