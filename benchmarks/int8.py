"""Encode documents on a CPU with the backbone in bfloat16 and int8, compared with float32.

    python benchmarks/int8.py

int8 is PyTorch's dynamic quantization of linear layers, with a scale for each tensor or for each
row of weights. The overlap is the part of the weight of a document's latent terms that both give.
The texts are docstrings of the standard library.
"""

from __future__ import annotations

import time
import warnings

import click
import numpy as np
import torch
from command import Benchmark
from torch.ao.quantization import (
    default_dynamic_qconfig,
    per_channel_dynamic_qconfig,
    quantize_dynamic,
)

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.vectors import LatentVectors


def in_int8(settings: object) -> LatentEncoder:
    """The shipped model with the backbone's linear layers in int8."""
    encoder = LatentEncoder.load(device="cpu", dtype="float32")
    backbone = encoder.backbone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an interface that will move to another package
        backbone._model = quantize_dynamic(backbone._model, {torch.nn.Linear: settings})
    return encoder


def overlaps(ones: LatentVectors, others: LatentVectors) -> list[float]:
    """Return, for each text, the weight that both give it, of the larger of both weights."""
    found = []
    for (latents, weights), (other_latents, other_weights) in zip(ones, others, strict=True):
        _, here, there = np.intersect1d(latents, other_latents, return_indices=True)
        common = np.minimum(weights[here], other_weights[there]).sum()
        found.append(float(common / max(weights.sum(), other_weights.sum())))
    return found


@click.command(cls=Benchmark)
@click.option("--texts", "n_texts", type=int, default=200)
def main(n_texts: int) -> None:
    """Print a row for each precision."""
    texts = [document["text"] for document in standard_library()][:n_texts]
    encoders = {
        "float32": LatentEncoder.load(device="cpu", dtype="float32"),
        "bfloat16": LatentEncoder.load(device="cpu", dtype="bfloat16"),
        "backbone in int8": in_int8(default_dynamic_qconfig),
        "backbone in int8, a scale each row": in_int8(per_channel_dynamic_qconfig),
    }
    click.echo("| precision | overlap with float32, mean | least | time, of float32 |")
    click.echo("|---|---|---|---|")
    exact, exact_seconds = None, 0.0
    for name, encoder in encoders.items():
        encoder.encode(texts[:16])
        started = time.perf_counter()
        vectors = encoder.encode(texts)
        seconds = time.perf_counter() - started
        if exact is None:
            exact, exact_seconds = vectors, seconds
        same = overlaps(exact, vectors)
        click.echo(
            f"| {name} | {np.mean(same):.4f} | {min(same):.4f} | {seconds / exact_seconds:.2f} |"
        )


if __name__ == "__main__":
    main()
