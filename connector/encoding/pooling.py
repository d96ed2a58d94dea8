"""Token latents → one sparse vector a text."""

from __future__ import annotations

import torch

from latent_ingest.connector.encoding.autoencoder import TokenLatents

POOLINGS = ("sum", "max", "max_log1p")


def pool(
    latents: TokenLatents, n_latents: int, pooling: str = "sum"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pool the activations of each text, per latent, without a dense `[n_texts, n_latents]`.

    Args:
        latents: `[n_tokens, k]` activations of packed texts.
        n_latents: size of the vocabulary.
        pooling: "sum", "max" or "max_log1p" (the largest `log(1 + activation)`).

    Returns:
        `(texts, indices, values)`, each `[nnz]`, ordered by text and then by latent; values of
        zero are left out.

    Raises:
        ValueError: an unknown pooling.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling {pooling!r}: use one of {', '.join(POOLINGS)}")
    acts, device = latents.top_acts, latents.top_acts.device
    lengths = latents.cu_seq_lens.diff().to(device)
    text_of_token = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
    fires = acts > 0
    keys = (text_of_token[:, None] * n_latents + latents.top_indices)[fires]
    unique, place = torch.unique(keys, return_inverse=True)
    pooled = torch.zeros(len(unique), device=device)
    if pooling == "sum":
        pooled.index_add_(0, place, acts[fires])
    else:
        pooled.scatter_reduce_(0, place, acts[fires], "amax")
    if pooling == "max_log1p":
        pooled = pooled.log1p()
    return unique // n_latents, unique % n_latents, pooled
