"""The commands `generate` and `docstrings`: collections and a corpus to try things with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

import click

from latent_ingest.cli import options
from latent_ingest.cli.output import print_json, progress_bar
from latent_ingest.connector.collections.docstrings import from_all_modules, standard_library


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
@click.option("--documents", default=50_000, help="Number of documents.")
@click.option("--queries", default=1000, help="Number of questions.")
@click.option("--seed", default=0, help="Random seed; the same seed gives the same bytes.")
@click.option(
    "--out",
    default="limit",
    type=click.Path(path_type=Path),
    help="New folder for the collection, in BEIR layout.",
)
@options.as_json
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
        print_json({"out": str(out), **counts, "seed": seed})
        return
    click.echo(
        f"{out}: {documents:,} documents, {queries:,} questions with two relevant documents each, "
        f"all from {collection.judged:,} documents"
    )


@click.command(
    epilog="""\b
Examples:
  latent-ingest docstrings --out stdlib.jsonl
  latent-ingest docstrings --limit 1500 --out stdlib.jsonl
"""
)
@click.option(
    "--limit",
    "most",
    type=click.IntRange(min=1),
    help="Maximum number of documents, taken evenly from all modules.  [default: all]",
)
@click.option(
    "--out",
    type=click.File("w", encoding="utf-8", lazy=True),
    default="-",
    help="File to write; - is standard output.",
)
def docstrings(most: int | None, out: IO[str]) -> None:
    """Collect the docstrings of Python's standard library as JSONL.

    Each public module, class and function with a docstring becomes one document: `_id` is its
    dotted name, `kind` is module, class or function.

    --limit takes the first docstring of each top-level module, then the second of each, and so on.
    """
    number = 0
    found = standard_library()
    for document in found if most is None else from_all_modules(found, most):
        number += 1
        out.write(json.dumps(document) + "\n")
    click.echo(f"{number:,} docstrings", err=True)
