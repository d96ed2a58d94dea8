"""The change of an encoder that is learned from pairs: of low rank, the same for all latents.

Token embeddings x become x + (x A) C before the encoder, where A and C are thin; and each latent's
bias may move, too. Folded into the weights at the end, so a tuned model is an ordinary one.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder


class EncoderChange(nn.Module):
    """Turns the pre-activations of a frozen autoencoder into those of the tuned one."""

    down: nn.Parameter
    """A, `[d_in, rank]`."""
    up: nn.Parameter
    """C, `[rank, d_in]`; zero at the start, so nothing is changed."""
    bias: nn.Parameter
    """Change of `b_enc`, `[n_latents]`; zero at the start, and moved only for a lower cost."""
    W_enc: torch.Tensor
    """The frozen encoder's, `[d_in, n_latents]`."""

    def __init__(self, autoencoder: TokenAutoencoder, rank: int, seed: int) -> None:
        super().__init__()
        d_in, n_latents = autoencoder.W_enc.shape
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(torch.randn(d_in, rank, generator=generator) / math.sqrt(d_in))
        self.up = nn.Parameter(torch.zeros(rank, d_in))
        self.bias = nn.Parameter(torch.zeros(n_latents))
        self.register_buffer("W_enc", autoencoder.W_enc.detach().float(), persistent=False)

    def forward(
        self, centred: torch.Tensor, pre: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor:
        """Pre-activations of each token's candidates after the change, `[n_tokens, n]`.

        `centred` are normalized token embeddings less `b_pre`, `[n_tokens, d_in]`; `pre` are the
        frozen encoder's pre-activations of the latents `candidates`, `[n_tokens, n]` each.
        """
        columns = (self.up @ self.W_enc).T  # [n_latents, rank]
        moved = torch.einsum("tr,tcr->tc", centred @ self.down, columns[candidates])
        return pre + moved + self.bias[candidates]

    @torch.no_grad()
    def folded(self, autoencoder: TokenAutoencoder) -> TokenAutoencoder:
        """A copy of the frozen autoencoder with the change in its weights."""
        tuned = TokenAutoencoder(autoencoder.config, decoder=autoencoder.W_dec is not None)
        tuned.load_state_dict(autoencoder.state_dict())
        tuned.W_enc.add_(self.down.cpu() @ (self.up.cpu() @ autoencoder.W_enc.float().cpu()))
        tuned.b_enc.add_(self.bias.cpu())
        return tuned.eval()
