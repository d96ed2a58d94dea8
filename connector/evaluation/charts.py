"""Contents of the evaluation page's charts, as numbers that the template draws as SVG.

Lengths and positions are per cent of a chart, so the browser does the layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from latent_ingest.connector.evaluation.systems import REFERENCES

# Columns of a chart of differences; if there are more questions, neighbours share a column.
MOST_COLUMNS = 360

# Characters of a question in the tooltip of its column; some questions are whole documents.
TOOLTIP = 200

# Per cent of a scatter plot's height that a line of text takes: 14 of 208 pixels.
LINE = 7.0

Systems = Mapping[str, Mapping[str, Any]]
"""`systems` of a report: name → `means`, `per_query` and costs."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a bar chart."""

    label: str
    value: float
    shown: str
    """The value as text."""
    style: str
    """CSS class: "ours", "baseline" or "published"."""


@dataclass(frozen=True, slots=True)
class Column:
    """The differences of one question, or of several neighbours, in a chart of differences."""

    value: float
    """Mean difference."""
    title: str


@dataclass(frozen=True, slots=True)
class Point:
    """A system in a scatter plot; positions in per cent, from the left and from the top."""

    label: str
    x: float
    y: float
    label_y: float
    """Position of the label, which is to the right of the plot."""
    style: str
    title: str


def differences(systems: Systems, texts: Mapping[str, str], main: str) -> dict[str, Any] | None:
    """Return each system's differences from words per question; None without words.

    Returns:
        `most`, the end of the axis, and `charts`: name → `columns` (largest gain first), and the
        numbers of questions `won`, `tied` and `lost`.
    """
    if "words" not in systems:
        return None
    words = systems["words"]["per_query"]
    charts = {}
    most = 0.0
    for name, system in systems.items():
        if name == "words":
            continue
        gains = [(system["per_query"][q][main] - row[main], texts[q]) for q, row in words.items()]
        gains.sort(key=lambda pair: -pair[0])
        most = max(most, gains[0][0], -gains[-1][0])
        charts[name] = {
            "columns": columns(gains),
            "won": sum(gain > 0 for gain, _ in gains),
            "tied": sum(gain == 0 for gain, _ in gains),
            "lost": sum(gain < 0 for gain, _ in gains),
        }
    return {"most": max(0.1, ceil(10 * most - 1e-9) / 10), "charts": charts}


def columns(gains: Sequence[tuple[float, str]]) -> list[Column]:
    """Group pairs of difference and question into at most `MOST_COLUMNS` columns."""
    size = ceil(len(gains) / MOST_COLUMNS)
    found = []
    for start in range(0, len(gains), size):
        group = gains[start : start + size]
        largest, text = max(group, key=lambda pair: abs(pair[0]))
        others = f" (and {len(group) - 1} beside it)" if len(group) > 1 else ""
        title = f"{signed(largest)}  {abbreviated(text, TOOLTIP)}{others}"
        found.append(Column(sum(gain for gain, _ in group) / len(group), title))
    return found


def scatter(systems: Systems, main: str) -> dict[str, Any] | None:
    """Return quality against latency, of the systems that have a latency; or None.

    Returns:
        `points`, the best first; `x_ticks` and `y_ticks`, each as position and text; `without`,
        the systems that have no latency.
    """
    timed = {name: system for name, system in systems.items() if system["client_ms"]}
    if not timed:
        return None
    milliseconds = {name: system["client_ms"]["p50"] for name, system in timed.items()}
    quality = {name: system["means"][main] for name, system in timed.items()}
    x_ticks = ticks(0.0, max(1.0, 1.05 * max(milliseconds.values())))
    low, high = min(quality.values()), max(quality.values())
    margin = max(0.01, 0.15 * (high - low))
    y_ticks = ticks(low - margin, high + margin)
    names = sorted(timed, key=lambda name: -quality[name])
    heights = [100 - percent(quality[name], y_ticks) for name in names]
    digits = max(0, -floor(log10(y_ticks[1] - y_ticks[0]) + 1e-9))
    return {
        "points": [
            Point(
                name,
                percent(milliseconds[name], x_ticks),
                height,
                label_height,
                style_of(name),
                f"{name}: {short(quality[name], 4)}, {milliseconds[name]:.3g} ms",
            )
            for name, height, label_height in zip(names, heights, spread(heights), strict=True)
        ],
        "x_ticks": [(percent(tick, x_ticks), f"{tick:g}") for tick in x_ticks],
        "y_ticks": [(100 - percent(tick, y_ticks), short(tick, digits)) for tick in y_ticks],
        "without": [name for name in systems if name not in timed],
    }


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about five round numbers that span `low` to `high`."""
    span = max(high - low, 1e-9)
    size = 10.0 ** floor(log10(span / about))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= about)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def percent(value: float, axis: Sequence[float]) -> float:
    """Return the position of a value on an axis, given by its ticks."""
    return 100 * (value - axis[0]) / (axis[-1] - axis[0])


def spread(heights: Sequence[float]) -> list[float]:
    """Move ascending heights apart by at least a line, within 0 to 100 if there are 14 or fewer."""
    placed: list[float] = []
    for number, height in enumerate(heights):
        lowest = 100 - LINE * (len(heights) - 1 - number)
        highest = placed[-1] + LINE if placed else 0.0
        placed.append(max(highest, min(height, lowest)))
    return placed


def style_of(system: str) -> str:
    """Return the CSS class of a system's marks: systems of reference are grey."""
    return "baseline" if system in REFERENCES else "ours"


def abbreviated(text: str, most: int) -> str:
    """Shorten a text to a number of characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def short(value: float, digits: int) -> str:
    """Format a number without the 0 before its point: .7387."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def signed(value: float, digits: int = 3) -> str:
    """Format a difference with its sign: +.038, −.004."""
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return sign + short(abs(value), digits)
