"""A trained model's pictures, by matplotlib."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from latent_ingest.connector.training.report import TrainingReport
from latent_ingest.connector.training.statistics import Frequencies


def draw(
    folder: Path, report: TrainingReport, latents: Frequencies, words: Frequencies
) -> tuple[str, ...]:
    """Write the pictures into a folder that holds metrics.jsonl; none without matplotlib.

    Returns:
        Their file names.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return ()
    pictures = {
        "rank-frequency.png": rank_frequency(Figure(figsize=(6, 4)), latents, words),
        "learning-curve.png": learning_curve(Figure(figsize=(6, 4)), folder, report),
        "document-frequency.png": document_frequency(Figure(figsize=(6, 4)), latents),
    }
    for name, figure in pictures.items():
        figure.savefig(folder / name, dpi=120, bbox_inches="tight")
    return tuple(pictures)


def rank_frequency(figure: Any, latents: Frequencies, words: Frequencies) -> Any:
    """Document frequency by rank, latents beside words, on logarithmic axes, and fitted lines."""
    axes = figure.subplots()
    for name, frequencies in (("latents", latents), ("words", words)):
        counts = frequencies.counts
        label = f"{name}: slope {frequencies.slope:.2f}, R2 {frequencies.r2:.2f}"
        ranks = np.arange(1, len(counts) + 1)
        (drawn,) = axes.loglog(ranks, counts, label=label)
        axes.loglog(ranks, frequencies.line(ranks), "--", color=drawn.get_color(), linewidth=0.8)
    axes.set(xlabel="rank", ylabel="texts that have it")
    axes.legend()
    return figure


def learning_curve(figure: Any, folder: Path, report: TrainingReport) -> Any:
    """Normalised MSE by tokens, and the probe where there was one."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    axes = figure.subplots()
    axes.plot([m["tokens"] for m in metrics], [m["normalized_mse"] for m in metrics], color="C0")
    axes.set(xlabel="tokens", ylabel="normalised MSE of a batch", yscale="log")
    if report.probe_curve:
        other = axes.twinx()
        other.plot(*zip(*report.probe_curve, strict=True), "o-", color="C1")
        other.axhline(report.probe_words or 0, color="C1", linestyle=":")
        other.set_ylabel(f"nDCG@10 on {report.probe} (dotted: words)", color="C1")
    return figure


def document_frequency(figure: Any, latents: Frequencies) -> Any:
    """How many latents occur in how many texts."""
    axes = figure.subplots()
    axes.hist(latents.counts, bins=np.geomspace(1, max(latents.counts.max(initial=1), 2), 40))
    axes.set(xlabel="texts that have the latent", ylabel="latents", xscale="log")
    return figure
