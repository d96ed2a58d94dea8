"""Which queries choose, and which report."""

from __future__ import annotations

from collections.abc import Collection as Some
from dataclasses import dataclass
from pathlib import Path

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.collections.collection import Collection, load_collection, shuffled

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


def split_of(
    name: str, split: str | None, report: str | None, limit: int | None, seed: int, cache: Path
) -> Split:
    """The queries of a collection.

    Args:
        name: of a folder in BEIR's layout or TREC's, or of ir_datasets.
        split: whose judgements choose, of qrels/*.tsv; none for dev or train where they are there,
            else `report`.
        report: whose judgements report, by default "test"; where it is `split`, or nothing else is
            judged, the queries are halved, or cross-validated where they are few.
        limit: queries that choose, at most.
        seed: of halves, folds and limits.
        cache: folder for collections of ir_datasets.

    Raises:
        InputError: no such judgements, broken ones, or too few.
    """
    there = [path.stem for path in sorted((Path(name) / "qrels").glob("*.tsv"))]
    if not (there or split or report):
        return halved(load_collection(name, "test", cache), limit, seed, name)
    chosen = split or next((own for own in ("dev", "train") if own in there), report or "test")
    for option, wanted in (("--split", chosen), ("--report", report or chosen)):
        if wanted not in there:
            names = ", ".join(there) or "none"
            raise InputError(
                f"{name}: no qrels/{wanted}.tsv; name one with {option} (there: {names})"
            )
    report = report or "test"
    source = f"{name}/qrels/{chosen}.tsv"
    development = Collection.load(Path(name), chosen)
    if report == chosen or report not in there:
        return halved(development, limit, seed, source)
    held_out = Collection.load(Path(name), report)
    # A query of both would choose by what it reports.
    both = development.queries.keys() & held_out.queries.keys()
    left = development.part(development.queries.keys() - both).limited(limit, seed)
    check_enough(left, source)
    note = f", without {len(both)} that are in {report} too" if both else ""
    return Split(
        left,
        held_out,
        f"chosen on {len(left.queries)} queries of {chosen}{note}; reported on "
        f"{len(held_out.queries)} of {report}",
    )


def halved(judged: Collection, limit: int | None, seed: int, source: str) -> Split:
    """One half of the queries chooses and the other reports; few are cross-validated."""
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
