"""Measure encoding on a CPU: batches, the share of the products, and a machine that has other work.

    python benchmarks/encode.py
    python benchmarks/encode.py --busy 2

The first prints the speed of batches of similar length within a token budget, over batches of 32 in
file order, with the same backbone; that of packed weights over PyTorch's plain layers; and the
share of the time of encoding that the products take: linear layers, attention, and that of the
autoencoder. The second encodes while other processes compute, with PyTorch's own threads, with
threads that soon sleep while they wait, as `latent-ingest` sets them, and with one thread. The
texts are docstrings of the standard library.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import click
import torch
from command import Benchmark
from torch.overrides import TorchFunctionMode

from latent_ingest.cli.main import SPINS
from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding import autoencoder
from latent_ingest.connector.encoding import backbone as backbones
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder

PLAIN_BATCH = 32

PRODUCTS = {
    torch.addmm,
    torch.nn.functional.linear,
    torch.nn.functional.scaled_dot_product_attention,
    torch.ops.mkldnn._linear_pointwise,
}

# Environment of the processes that encode beside others.
THREADS = {
    "PyTorch's own": {},
    "soon asleep while they wait": {"GOMP_SPINCOUNT": SPINS},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
ROUNDS = 3
ALONE = """
import sys, time
from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding.encoder import LatentEncoder
texts = [document["text"] for document in standard_library()][: int(sys.argv[1])]
encoder = LatentEncoder.load(device="cpu")
encoder.encode(texts[:8])
started = time.perf_counter()
encoder.encode(texts)
print(time.perf_counter() - started)
"""


class Timed(TorchFunctionMode):
    """Sums up the seconds that the products take."""

    seconds = 0.0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.seconds += time.perf_counter() - started
        return result


def ours(backbone: Backbone, texts: list[str]) -> None:
    """Embed in our batches."""
    for _ in backbone.embed(texts):
        pass


def plain(backbone: Backbone, texts: list[str]) -> None:
    """Embed in batches of `PLAIN_BATCH` texts in file order."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(find_folder(DEFAULT_BACKBONE))
    with torch.inference_mode():
        for start in range(0, len(texts), PLAIN_BATCH):
            batch = tokenizer(
                texts[start : start + PLAIN_BATCH],
                padding=True,
                truncation=True,
                max_length=backbone.max_tokens,
                return_tensors="pt",
            )
            backbone._model(**batch.to(backbone.device))


def seconds(
    encode: Callable[[Backbone, list[str]], None], backbone: Backbone, texts: list[str]
) -> float:
    """Duration of the faster of two runs."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        encode(backbone, texts)
        times.append(time.perf_counter() - started)
    return min(times)


def gain_of_packing(texts: list[str], dtype: str) -> float:
    """Return the time of encoding with plain layers, of that with packed ones; median of rounds."""
    packed = LatentEncoder.load(device="cpu", dtype=dtype)
    pack, pack_layers = autoencoder.pack, backbones.pack_layers
    autoencoder.pack = backbones.pack_layers = lambda *_: None
    try:
        plain = LatentEncoder.load(device="cpu", dtype=dtype)
    finally:
        autoencoder.pack, backbones.pack_layers = pack, pack_layers
    gains = []
    for _ in range(ROUNDS):
        times = []
        for encoder in (plain, packed):
            started = time.perf_counter()
            encoder.encode(texts)
            times.append(time.perf_counter() - started)
        gains.append(times[0] / times[1])
    return median(gains)


def share_of_products(encoder: LatentEncoder, texts: list[str]) -> float:
    """Return the part of the time of encoding that the products take, the median of some runs."""
    shares = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with Timed() as products:
            encoder.encode(texts)
        shares.append(products.seconds / (time.perf_counter() - started))
    return median(shares)


def compute() -> None:
    """Use one core until the process is terminated."""
    while True:
        sum(range(1_000_000))


@contextmanager
def others(n_processes: int) -> Iterator[None]:
    """Inside the block, other processes use a core each."""
    processes = [multiprocessing.Process(target=compute, daemon=True) for _ in range(n_processes)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()


def beside_others(n_others: int, n_texts: int) -> None:
    """Print the time of encoding in each way, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in THREADS}
    unset = {key: value for key, value in os.environ.items() if "OMP_" not in key}
    with others(n_others):
        for _ in range(ROUNDS):
            for name, environment in THREADS.items():
                run = subprocess.run(
                    [sys.executable, "-c", ALONE, str(n_texts)],
                    env={**unset, **environment},
                    check=True,
                    capture_output=True,
                    text=True,
                )
                taken[name].append(float(run.stdout))
    click.echo(f"{n_texts:,} docstrings, {os.cpu_count()} cores, {n_others} other processes\n")
    click.echo("| threads | time, of PyTorch's own |\n|---|---|")
    plain_times = taken["PyTorch's own"]
    for name, times in taken.items():
        ratio = median(one / other for one, other in zip(times, plain_times, strict=True))
        click.echo(f"| {name} | {ratio:.2f} |")


@click.command(cls=Benchmark)
@click.option("--texts", "n_texts", type=int, default=1500)
@click.option("--busy", "n_others", type=int, help="Other processes that compute.")
def main(n_texts: int, n_others: int | None) -> None:
    """Measure encoding on a CPU."""
    if n_others is not None:
        beside_others(n_others, n_texts)
        return
    texts = [document["text"] for document in standard_library()][:n_texts]
    encoder = LatentEncoder.load()
    backbone = encoder.backbone
    ours(backbone, texts[:100])
    slow, fast = seconds(plain, backbone, texts), seconds(ours, backbone, texts)
    click.echo(f"{len(texts):,} docstrings, {backbone.device.type}, {backbone.dtype}")
    click.echo(
        f"file order {slow:.1f} s, ours {fast:.1f} s: {slow / fast:.1f} times as fast\n"
        f"products: {share_of_products(encoder, texts):.2f} of the time of encoding"
    )
    for dtype in ("bfloat16", "float32"):
        gain = gain_of_packing(texts[: len(texts) // 4], dtype)
        click.echo(f"{dtype}: packed layers {gain:.2f} times as fast as plain ones")


if __name__ == "__main__":
    main()
