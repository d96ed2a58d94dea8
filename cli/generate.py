"""latent-ingest generate: collections made by a recipe."""

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
    """Make a judged collection by a recipe."""


@generate.command(
    epilog="""\b
Examples:
  latent-ingest generate limit --documents 50000 --queries 1000 --seed 0
  latent-ingest generate limit --documents 46 --queries 1035 --out limit-small/
"""
)
@click.option("--documents", default=50_000, show_default=True, help="How many people.")
@click.option("--queries", default=1000, show_default=True, help="How many things are asked for.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--out",
    default="limit",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder to make, in BEIR's layout.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def limit(documents: int, queries: int, seed: int, out: Path, as_json: bool) -> None:
    """A collection after the recipe of LIMIT (arXiv 2508.21038).

    Documents are people who like 45 things; a question asks who likes one thing, and two people
    do. Every pair of a few of them (46 for 1,000 questions) is the answer to at most one question,
    and all other people like things that nobody asks for. Each question has one word that counts,
    so words find the answers; a dense vector of such a document has no room for all its pairs.
    """
    from latent_ingest.connector.evaluation.limit import Limit

    collection = Limit(documents, queries, seed)
    with progress_bar(total=documents, desc="writing", unit="doc") as bar:

        def tick(done: int) -> None:
            bar.update(done)

        collection.write(out, tick)
    counts = {"documents": documents, "queries": queries, "judged_documents": collection.judged}
    if as_json:
        click.echo(json.dumps({"out": str(out), **counts, "seed": seed}))
        return
    click.echo(
        f"{out}: {documents:,} documents, {queries:,} questions with two relevant documents each, "
        f"which are pairs of {collection.judged:,} documents"
    )
