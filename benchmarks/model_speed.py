"""Compare the speed of models: documents, and single questions, in multiples of the first model's.

    python benchmarks/model_speed.py minilm-32k mpnet-32k

Models take turns. The texts are docstrings of the standard library, the questions their first
sentences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import click
from command import Benchmark

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding.encoder import LatentEncoder


@click.command(cls=Benchmark)
@click.argument("models", nargs=-1, required=True)
@click.option("--texts", "n_texts", type=int, default=200, show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
def main(models: tuple[str, ...], n_texts: int, rounds: int) -> None:
    """Print a row for each of MODELS, folders or names of those that ship."""
    texts = [document["text"] for document in standard_library()][:n_texts]
    questions = [text.partition(".")[0] for text in texts[:50]]
    encoders = [LatentEncoder.load(model) for model in models]
    for encoder in encoders:
        encoder.encode(texts[:32])
    took: list[tuple[list[float], list[float]]] = [([], []) for _ in encoders]
    for _ in range(rounds):
        for encoder, (documents, single) in zip(encoders, took, strict=True):
            documents.append(seconds(encoder.encode, [texts]))
            single.append(seconds(encoder.encode, [[question] for question in questions]))
    first = [median(times) for times in took[0]]
    click.echo("model".ljust(24) + "documents".rjust(12) + "a question".rjust(12))
    for encoder, times in zip(encoders, took, strict=True):
        ratios = [median(each) / base for each, base in zip(times, first, strict=True)]
        click.echo(encoder.name.ljust(24) + "".join(f"{ratio:12.2f}" for ratio in ratios))


def seconds(encode: Callable[[list[str]], object], batches: list[list[str]]) -> float:
    """Time to encode all batches, one after the other."""
    began = time.perf_counter()
    for batch in batches:
        encode(batch)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
