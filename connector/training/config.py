"""Settings of a training run, and the memory it needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training.activation import ACTIVATIONS

# A latent is dead once it was not active for this many tokens.
DEAD_AFTER = 300_000


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Settings of a training run; defaults as in arXiv 2605.29384 where the paper states them."""

    n_latents: int = 16384
    k: int = 16
    tokens: int = 3_000_000
    """Tokens to train on; if the texts have fewer, they are read in several rounds."""
    activation: str = "topk"
    """Activation function: "topk", "batchtopk" or "jumprelu"."""
    multi_k: bool = False
    """Also reconstruct from 4k latents, so that k can be changed later."""
    batch_tokens: int = 4096
    """Tokens per step."""
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it follows a cosine to zero."""
    dead_after: int = DEAD_AFTER
    """A latent that was not active for this many tokens is dead."""
    buffer_tokens: int = 131_072
    """Tokens shuffled together; 131,072 x 384 in bfloat16 take 100 MB."""
    held_out_texts: int = 1000
    """Texts never trained on; reconstruction and document frequencies are measured on them."""
    max_gradient: float = 1.0
    """Norm that the gradient is clipped to."""
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
        """Number of optimization steps."""
        return self.tokens // self.batch_tokens


def check_memory(config: TrainingConfig, backbone: Backbone, processes: int) -> None:
    """Raise InputError, with the figures, if a process of the run does not fit into memory."""
    # Both weight matrices in float32, with gradient and the two moments of Adam; the
    # pre-activations of the process's part of a batch, and the copy that their top-k makes; the
    # token buffer.
    weights = 2 * backbone.d_in * config.n_latents * 4 * 4
    pre_activations = 2 * config.batch_tokens // processes * config.n_latents * 4
    needed = weights + pre_activations + 2 * config.buffer_tokens * backbone.d_in * 2
    if backbone.device.type == "cuda":
        available = torch.cuda.mem_get_info(backbone.device)[0]
    else:
        try:
            import psutil
        except ImportError:
            return
        available = psutil.virtual_memory().available
    if needed > available:
        raise InputError(
            f"{config.n_latents:,} latents and a batch of {config.batch_tokens:,} tokens take "
            f"about {needed / 1e9:,.1f} GB of memory, {available / 1e9:,.1f} GB are free; use "
            f"fewer --latents or a smaller --batch"
        )
