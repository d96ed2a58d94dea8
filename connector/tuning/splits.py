"""Splits: the queries that choose settings, and the queries that report what they are worth."""

from __future__ import annotations

from collections.abc import Collection as Some
from dataclasses import dataclass
from pathlib import Path

from latent_ingest.connector.collections.catalog import load_collection
from latent_ingest.connector.collections.collection import Collection, shuffled
from latent_ingest.connector.errors import InputError

# If a collection has fewer queries, settings are cross-validated.
FEW_QUERIES = 100
FOLDS = 5

# Minimum number of queries to tune on.
FEWEST_QUERIES = 10


@dataclass(frozen=True, slots=True)
class Split:
    """Development queries, which choose settings, and held-out queries, which only report."""

    development: Collection
    held_out: Collection | None
    """None if settings are cross-validated."""
    description: str
    """Which queries choose and which report, as a sentence."""
    known_items: bool = False
    """Whether the queries are known items instead of judged questions."""


def split_of(
    name: str,
    split: str | None = None,
    report: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> Split:
    """Split the queries of a collection.

    Args:
        name: folder in BEIR or TREC layout, or `ir_datasets:` and a name.
        split: name of the judgements (qrels/*.tsv) that choose; None for dev or train if they
            exist, else `report`.
        report: name of the judgements that report; None for test. If it equals `split`, or there
            are no others, the queries are halved, or cross-validated if they are few.
        limit: maximum number of queries that choose.
        seed: seed of halves, folds and limits.
        cache: folder for collections of ir_datasets; None for the user's cache folder.

    Raises:
        InputError: the judgements do not exist, are malformed, or are too few.
    """
    existing = [path.stem for path in sorted((Path(name) / "qrels").glob("*.tsv"))]
    if not (existing or split or report):
        return halved(load_collection(name, "test", cache), limit, seed, name)
    chosen = split or next((own for own in ("dev", "train") if own in existing), report or "test")
    for option, wanted in (("--split", chosen), ("--report", report or chosen)):
        if wanted not in existing:
            names = ", ".join(existing) or "none"
            raise InputError(
                f"{name}: no qrels/{wanted}.tsv; name one with {option} (existing: {names})"
            )
    report = report or "test"
    source = f"{name}/qrels/{chosen}.tsv"
    development = Collection.load(Path(name), chosen)
    if report == chosen or report not in existing:
        return halved(development, limit, seed, source)
    held_out = Collection.load(Path(name), report)
    # A query in both must not choose, since it reports.
    both = development.queries.keys() & held_out.queries.keys()
    left = development.part(development.queries.keys() - both).limited(limit, seed)
    check_enough(left, source)
    note = f", without {len(both)} that are also in {report}" if both else ""
    return Split(
        left,
        held_out,
        f"chosen on {len(left.queries)} queries of {chosen}{note}; reported on "
        f"{len(held_out.queries)} of {report}",
    )


def halved(judged: Collection, limit: int | None, seed: int, source: str) -> Split:
    """Let one half of the queries choose and the other report; cross-validate if they are few."""
    if len(judged.queries) < FEW_QUERIES:
        few = judged.limited(limit, seed)
        check_enough(few, source)
        return Split(
            few, None, f"{len(few.queries)} queries of {source}, cross-validated in {FOLDS}"
        )
    first = set(shuffled(judged.queries, seed)[: len(judged.queries) // 2])
    development = judged.part(first).limited(limit, seed)
    check_enough(development, source)
    held_out = judged.part(judged.queries.keys() - first)
    return Split(
        development,
        held_out,
        f"chosen on {len(development.queries)} queries of one half of {source}; reported on the "
        f"{len(held_out.queries)} of the other half",
    )


def check_enough(judged: Collection, source: str) -> None:
    """Raise InputError if too few queries have a relevant document."""
    useful = sum(any(grade > 0 for grade in row.values()) for row in judged.qrels.values())
    if useful < FEWEST_QUERIES:
        raise InputError(
            f"{source}: {useful} queries with a relevant document; tuning needs {FEWEST_QUERIES}: "
            f"judge more, or use --from-titles"
        )


def folds(queries: Some[str], seed: int) -> list[list[str]]:
    """Divide the queries into five parts of equal size, plus or minus one."""
    mixed = shuffled(queries, seed)
    return [mixed[start::FOLDS] for start in range(FOLDS)]
