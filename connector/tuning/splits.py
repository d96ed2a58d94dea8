"""Which queries choose, and which report."""

from __future__ import annotations

import random
from collections.abc import Collection as Some
from dataclasses import dataclass, replace
from pathlib import Path

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.collection import Collection

# With fewer queries than this in all, values are cross-validated.
FEW_QUERIES = 100
FOLDS = 5

# Fewer cannot be tuned on.
FEWEST_QUERIES = 10


@dataclass(frozen=True, slots=True)
class Split:
    """Queries and judgements that choose, and others that only report."""

    development: Collection
    held_out: Collection | None
    """None where values are cross-validated."""
    description: str
    """For people."""


def split_of(folder: Path, split: str | None, report: str, limit: int | None, seed: int) -> Split:
    """The queries of a folder in BEIR's layout.

    Args:
        folder: holds qrels/*.tsv.
        split: whose judgements choose; none for dev or train where they are there, else `report`.
        report: whose judgements report; where it is `split`, or is not there, the queries are
            halved, or cross-validated where they are few.
        limit: queries that choose, at most.
        seed: of halves, folds and limits.

    Raises:
        InputError: no such judgements, broken ones, or too few.
    """
    there = [path.stem for path in sorted((folder / "qrels").glob("*.tsv"))]
    chosen = split or next((name for name in ("dev", "train") if name in there), report)
    if chosen not in there:
        names = ", ".join(there) or "none"
        raise InputError(f"{folder}: no qrels/{chosen}.tsv; name one with --split (there: {names})")
    development = Collection.load(folder, chosen)
    if report == chosen or report not in there:
        return halved(development, limit, seed, f"{folder}/qrels/{chosen}.tsv")
    held_out = Collection.load(folder, report)
    # A query of both would choose by what it reports.
    both = development.queries.keys() & held_out.queries.keys()
    left = part(development, development.queries.keys() - both)
    left = limited(left, limit, seed)
    check_enough(left, f"{folder}/qrels/{chosen}.tsv")
    note = f", without {len(both)} that are in {report} too" if both else ""
    return Split(
        left,
        held_out,
        f"chosen on {len(left.queries)} queries of {chosen}{note}; reported on "
        f"{len(held_out.queries)} of {report}",
    )


def halved(judged: Collection, limit: int | None, seed: int, source: str) -> Split:
    """One half of the queries chooses and the other reports; few are cross-validated."""
    check_enough(judged, source)
    if len(judged.queries) < FEW_QUERIES:
        return Split(
            judged, None, f"{len(judged.queries)} queries of {source}, cross-validated in {FOLDS}"
        )
    first = set(shuffled(judged.queries, seed)[: len(judged.queries) // 2])
    development = limited(part(judged, first), limit, seed)
    held_out = part(judged, judged.queries.keys() - first)
    return Split(
        development,
        held_out,
        f"chosen on {len(development.queries)} queries of {source}, one half of them; reported on "
        f"the other {len(held_out.queries)}",
    )


def check_enough(judged: Collection, source: str) -> None:
    """Raise InputError where too few queries have a relevant document."""
    useful = sum(any(grade > 0 for grade in row.values()) for row in judged.qrels.values())
    if useful < FEWEST_QUERIES:
        raise InputError(
            f"{source}: {useful} queries with a relevant document, and {FEWEST_QUERIES} are needed "
            f"to tune; judge more, or use --from-titles"
        )


def folds(queries: Some[str], seed: int) -> list[list[str]]:
    """The queries in five parts of like size."""
    mixed = shuffled(queries, seed)
    return [mixed[start::FOLDS] for start in range(FOLDS)]


def shuffled(queries: Some[str], seed: int) -> list[str]:
    """In an order of the seed's, whatever theirs."""
    ordered = sorted(queries)
    random.Random(seed).shuffle(ordered)
    return ordered


def limited(judged: Collection, limit: int | None, seed: int) -> Collection:
    """At most so many queries, drawn by the seed."""
    return part(judged, set(shuffled(judged.queries, seed)[:limit])) if limit else judged


def part(judged: Collection, queries: Some[str]) -> Collection:
    """Some of the queries, in their order."""
    texts = {query: text for query, text in judged.queries.items() if query in queries}
    return replace(judged, queries=texts, qrels={query: judged.qrels[query] for query in texts})
