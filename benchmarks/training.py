"""Speed of training: ratios of times on this machine.

First, a training step with our sparse products against plain autograd over dense matrices. Plain:
`relu(topk(x @ W_enc))` scattered into a dense `[n_tokens, n_latents]`, times `W_dec`, in float32,
`loss.backward()`. Ours: `Objective`, in float32 and in the dtype that `latent-ingest train` would
choose, with the multi-k term, and compiled by `torch.compile`, which `latent-ingest train` does not
use.

Then a run on real text that embeds the next batch in a thread during a step, against one that
does both in turn, as `latent-ingest train` does.
"""

from __future__ import annotations

import json
import queue
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import click
import torch
from command import Benchmark

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone, pick_device, pick_dtype
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.embeddings import TextTokens, TokenBatches
from latent_ingest.connector.training.objective import Objective
from latent_ingest.connector.training.optimization import Optimization
from latent_ingest.connector.training.texts import Source, TrainingTexts

TOKENS, D_IN, N_LATENTS, K = 4096, 384, 16384, 16
ROUNDS = 5
BATCHES = 24


def plain_loss(model: TokenAutoencoder, hidden: torch.Tensor) -> torch.Tensor:
    assert model.W_dec is not None
    x = model.normalize(hidden)
    pre = (x - model.b_pre) @ model.W_enc + model.b_enc
    top = pre.topk(K)
    z = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    residual = x - (z @ model.W_dec + model.b_pre)
    return residual.square().sum() / (x - x.mean(dim=0)).square().sum()


def seconds(step: Callable[[], torch.Tensor], model: TokenAutoencoder) -> float:
    """Median duration of forward and backward."""
    times = []
    for _ in range(ROUNDS + 1):
        model.zero_grad()
        started = time.perf_counter()
        step().backward()
        if model.W_enc.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def compiled_ratio(model: TokenAutoencoder, hidden: torch.Tensor, dtype: torch.dtype) -> float:
    """Duration of a step divided by that of a compiled step, the two in turn."""
    objective = Objective(model, dead_after=1 << 60, matmul_dtype=dtype).to(hidden.device).train()
    compiled = torch.compile(objective)
    rounds = [
        (
            seconds(lambda: objective(hidden).total, model),
            seconds(lambda: compiled(hidden).total, model),
        )
        for _ in range(3)
    ]
    return statistics.median(plain / ours for plain, ours in rounds)


def in_turn(batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    return islice(batches, BATCHES)


def ahead(batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The same batches, embedded in a thread that is at most two batches ahead."""
    ready: queue.Queue[torch.Tensor] = queue.Queue(maxsize=2)

    def embed() -> None:
        for batch in islice(batches, BATCHES):
            ready.put(batch)

    threading.Thread(target=embed).start()
    return (ready.get() for _ in range(BATCHES))


def run_seconds(
    backbone: Backbone,
    texts: Path,
    order: Callable[[Iterator[torch.Tensor]], Iterator[torch.Tensor]],
) -> float:
    """Duration of a short run, after a warm-up of two steps."""
    config = TrainingConfig(tokens=1 << 20)
    batches = TokenBatches(
        TextTokens(backbone, TrainingTexts([Source(str(texts))])),
        batch_tokens=TOKENS,
        buffer_tokens=4 * TOKENS,
        generator=torch.Generator().manual_seed(0),
        device=backbone.device,
    )
    optimization = Optimization(backbone, config)
    for number, hidden in enumerate(islice(batches, 2), start=1):
        optimization.step(number, hidden)
    started = time.perf_counter()
    for number, hidden in enumerate(order(batches), start=3):
        optimization.step(number, hidden)
    return time.perf_counter() - started


def compare_runs() -> None:
    backbone = Backbone.load()
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "stdlib.jsonl"
        texts.write_text("".join(json.dumps(document) + "\n" for document in standard_library()))
        rounds = [
            (run_seconds(backbone, texts, in_turn), run_seconds(backbone, texts, ahead))
            for _ in range(3)
        ]
    ratio = statistics.median(turn / thread for turn, thread in rounds)
    print(f"embedding and steps, a thread ahead: {ratio:.2f} times as fast as in turn")


@click.command(cls=Benchmark)
def main() -> None:
    """Print the time of training steps as ratios."""
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
    if shutil.which("g++"):  # torch.compile needs one
        print(f"compiled, {compiled_ratio(model, hidden, chosen):.2f} times as fast as not")
    compare_runs()


if __name__ == "__main__":
    main()
