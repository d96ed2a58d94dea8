"""A training step of ours against plain autograd over dense matrices: ratios of their times.

Plain: `relu(topk(x @ W_enc))` scattered into a dense `[n_tokens, n_latents]`, times `W_dec`, fp32,
`loss.backward()`. Ours: `Objective`, in fp32 and in the dtype that `latent-ingest train` would
choose, and with the multi-k term.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import pick_device, pick_dtype
from latent_ingest.connector.training.objective import Objective

TOKENS, D_IN, N_LATENTS, K = 4096, 384, 16384, 16
ROUNDS = 5


def plain_loss(model: TokenAutoencoder, hidden: torch.Tensor) -> torch.Tensor:
    assert model.W_dec is not None
    x = model.normalize(hidden)
    pre = (x - model.b_pre) @ model.W_enc + model.b_enc
    top = pre.topk(K)
    z = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    residual = x - (z @ model.W_dec + model.b_pre)
    return residual.square().sum() / (x - x.mean(dim=0)).square().sum()


def seconds(step: Callable[[], torch.Tensor], model: TokenAutoencoder) -> float:
    """Median time of forward and backward."""
    times = []
    for _ in range(ROUNDS + 1):
        model.zero_grad()
        started = time.perf_counter()
        step().backward()
        if model.W_enc.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main() -> None:
    device = pick_device("auto")
    chosen = pick_dtype("auto", device)
    model = TokenAutoencoder(AutoencoderConfig(D_IN, N_LATENTS, K))
    model.initialize(torch.Generator().manual_seed(0))
    model.to(device).train()
    hidden = torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(0)).to(device)
    plain = seconds(lambda: plain_loss(model, hidden), model)
    print(f"{TOKENS:,} tokens, {N_LATENTS:,} latents, {device.type}: plain {plain:.3f} s a step")
    for dtype, multi_k in ((torch.float32, False), (chosen, False), (chosen, True)):
        objective = Objective(model, dead_after=1 << 60, multi_k=multi_k, matmul_dtype=dtype)
        objective.to(device).train()
        ours = seconds(lambda objective=objective: objective(hidden).total, model)
        name = f"{str(dtype).removeprefix('torch.')}{', multi-k' if multi_k else ''}"
        print(f"ours, {name}: {ours:.3f} s, {plain / ours:.1f} times as fast")


if __name__ == "__main__":
    main()
