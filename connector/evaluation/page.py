"""The HTML page of a report: one file with tables and charts that needs no network.

report.json → charts, best values → page.html → page
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.charts import (
    Bar,
    abbreviated,
    differences,
    scatter,
    short,
    signed,
    style_of,
)
from latent_ingest.connector.evaluation.measures import SIGNIFICANT

FORMAT = 1

# Characters of a question in the lists of those that gain and lose most.
SHOWN = 400

NONE = "–"

# Characters that a question may contain but HTML or UTF-8 does not allow.
NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def html(report: Mapping[str, Any]) -> str:
    """Return the page of a report.

    Args:
        report: content of report.json. A null value is shown as a dash; a section without values
            is left out.

    Raises:
        InputError: the report has another format.
    """
    if report["format"] != FORMAT:
        raise InputError(
            f"report of format {report['format']!r}: this version reads {FORMAT}; evaluate again"
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "best": best,
        "measure": measure_text,
        "p": probability,
        "percentiles": percentiles,
        "question": lambda text: abbreviated(text, SHOWN),
        "signed": signed,
        "size": size_text,
        "whole": whole,
    }
    environment.tests["significant"] = lambda comparison: comparison["p_holm"] < SIGNIFICANT
    main = report["measures"][0]
    page = environment.get_template("page.html").render(
        report=report,
        measures=report["measures"],
        main=main,
        collections=[collection_view(one, report["measures"]) for one in report["collections"]],
        summary=summary(report["collections"], main),
    )
    return NOT_ALLOWED.sub("\N{REPLACEMENT CHARACTER}", page)


def collection_view(collection: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of one collection: the report's part, charts, best values."""
    main = measures[0]
    systems = collection["systems"]
    return {
        **collection,
        "best": {
            measure: best(system["means"][measure] for system in systems.values())
            for measure in measures
        },
        "bars": measure_bars(systems, collection["published"], main),
        "scatter": scatter(systems, main),
        "differences": differences(systems, collection["texts"], main),
        "bytes": byte_bars(collection["cost"]["index_bytes"] or {}),
    }


def summary(collections: Sequence[Mapping[str, Any]], main: str) -> dict[str, Any]:
    """Return the main measure of all systems on all collections; None if one was not measured."""
    names = list(dict.fromkeys(name for one in collections for name in one["systems"]))
    rows = {
        one["name"]: [
            one["systems"][name]["means"][main] if name in one["systems"] else None
            for name in names
        ]
        for one in collections
    }
    return {"systems": names, "rows": rows}


def best(values: Iterable[float | None]) -> float | None:
    """Return the largest of several known values; None if fewer than two are known."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) > 1 else None


def measure_bars(
    systems: Mapping[str, Mapping[str, Any]], published: Sequence[Mapping[str, Any]], main: str
) -> list[Bar]:
    """Return bars of the main measure of each system, and of what others published."""
    values = [(name, system["means"][main], style_of(name)) for name, system in systems.items()]
    values += [
        (one["system"], one["value"], "published") for one in published if one["measure"] == main
    ]
    return [Bar(name, value, measure_text(value), style) for name, value, style in values]


def byte_bars(sizes: Mapping[str, int]) -> list[Bar]:
    """Return bars of the bytes of each field, largest first."""
    return [
        Bar(name, size, size_text(size), "ours" if name == "latent" else "baseline")
        for name, size in sorted(sizes.items(), key=lambda pair: -pair[1])
        if size
    ]


def measure_text(value: float | None) -> str:
    """Format a measure with four digits: .7387."""
    return NONE if value is None else short(value, 4)


def probability(p: float) -> str:
    """Format a p-value as .012 or < .001."""
    return "< .001" if p < 0.001 else short(p, 3)


def whole(number: float | None) -> str:
    """Format a number with thousands separators; below 100, with one digit after the point."""
    if number is None:
        return NONE
    return f"{number:,.1f}" if number < 100 and number % 1 else f"{number:,.0f}"


def percentiles(milliseconds: Mapping[str, float] | None) -> str:
    """Format the median and the 95th percentile: 3 / 81."""
    if milliseconds is None:
        return NONE
    return f"{whole(milliseconds['p50'])} / {whole(milliseconds['p95'])}"


def size_text(size: float) -> str:
    """Format a number of bytes: 12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
