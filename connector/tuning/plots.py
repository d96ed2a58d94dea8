"""Plots of the knobs' curves, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latent_ingest.connector.tuning.selection import Curve

# Knobs on a logarithmic axis.
LOGARITHMIC = ("latent_boost", "k1", "query_k", "max_query_terms", "head_terms", "window")

# Smallest ratio of two neighbouring ticks.
APART = 1.15


def draw(folder: Path, curves: list[Curve]) -> list[str]:
    """Write a PNG file per knob and return their names; none if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    names = []
    # Of a knob that is tuned twice, the second curve is drawn.
    for name, curve in {curve.knob: curve for curve in curves}.items():
        figure = Figure(figsize=(6, 4))
        plot(figure.subplots(), curve)
        names.append(f"{name.replace('_', '-')}.png")
        figure.savefig(folder / names[-1], dpi=120, bbox_inches="tight")
    return names


def plot(axes: Any, curve: Curve) -> None:
    """Plot nDCG@10 and time by value; mark the value before tuning and the best one."""
    values = [point.value for point in curve.points]
    axes.plot(values, [point.ndcg for point in curve.points], "o-", color="C0")
    axes.axvline(curve.default, color="gray", linestyle=":", label=f"before: {curve.default:g}")
    noise = "" if curve.outside_noise else ", inside noise"
    label = f"best: {curve.best:g}{noise}"
    axes.axvline(curve.best, color="C2", linestyle="--", label=label)
    axes.set(xlabel=curve.knob, ylabel=f"nDCG@10 of {curve.form}, development queries")
    if curve.knob in LOGARITHMIC:
        axes.set_xscale("log")
        ticks = values[:1]
        ticks += [v for v, last in zip(values[1:], values, strict=False) if v > APART * last]
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks], rotation=45)
        axes.minorticks_off()
    other = axes.twinx()
    other.plot(values, [point.took_p50 for point in curve.points], ".:", color="C1", alpha=0.7)
    other.set_ylabel("median took, ms (dotted)", color="C1")
    other.set_ylim(bottom=0)
    axes.legend()
