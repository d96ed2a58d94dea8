"""Tables of an evaluation report for the terminal."""

from __future__ import annotations

from typing import Any

from latent_ingest.cli.output import size, table
from latent_ingest.connector.evaluation.measures import SIGNIFICANT

MARKS = {"words": "*", "dense": "+"}

REASONS = {
    "without_judgements": "without judgements",
    "limit_queries": "by --limit-queries",
}


def collection_lines(collection: dict[str, Any], measures: list[str]) -> list[str]:
    """Format one collection's part of the report: systems, comparisons, word overlap and cost."""
    head = (
        f"{collection['name']} ({collection['split']}): {collection['documents']:,} documents, "
        f"{collection['queries']:,} queries, index {collection['index']}"
    )
    left_out = [
        f"{n:,} {REASONS.get(reason, reason)}" for reason, n in collection["left_out"].items() if n
    ]
    lines = [head + (f"; queries left out: {', '.join(left_out)}" if left_out else "")]
    lines += ["", *systems(collection, measures)]
    if collection["comparisons"]:
        lines += ["", *comparisons(collection)]
    if collection["overlap"]:
        lines += ["", *by_shared_words(collection, measures[0])]
    cost = collection["cost"]
    lines += ["", f"index size: {size(cost['index_total_bytes'])}"]
    if cost["index_bytes"]:
        fields = [f"{name} {size(n)}" for name, n in cost["index_bytes"].items()]
        lines[-1] += f", of which {', '.join(fields)}"
    if cost["documents_per_second"]:
        lines[-1] += (
            f"; ingest: {cost['documents_per_second']:,.1f} documents/s, "
            f"{cost['tokens_per_second']:,.0f} tokens/s"
        )
    return lines


def systems(collection: dict[str, Any], measures: list[str]) -> list[str]:
    """Format a table of the systems' measures and costs, followed by published figures."""
    heads = ["", *measures, "", "rewrite ms", "took ms", "client ms", "clauses", "hits"]
    rows = []
    for name, system in collection["systems"].items():
        marks = "".join(
            MARKS[found["against"]]
            for found in collection["comparisons"]
            if found["system"] == name and found["p_holm"] < SIGNIFICANT
        )
        rows.append(
            [
                name,
                *(f"{system['means'][measure]:.4f}" for measure in measures),
                marks,
                times(system["rewrite_ms"]),
                times(system["took_ms"]),
                times(system["client_ms"]),
                "" if system["clauses"] is None else f"{system['clauses']:,.0f}",
                "" if system["hits"] is None else f"{system['hits']:,.0f}",
            ]
        )
    published = [row for row in collection["published"] if row["measure"] in measures]
    sources = list(dict.fromkeys(row["source"] for row in published))
    for row in published:
        values = [f"{row['value']:.3f} " if row["measure"] == m else "" for m in measures]
        name = f"published: {row['system']} [{sources.index(row['source']) + 1}]"
        rows.append([name, *values, *[""] * 6])
    lines = table(heads, rows, right=[i for i in range(1, len(heads)) if heads[i]])
    lines += [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    against = {found["against"] for found in collection["comparisons"]}
    legend = [f"{mark} differs from {name}" for name, mark in MARKS.items() if name in against]
    if legend:
        lines.append(
            f"{', '.join(legend)}: {measures[0]}, p < {SIGNIFICANT:g}, paired randomisation test, "
            f"Holm's correction"
        )
    return [
        *lines,
        "times: median / 95th percentile. rewrite: from question to request, including encoding;",
        "took: as the engine reports it; client: from question to answer, including everything",
    ]


def comparisons(collection: dict[str, Any]) -> list[str]:
    """Format a table of each system compared with words and dense."""
    heads = ["", collection["comparisons"][0]["measure"], "p", "p (Holm)", "won", "lost", "tied"]
    rows = [
        [
            f"{found['system']} against {found['against']}",
            f"{found['difference']:+.4f}",
            f"{found['p']:.4f}",
            f"{found['p_holm']:.4f}",
            *(f"{found[name]:,}" for name in ("won", "lost", "tied")),
        ]
        for found in collection["comparisons"]
    ]
    return table(heads, rows, right=range(1, 7))


def by_shared_words(collection: dict[str, Any], measure: str) -> list[str]:
    """Format a table of the main measure by word overlap: words shared with relevant documents."""
    names = list(collection["systems"])
    heads = [f"{measure} by shared words", "queries", *names]
    rows = [
        [row["overlap"], f"{row['queries']:,}", *(f"{row['systems'][name]:.4f}" for name in names)]
        for row in collection["overlap"]
    ]
    return table(heads, rows, right=range(1, len(heads)))


def times(found: dict[str, float] | None) -> str:
    """Format median and 95th percentile."""
    return f"{found['p50']:.0f} / {found['p95']:.0f}" if found else ""
