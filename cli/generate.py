"""The command `generate`: generate judged collections."""

from __future__ import annotations

import json
from pathlib import Path

import click

from latent_ingest.cli.options import progress_bar


@click.group(
    epilog="""\b
Examples:
  latent-ingest generate limit
  latent-ingest evaluate limit/
"""
)
def generate() -> None:
    """Generate a judged collection."""


@generate.command(
    epilog="""\b
Examples:
  latent-ingest generate limit --documents 50000 --queries 1000 --seed 0
  latent-ingest generate limit --documents 46 --queries 1035 --out limit-small/
"""
)
@click.option("--documents", default=50_000, show_default=True, help="Number of documents.")
@click.option("--queries", default=1000, show_default=True, help="Number of questions.")
@click.option(
    "--seed", default=0, show_default=True, help="Random seed; the same seed gives the same bytes."
)
@click.option(
    "--out",
    default="limit",
    show_default=True,
    type=click.Path(path_type=Path),
    help="New folder for the collection, in BEIR layout.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def limit(documents: int, queries: int, seed: int, out: Path, as_json: bool) -> None:
    """Generate a collection after the recipe of LIMIT (arXiv 2508.21038).

    Each document is a person who likes 45 things. Each question asks who likes one thing, and two
    people like it. The relevant documents of all questions are pairs from a small set of documents
    (46 for 1,000 questions), and no two questions have the same pair; all other documents like
    things that no question asks for. Each question has one word that matters, so words find the
    answers; a dense vector has too few dimensions to represent all pairs.
    """
    from latent_ingest.connector.collections.limit import Limit

    collection = Limit(documents, queries, seed)
    with progress_bar(total=documents, desc="writing", unit="doc") as bar:
        collection.write(out, bar.update)
    counts = {"documents": documents, "queries": queries, "judged_documents": collection.judged}
    if as_json:
        click.echo(json.dumps({"out": str(out), **counts, "seed": seed}))
        return
    click.echo(
        f"{out}: {documents:,} documents, {queries:,} questions with two relevant documents each, "
        f"all from {collection.judged:,} documents"
    )
