"""The HTML page of a report: one file with tables and charts that needs no network.

report.json → charts, best values → page.html → page
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation import charts
from latent_ingest.connector.evaluation.charts import abbreviated, short, signed
from latent_ingest.connector.evaluation.measures import SIGNIFICANT
from latent_ingest.connector.evaluation.systems import REFERENCES

FORMAT = 1

# Characters of a question in the lists of those that gain and lose most.
SHOWN = 400

NONE = "–"

# Characters that a question may contain but HTML or UTF-8 does not allow.
NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def html(report: Mapping[str, Any]) -> str:
    """Return the page of a report.

    Args:
        report: content of report.json. A null value is shown as a dash; a section whose values are
            all null, or whose list is empty, is left out.

    Raises:
        InputError: the report has another format.
    """
    if report.get("format") != FORMAT:
        raise InputError(
            f"report of format {report.get('format')!r}: this version reads {FORMAT}; "
            f"evaluate again"
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
    environment.tests["significant"] = is_significant
    measures = list(report["measures"])
    page = environment.get_template("page.html").render(
        report=report,
        measures=measures,
        main=measures[0],
        collections=[collection_view(one, measures) for one in report["collections"]],
        summary=summary(report["collections"], measures[0]),
    )
    return NOT_ALLOWED.sub("\N{REPLACEMENT CHARACTER}", page)


def collection_view(collection: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of one collection: the report's part, charts, best values."""
    main = measures[0]
    systems: Mapping[str, Mapping[str, Any]] = collection["systems"]
    comparisons = collection.get("comparisons") or []
    published = collection.get("published") or []
    cost = collection.get("cost") or {}
    costs = {
        "whole index": size_text(cost.get("index_total_bytes")),
        "documents per second, ingest": whole(cost.get("documents_per_second")),
        "tokens per second, encoding": whole(cost.get("tokens_per_second")),
    }
    return {
        **collection,
        "best": {
            measure: best(system["means"].get(measure) for system in systems.values())
            for measure in measures
        },
        "comparisons": [{**one, "strip": strip(one)} for one in comparisons],
        "letters": letters(comparisons),
        "published": published_rows(published),
        "overlap": [
            {**row, "values": [(row.get("systems") or {}).get(name) for name in systems]}
            for row in collection.get("overlap") or []
        ],
        "bars": bar_chart(systems, published, main),
        "scatter": scatter_chart(systems, main),
        "differences": difference_charts(systems, collection.get("texts") or {}, main),
        "bytes": bytes_chart(cost),
        "costs": {name: value for name, value in costs.items() if value != NONE},
    }


def summary(collections: Sequence[Mapping[str, Any]], main: str) -> dict[str, Any]:
    """Return the main measure of all systems on all collections."""
    names = list(dict.fromkeys(name for one in collections for name in one["systems"]))
    rows = {
        one["name"]: [
            (one["systems"].get(name) or {"means": {}})["means"].get(main) for name in names
        ]
        for one in collections
    }
    return {"systems": names, "rows": rows}


def best(values: Iterable[float | None]) -> float | None:
    """Return the largest of several known values; None if fewer than two are known."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) > 1 else None


def published_rows(published: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Group published figures: system and source → measure → value."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in published:
        rows.setdefault((one["system"], one.get("source") or ""), {})[one["measure"]] = one["value"]
    return rows


def letters(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a short mark per system that others are compared with: w for words."""
    names = list(dict.fromkeys(one["against"] for one in comparisons))
    first = [name[:1] for name in names]
    return {
        name: letter if first.count(letter) == 1 else str(number)
        for number, (name, letter) in enumerate(zip(names, first, strict=True), start=1)
    }


def is_significant(comparison: Mapping[str, Any]) -> bool:
    """Whether the corrected p is known and small enough."""
    p = comparison.get("p_holm")
    return p is not None and p < SIGNIFICANT


def strip(comparison: Mapping[str, Any]) -> str:
    """Draw the numbers of questions won, tied and lost; "" if one is unknown."""
    counts = {name: comparison.get(name) for name in ("won", "tied", "lost")}
    parts = [
        (number, style)
        for number, style in zip(counts.values(), ("gain", "tie", "loss"), strict=True)
        if number is not None
    ]
    label = ", ".join(f"{number} {name}" for name, number in counts.items())
    return charts.strip(parts, label) if len(parts) == 3 else ""


def bar_chart(
    systems: Mapping[str, Mapping[str, Any]], published: Sequence[Mapping[str, Any]], main: str
) -> str:
    """Draw the main measure of each system, and of what others published."""
    rows = [
        charts.Bar(name, mean, measure_text(mean), style_of(name))
        for name, system in systems.items()
        if (mean := system["means"].get(main)) is not None
    ]
    rows += [
        charts.Bar(one["system"], one["value"], measure_text(one["value"]), "published")
        for one in published
        if one["measure"] == main and one["value"] is not None
    ]
    return charts.bars(rows, f"{main} of each system") if rows else ""


def scatter_chart(systems: Mapping[str, Mapping[str, Any]], main: str) -> dict[str, Any] | None:
    """Draw quality against latency, of the systems that have both; None if none has."""
    points = [
        charts.Point(name, latency["p50"], mean, style_of(name))
        for name, system in systems.items()
        if (latency := system.get("client_ms"))
        and latency.get("p50") is not None
        and (mean := system["means"].get(main)) is not None
    ]
    if not points:
        return None
    drawn = {point.label for point in points}
    return {
        "svg": charts.scatter(points, "from question to answer, ms (p50)", main),
        "without": [name for name in systems if name not in drawn],
    }


def difference_charts(
    systems: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str], main: str
) -> list[dict[str, Any]]:
    """Draw, for each system but words, the difference of each question from words."""
    base = (systems.get("words") or {}).get("per_query") or {}
    values: dict[str, list[tuple[float, str]]] = {}
    for name, system in systems.items():
        mine = system.get("per_query") or {}
        if name == "words" or not base or not mine:
            continue
        values[name] = [
            (
                (mine.get(query) or {}).get(main, 0.0) - (row.get(main) or 0.0),
                texts.get(query, query),
            )
            for query, row in base.items()
        ]
    most = max((abs(value) for rows in values.values() for value, _ in rows), default=0.0)
    most = max(0.1, ceil(10 * most - 1e-9) / 10)
    shown = []
    for name, rows in values.items():
        won, lost = sum(value > 0 for value, _ in rows), sum(value < 0 for value, _ in rows)
        counts = {"won": won, "tied": len(rows) - won - lost, "lost": lost}
        label = f"{name} minus words, {main} of each question"
        shown.append({"name": name, "svg": charts.differences(rows, most, label), **counts})
    return shown


def bytes_chart(cost: Mapping[str, Any]) -> str:
    """Draw the bytes of each field, largest first; "" if they are unknown."""
    sizes = {name: size for name, size in (cost.get("index_bytes") or {}).items() if size}
    rows = [
        charts.Bar(name, size, size_text(size), "ours" if name == "latent" else "baseline")
        for name, size in sorted(sizes.items(), key=lambda pair: -pair[1])
    ]
    return charts.bars(rows, "bytes of each field") if rows else ""


def style_of(system: str) -> str:
    """Return the CSS class of a system's marks: systems of reference are grey."""
    return "baseline" if system in REFERENCES else "ours"


def measure_text(value: float | None) -> str:
    """Format a measure with four digits: .7387."""
    return NONE if value is None else short(value, 4)


def probability(p: float | None) -> str:
    """Format a p-value as .012 or < .001."""
    if p is None:
        return NONE
    return "< .001" if p < 0.001 else short(p, 3)


def whole(number: float | None) -> str:
    """Format a number with thousands separators; below 100, with one digit after the point."""
    if number is None:
        return NONE
    return f"{number:,.1f}" if number < 100 and number % 1 else f"{number:,.0f}"


def percentiles(milliseconds: Mapping[str, float | None] | None) -> str:
    """Format the median and the 95th percentile: 3 / 81."""
    if not milliseconds:
        return NONE
    return " / ".join(whole(milliseconds.get(name)) for name in ("p50", "p95"))


def size_text(size: float | None) -> str:
    """Format a number of bytes: 12.3 MB."""
    if size is None:
        return NONE
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
