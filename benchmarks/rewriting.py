"""Cost of rewriting a question, as a ratio to the forward pass of the backbone alone.

    python benchmarks/rewriting.py
    python benchmarks/rewriting.py --dtype float32 --rounds 200

The forward pass is that of the same question with the same padding. In each round, the forward
pass, rewriting with encoding, and rewriting with a cached encoding are timed in turn; medians are
compared, so that a busy machine slows all three. Then rewriting by the question table is timed by
itself. Questions have 8, 10 and 29 words.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import click
import torch
from command import Benchmark

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

QUESTIONS = {
    "short": "does vitamin D prevent falls in older adults",
    "middle": "does vitamin D supplementation prevent hip fractures in older women",
    "long": (
        "patients with type 2 diabetes who walk for half an hour after every meal have lower "
        "blood sugar over the day than those who walk once in the morning"
    ),
}


@click.command(cls=Benchmark)
@click.option("--dtype", default="auto", help="Precision of the backbone, as for latent-ingest.")
@click.option("--rounds", default=100, show_default=True, help="Number of timed rounds.")
@click.option("--threads", default=torch.get_num_threads(), help="Number of threads of torch.")
def main(dtype: str, rounds: int, threads: int) -> None:
    """Print ratios of the median times (p50)."""
    torch.set_num_threads(threads)
    encoder = LatentEncoder.load(dtype=dtype)
    queries = QueryEncoder(encoder)
    rewriter, by_table = QueryRewriter(queries), QueryRewriter(QueryEncoder(questions="table"))
    click.echo(f"{encoder.backbone.dtype}, {threads} torch threads, {rounds} rounds")
    for name, question in QUESTIONS.items():
        forward = forward_of(encoder, question)
        queries.cache_clear()
        rewriter.rewrite(question)

        def encoding(question: str = question) -> None:
            queries.cache_clear()
            rewriter.rewrite(question)

        took = alternately(
            rounds,
            {
                "forward": forward,
                "with encoding": encoding,
                "cached": lambda question=question: rewriter.rewrite(question),  # type: ignore[misc]
            },
        )
        # By itself, since a server by table runs no model.
        took |= alternately(rounds, {"table": lambda question=question: by_table.rewrite(question)})  # type: ignore[misc]
        p50 = {what: statistics.median(seconds) for what, seconds in took.items()}
        best = {what: min(seconds) for what, seconds in took.items()}
        click.echo(
            f"{name} question, {len(rewriter.terms(question))} terms: rewriting with encoding "
            f"{p50['with encoding'] / p50['forward']:.2f} times the backbone's forward pass "
            f"(fastest rounds: {best['with encoding'] / best['forward']:.2f}); with a cached "
            f"encoding {p50['cached'] / p50['forward']:.3f} times, {p50['cached'] * 1000:.2f} ms; "
            f"by table, {len(by_table.terms(question))} terms, {p50['table'] * 1000:.2f} ms"
        )


def forward_of(encoder: LatentEncoder, question: str) -> Callable[[], None]:
    """Return a function that runs the forward pass of the backbone for a question."""
    model, tokenizer = encoder.backbone._model, encoder.backbone._tokenizer
    ids = tokenizer(question)["input_ids"]
    padded = -(-len(ids) // 16) * 16
    input_ids = torch.zeros((1, padded), dtype=torch.int64)
    input_ids[0, : len(ids)] = torch.tensor(ids)
    attention = (torch.arange(padded) < len(ids)).long()[None]
    input_ids, attention = input_ids.to(model.device), attention.to(model.device)

    def forward() -> None:
        with torch.inference_mode():
            model(input_ids=input_ids, attention_mask=attention)
        if model.device.type == "cuda":
            torch.cuda.synchronize()

    return forward


def alternately(rounds: int, ways: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the seconds of each way in each round, after five warm-up rounds."""
    took: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 5):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number >= 5:
                took[name].append(time.perf_counter() - start)
    return took


if __name__ == "__main__":
    main()
