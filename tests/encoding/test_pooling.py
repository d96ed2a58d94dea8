"""Pooling of packed tokens, compared with a dense matrix."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector.encoding.autoencoder import TokenLatents
from latent_ingest.connector.encoding.pooling import POOLINGS, pool

N = 40


def dense(latents: TokenLatents, pooling: str) -> torch.Tensor:
    """Pooled activations `[n_texts, N]`, computed token by token."""
    bounds = latents.cu_seq_lens.tolist()
    out = torch.zeros(len(bounds) - 1, N)
    for text, (start, end) in enumerate(pairwise(bounds)):
        for token in range(start, end):
            for latent, value in zip(
                latents.top_indices[token].tolist(), latents.top_acts[token].tolist(), strict=True
            ):
                before = out[text, latent].item()
                out[text, latent] = before + value if pooling == "sum" else max(before, value)
    return out.log1p() if pooling == "max_log1p" else out


@given(
    lengths=st.lists(st.integers(0, 6), max_size=6),
    seed=st.integers(0, 1000),
    pooling=st.sampled_from(POOLINGS),
)
def test_pooling_is_what_a_dense_matrix_gives(lengths: list[int], seed: int, pooling: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    n, k = sum(lengths), 4
    scores = torch.rand(n, N, generator=generator)
    latents = TokenLatents(
        top_acts=(torch.rand(n, k, generator=generator) - 0.3).relu(),
        top_indices=scores.topk(k, dim=1).indices if n else torch.zeros(0, k, dtype=torch.int64),
        cu_seq_lens=torch.tensor([0, *lengths]).cumsum(0),
    )
    texts, indices, values = pool(latents, N, pooling)
    assert (values > 0).all()
    keys = texts * N + indices
    assert (keys.diff() > 0).all()  # by text, then by latent, each once
    got = torch.zeros(len(lengths), N)
    got[texts, indices] = values
    assert torch.allclose(got, dense(latents, pooling), atol=1e-6)


def test_an_unknown_pooling_is_refused() -> None:
    latents = TokenLatents(torch.ones(1, 1), torch.zeros(1, 1).long(), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="use one of sum, max, max_log1p"):
        pool(latents, N, "mean")
