"""The page of an evaluation: a report → one HTML file that needs nothing else.

report.json → rows and charts → template → page
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation import charts
from latent_ingest.connector.evaluation.charts import cut, short, signed
from latent_ingest.connector.evaluation.measures import SIGNIFICANT

FORMAT = 1

# What ours is compared with; drawn in grey.
BASELINES = ("words", "dense")

# Letters of a question in the lists of those that gain and lose most.
SHOWN = 400

NONE = "–"

# What a question may hold and neither HTML nor UTF-8 takes.
NO_LETTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def html(report: Mapping[str, Any]) -> str:
    """A page with the tables and charts of a report.

    Args:
        report: what `evaluate --out` writes as report.json. Every value that is null, and every
            list that is empty, is left out or shown as a dash.

    Raises:
        InputError: the report is of another format.
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
    measures = list(report["measures"])
    collections = [collection_view(one, measures) for one in report["collections"]]
    page = environment.get_template("page.html").render(
        report=report,
        measures=measures,
        main=measures[0],
        collections=collections,
        summary=summary(report["collections"], measures[0]),
    )
    return NO_LETTERS.sub("\N{REPLACEMENT CHARACTER}", page)


def collection_view(collection: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    """What the template shows of one collection."""
    main = measures[0]
    systems: Mapping[str, Mapping[str, Any]] = collection["systems"]
    comparisons = collection.get("comparisons") or []
    return {
        "name": collection["name"],
        "split": collection.get("split"),
        "index": collection.get("index"),
        "documents": whole(collection.get("documents")),
        "queries": whole(collection.get("queries")),
        "left_out": [
            f"{whole(number)} {reason.replace('_', ' ')}"
            for reason, number in (collection.get("left_out") or {}).items()
            if number
        ],
        "rows": system_rows(systems, comparisons, measures),
        "published": published_rows(collection.get("published") or [], measures),
        "legend": legend(comparisons),
        "comparisons": [comparison_view(one) for one in comparisons],
        "bars": bar_chart(systems, collection.get("published") or [], main),
        "scatter": scatter_chart(systems, main),
        "differences": difference_charts(systems, collection.get("texts") or {}, main),
        "overlap": overlap_view(collection.get("overlap") or [], list(systems)),
        "cost": cost_view(collection.get("cost") or {}),
    }


def summary(collections: Sequence[Mapping[str, Any]], main: str) -> dict[str, Any]:
    """The main measure of all systems on all collections."""
    names = list(dict.fromkeys(name for one in collections for name in one["systems"]))
    rows = []
    for one in collections:
        values = [(one["systems"].get(name) or {"means": {}})["means"].get(main) for name in names]
        rows.append({"name": one["name"], "cells": best_marked(values)})
    return {"systems": names, "rows": rows}


def system_rows(
    systems: Mapping[str, Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    measures: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of the table: means, with the best of each measure marked, and what a question costs."""
    columns = [
        best_marked([system["means"].get(measure) for system in systems.values()])
        for measure in measures
    ]
    return [
        {
            "name": name,
            "cells": [column[number] for column in columns],
            "marks": marks(name, comparisons),
            "rewrite": percentiles(system.get("rewrite_ms")),
            "took": percentiles(system.get("took_ms")),
            "client": percentiles(system.get("client_ms")),
            "clauses": whole(system.get("clauses")),
            "hits": whole(system.get("hits")),
        }
        for number, (name, system) in enumerate(systems.items())
    ]


def published_rows(
    published: Sequence[Mapping[str, Any]], measures: Sequence[str]
) -> list[dict[str, Any]]:
    """Figures of others, a row for each system and source."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for one in published:
        rows.setdefault((one["system"], one.get("source") or ""), {})[one["measure"]] = one["value"]
    return [
        {
            "name": name,
            "source": source,
            "cells": [{"text": measure_text(values.get(measure))} for measure in measures],
            "others": [
                f"{measure} {measure_text(value)}"
                for measure, value in values.items()
                if measure not in measures
            ],
        }
        for (name, source), values in rows.items()
    ]


def best_marked(values: Sequence[float | None]) -> list[dict[str, Any]]:
    """Values as text, the best of several as such."""
    known = [value for value in values if value is not None]
    best = max(known) if len(known) > 1 else None
    return [
        {"text": measure_text(value), "best": value is not None and value == best}
        for value in values
    ]


def letters(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A mark for each system that others are compared with: w for words."""
    names = list(dict.fromkeys(one["against"] for one in comparisons))
    first = [name[:1] for name in names]
    return {
        name: letter if first.count(letter) == 1 else str(number)
        for number, (name, letter) in enumerate(zip(names, first, strict=True), start=1)
    }


def marks(name: str, comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What a system is significantly better or worse than."""
    letter = letters(comparisons)
    return [
        {
            "style": "better" if one["difference"] > 0 else "worse",
            "text": ("▲" if one["difference"] > 0 else "▼") + letter[one["against"]],
        }
        for one in comparisons
        if one["system"] == name and is_significant(one)
    ]


def legend(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """What the letters of marks stand for."""
    return ", ".join(f"{letter}: {name}" for name, letter in letters(comparisons).items())


def is_significant(comparison: Mapping[str, Any]) -> bool:
    """Whether the corrected p value, where there is one, is small enough."""
    p = comparison.get("p_holm")
    return p is not None and p < SIGNIFICANT


def comparison_view(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison, its numbers as text."""
    counts = {name: comparison.get(name) for name in ("won", "tied", "lost")}
    parts = [
        (number, style)
        for number, style in zip(counts.values(), ("gain", "tie", "loss"), strict=True)
        if number is not None
    ]
    label = ", ".join(f"{number} {name}" for name, number in counts.items())
    return {
        "system": comparison["system"],
        "against": comparison["against"],
        "difference": signed(comparison["difference"], 4),
        "p": probability(comparison.get("p")),
        "p_holm": probability(comparison.get("p_holm")),
        "significant": is_significant(comparison),
        **{name: whole(number) for name, number in counts.items()},
        "strip": charts.strip(parts, label) if len(parts) == 3 else "",
        "gained": moved(comparison.get("gained") or []),
        "lost_most": moved(comparison.get("lost_most") or []),
    }


def moved(questions: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Questions that gain or lose, as text."""
    return [
        {
            "query": one["query"],
            "text": cut(one.get("text") or one["query"], SHOWN),
            "difference": signed(one["difference"]),
        }
        for one in questions
    ]


def bar_chart(
    systems: Mapping[str, Mapping[str, Any]], published: Sequence[Mapping[str, Any]], main: str
) -> str:
    """The main measure of each system, and what others published."""
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
    """Quality against latency, of the systems that have both."""
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
    """Of each system but words, the differences of its questions against words, best first."""
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
        label = f"{name} less words, {main} of each question"
        shown.append({"name": name, "svg": charts.differences(rows, most, label), **counts})
    return shown


def overlap_view(rows: Sequence[Mapping[str, Any]], systems: Sequence[str]) -> list[dict[str, Any]]:
    """The table by overlap of words, the best of each row marked."""
    return [
        {
            "label": row["overlap"],
            "queries": whole(row.get("queries")),
            "cells": best_marked([(row.get("systems") or {}).get(name) for name in systems]),
        }
        for row in rows
    ]


def cost_view(cost: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes of each field, largest first; bytes of all, and speeds."""
    sizes = {name: size for name, size in (cost.get("index_bytes") or {}).items() if size}
    rows = [
        charts.Bar(name, size, size_text(size), "ours" if name == "latent" else "baseline")
        for name, size in sorted(sizes.items(), key=lambda pair: -pair[1])
    ]
    others = {
        "whole index": size_text(cost.get("index_total_bytes")),
        "documents a second, ingest": whole(cost.get("documents_per_second")),
        "tokens a second, encoding": whole(cost.get("tokens_per_second")),
    }
    return {
        "bytes": charts.bars(rows, "bytes of each field") if rows else "",
        "others": {name: value for name, value in others.items() if value != NONE},
    }


def style_of(system: str) -> str:
    """The class of a system's marks."""
    return "baseline" if system in BASELINES else "ours"


def measure_text(value: float | None) -> str:
    """A measure with four places: .7387."""
    return NONE if value is None else short(value, 4)


def probability(p: float | None) -> str:
    """A p value: .012, or that it is below .001."""
    if p is None:
        return NONE
    return "< .001" if p < 0.001 else short(p, 3)


def whole(number: float | None) -> str:
    """A number with thousands apart; one digit after the point below 100 where it has any."""
    if number is None:
        return NONE
    return f"{number:,.1f}" if number < 100 and number % 1 else f"{number:,.0f}"


def percentiles(milliseconds: Mapping[str, float | None] | None) -> str:
    """p50 and p95."""
    if not milliseconds:
        return NONE
    return " / ".join(whole(milliseconds.get(name)) for name in ("p50", "p95"))


def size_text(size: float | None) -> str:
    """Bytes as 12.3 MB."""
    if size is None:
        return NONE
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
