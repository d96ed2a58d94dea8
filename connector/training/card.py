"""The model card (README.md) of a trained model, and its figures, drawn by matplotlib."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.inspection.vocabulary import Frequencies
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.metrics import TrainingReport
from latent_ingest.connector.training.texts import TrainingTexts


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Settings and results of a run, for its model card."""

    config: TrainingConfig
    report: TrainingReport
    texts: TrainingTexts
    backbone: Backbone
    command: str = ""
    """The command that started the run."""
    licence: str = ""
    """Licence of the texts, as given by the user."""


def write_card(
    run: RunSummary, latents: Frequencies, words: Frequencies, figures: tuple[str, ...] = ()
) -> str:
    """Return the text of the model card; `figures` are file names, shown at the end.

    `latents` and `words` are document frequencies in the held-out texts.
    """
    config, report, backbone = run.config, run.report, run.backbone
    # Only the last part of a folder: a card shows no paths of the user's machine.
    name = Path(backbone.name).name if Path(backbone.name).is_absolute() else backbone.name
    sources = ", ".join(
        Path(source.path).name + (f" (weight {source.weight:g})" if source.weight != 1 else "")
        for source in run.texts.sources
    )
    rows = {
        "backbone": f"{name}, weights {backbone.fingerprint}, "
        f"{str(backbone.dtype).removeprefix('torch.')}",
        "texts": sources,
        "licence of the texts": run.licence or "not stated",
        "tokens seen": f"{report.tokens:,} in {report.steps:,} steps"
        + {0: "", 1: ", all texts once"}.get(report.rounds, f", all texts {report.rounds:,} times"),
        "left out": f"{report.skipped_lines:,} lines without text, "
        f"{report.duplicate_texts:,} duplicate texts",
        "normalized MSE": f"{report.normalized_mse:.4f} on {report.held_out_tokens:,} held-out "
        f"tokens",
        "dead latents": f"{report.dead:,} of {config.n_latents:,} "
        f"(not active in the last {config.dead_after:,} tokens)",
        "document frequencies": f"log-log slope over rank {latents.slope:.2f}, R2 "
        f"{latents.r2:.2f}; words of the same texts {words.slope:.2f} and {words.r2:.2f}",
        "time": f"{report.seconds:,.0f} s on {backbone.device.type} ({os.cpu_count()} cores), "
        f"{report.processes} process{'es' if report.processes > 1 else ''}; optimization "
        f"{report.step_tokens_per_second:,.0f} tokens/s, backbone or cache "
        f"{report.backbone_tokens_per_second:,.0f} tokens/s",
        "settings": ", ".join(f"{name} {value}" for name, value in asdict(config).items()),
        "command": f"`{run.command}`" if run.command else "not stated",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    text = (
        f"# {config.n_latents:,} latents for {name}\n\n"
        "A sparse autoencoder over token embeddings (arXiv 2605.29384), trained to reconstruct "
        "the backbone's token embeddings; no labels, no retrieval loss.\n\n"
        f"| | |\n|---|---|\n{table}\n"
    )
    if report.probe_curve:
        points = "\n".join(f"| {tokens:,} | {ndcg:.4f} |" for tokens, ndcg in report.probe_curve)
        text += (
            f"\nnDCG@10 on {report.probe} by BM25 in memory; lower-cased words reach "
            f"{report.probe_words:.4f}.\n\n| tokens | latents |\n|---|---|\n{points}\n"
        )
    for name in figures:
        text += f"\n![{name.removesuffix('.png').replace('-', ' ')}]({name})\n"
    return text


def draw(
    folder: Path, report: TrainingReport, latents: Frequencies, words: Frequencies
) -> tuple[str, ...]:
    """Draw the figures into a folder that holds metrics.jsonl.

    Returns their file names; none without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return ()
    figures: dict[str, Callable[[Any], None]] = {
        "rank-frequency.png": partial(rank_frequency, latents=latents, words=words),
        "learning-curve.png": partial(learning_curve, folder=folder, report=report),
        "document-frequency.png": partial(document_frequency, latents=latents),
    }
    for name, draw_on in figures.items():
        figure = Figure(figsize=(6, 4))
        draw_on(figure.subplots())
        figure.savefig(folder / name, dpi=120, bbox_inches="tight")
    return tuple(figures)


def rank_frequency(axes: Any, latents: Frequencies, words: Frequencies) -> None:
    """Document frequency by rank, of latents and words, on logarithmic axes, with fitted lines."""
    for name, frequencies in (("latents", latents), ("words", words)):
        counts = frequencies.counts
        label = f"{name}: slope {frequencies.slope:.2f}, R2 {frequencies.r2:.2f}"
        ranks = np.arange(1, len(counts) + 1)
        (drawn,) = axes.loglog(ranks, counts, label=label)
        axes.loglog(ranks, frequencies.line(ranks), "--", color=drawn.get_color(), linewidth=0.8)
    axes.set(xlabel="rank", ylabel="document frequency")
    axes.legend()


def learning_curve(axes: Any, folder: Path, report: TrainingReport) -> None:
    """Normalized MSE by tokens and, if there was a probe, its nDCG@10."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    axes.plot([m["tokens"] for m in metrics], [m["normalized_mse"] for m in metrics], color="C0")
    axes.set(xlabel="tokens", ylabel="normalized MSE of a batch", yscale="log")
    if report.probe_curve:
        other = axes.twinx()
        other.plot(*zip(*report.probe_curve, strict=True), "o-", color="C1")
        other.axhline(report.probe_words or 0, color="C1", linestyle=":")
        other.set_ylabel(f"nDCG@10 on {report.probe} (dotted: words)", color="C1")


def document_frequency(axes: Any, latents: Frequencies) -> None:
    """Histogram of the latents' document frequencies."""
    axes.hist(latents.counts, bins=np.geomspace(1, max(latents.counts.max(initial=1), 2), 40))
    axes.set(xlabel="document frequency", ylabel="latents", xscale="log")
