"""Fast encoding of a few tokens on a CPU: candidates found in int8, then computed exactly.

A question has so few tokens that reading the encoder's weights takes most of the time, and in int8
they are a half or a quarter as large. For each wanted latent some candidates are found in int8;
their exact pre-activations are computed from the original weights, and the largest are kept.
"""

from __future__ import annotations

import warnings

import torch

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder, TokenLatents

# Most tokens in a batch for which this is faster.
MOST_TOKENS = 64

# Candidates per wanted latent: none of 23,680 activations of docstrings was missed, and all of 250
# questions of NFCorpus had the latents that float32 alone gives.
CANDIDATES = 2


class QuantizedAutoencoder:
    """The encoder half of an autoencoder, with its weight matrix in int8."""

    def __init__(self, autoencoder: TokenAutoencoder) -> None:
        """Quantize; the autoencoder's own weights are referenced, not copied.

        Raises:
            RuntimeError: this build of torch has no int8 kernels.
        """
        self._autoencoder = autoencoder
        rows = autoencoder.W_enc.detach().T.float().contiguous()
        scales = (rows.abs().amax(dim=1) / 127).clamp(min=1e-12).double()
        zeros = torch.zeros(len(rows), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates this module
            weights = torch.quantize_per_channel(rows, scales, zeros, 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(weights, autoencoder.b_enc.float())

    def encode(self, hidden: torch.Tensor, *, cu_seq_lens: torch.Tensor, k: int) -> TokenLatents:
        """Like `TokenAutoencoder.encode`, for packed tokens."""
        own = self._autoencoder
        x = own.normalize(hidden) - own.b_pre
        wanted = min(CANDIDATES * k, own.config.n_latents)
        near = torch.ops.quantized.linear_dynamic(x, self._packed, True)
        candidates = near.topk(wanted, dim=-1, sorted=False).indices
        rows = own.W_enc.T[candidates]
        exact = torch.bmm(rows.float(), x.float().unsqueeze(-1)).squeeze(-1)
        exact += own.b_enc[candidates]
        if own.theta is not None:
            exact *= exact > own.theta[candidates]
        top = exact.topk(k, dim=-1)
        return TokenLatents(top.values.relu(), candidates.gather(1, top.indices), cu_seq_lens)
