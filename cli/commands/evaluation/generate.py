"""The command `generate`: a judged collection, or pairs to learn from."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import click

from latent_ingest.cli import options, values
from latent_ingest.cli.output import print_json, progress_bar, warn
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.document import check_surrogates, parse_object
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.files import disk_errors

# Keys of the output of `generate pairs --json`.
KEYS = ("documents", "pairs", "without", "invalid")


@click.group(
    epilog="""\b
Examples:
  latent-ingest generate limit
  latent-ingest evaluate limit/
  latent-ingest generate pairs corpus.jsonl --out pairs.jsonl
"""
)
def generate() -> None:
    """Generate a judged collection, or pairs to learn from."""


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


@generate.command(
    epilog="""\b
Examples:
  latent-ingest generate pairs corpus.jsonl --out pairs.jsonl
  latent-ingest generate pairs docs/*.jsonl.gz --kind heading --out headings.jsonl
"""
)
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["title", "heading", "sentence"]),
    help="Kind of pairs; may be repeated.  [default: titles and headings, else first sentences]",
)
@click.option("--title-field", default="title", show_default=True, help="Field with the title.")
@click.option(
    "--text-fields",
    default="text",
    show_default=True,
    type=values.NameList(),
    help="Fields that are joined to the text, separated by commas.",
)
@click.option(
    "--out",
    type=click.File("w", encoding="utf-8", lazy=True),
    default="-",
    help="File to write; - is standard output.",
)
@options.reading
@options.as_json
def pairs(
    files: tuple[str, ...],
    kinds: tuple[str, ...],
    title_field: str,
    text_fields: list[str],
    out: IO[str],
    reading: Reading,
    as_json: bool,
) -> None:
    """Make pairs of a question and its document from a corpus, for `train --from`.

    Title → text, heading → section (Markdown and reStructuredText), or, in a document that has
    neither, first sentence → the rest. One JSON object per line, with `question` and `document`.
    """
    from latent_ingest.connector.training.pairs.making import KINDS, pairs_of

    corpus = Corpus(files, reading)
    counts: Counter[str] = Counter()
    named: dict[str, Any] = {"title_field": title_field, "text_fields": text_fields}
    with disk_errors(out.name), progress_bar(unit=" documents", desc="reading") as bar:
        for line in corpus:
            bar.update(1)
            try:
                if line.problem:
                    raise ValueError(line.problem)
                fields = parse_object(line)
                check_surrogates(line, fields)
                fields = reading.changes(fields) if reading.changes else fields
                found = list(pairs_of(fields, kinds or KINDS, **named))
            except ValueError as error:
                if not counts["invalid"]:
                    warn(f"{corpus.place(line.number)}: {error}")
                counts["invalid"] += 1
                continue
            counts["documents"] += 1
            counts["without"] += not found
            for pair in found:
                counts["pairs"] += 1
                out.write(json.dumps(asdict(pair), ensure_ascii=False) + "\n")
    if not counts["pairs"]:
        raise InputError(
            f"{corpus.name}: no pairs; fields read: {title_field}, {', '.join(text_fields)}"
        )
    if as_json and out.name != "-":
        print_json({"out": out.name, **{k: counts[k] for k in KEYS}})
    else:
        click.echo(
            f"{counts['pairs']:,} pairs from {counts['documents']:,} documents, "
            f"{counts['without']:,} of which gave none",
            err=True,
        )
