"""The commands `evaluate` and `docstrings`: collections, and systems on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from latent_ingest.cli import options, values
from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.evaluation_table import collection_lines
from latent_ingest.cli.jobs import run_with_bar
from latent_ingest.cli.output import print_json, print_lines, progress_bar
from latent_ingest.connector.collections.docstrings import from_all_modules, standard_library
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.rankings import Tick
from latent_ingest.connector.evaluation.systems import SYSTEMS


@click.command(
    epilog="""\b
Examples:
  latent-ingest evaluate scifact/ nfcorpus/ --out report/
  latent-ingest evaluate mine/ --index papers --systems words,latent,hybrid
  latent-ingest evaluate mine/ --index papers --system ours=body.json --json
  latent-ingest evaluate ir_datasets:beir/scifact/test

body.json is a request body of your application, with {{question}} in place of the question.
"""
)
@click.argument("names", metavar="COLLECTION...", nargs=-1, required=True)
@click.option("--index", default=None, help="Index name.  [default: evaluate-COLLECTION-MODEL]")
@click.option("--split", default="test", help="Judgements: qrels/SPLIT.tsv.")
@click.option(
    "--systems",
    type=values.NameList(),
    help=f"Comma-separated systems to compare.  [default: {','.join(SYSTEMS)}]",
)
@click.option(
    "--system", "specs", multiple=True, metavar="NAME=FILE", help="Compare your own request body."
)
@click.option(
    "--measures",
    type=values.NameList(),
    help="Comma-separated measures of ir-measures; systems are compared on the first.  "
    "[default: nDCG@10,R@100,RR@10,AP@100]",
)
@click.option(
    "--limit-queries", type=click.IntRange(min=1), help="Ask a random sample of N questions."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for report.html, report.json, TREC run files and values per question.",
)
@options.cache
@connection_options
@options.model
@options.journal
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the report as one JSON object; for a single collection, `systems` at its top holds "
    "the means.",
)
def evaluate(
    names: tuple[str, ...],
    index: str | None,
    split: str,
    systems: list[str] | None,
    specs: tuple[str, ...],
    measures: list[str] | None,
    limit_queries: int | None,
    out: Path | None,
    cache: Path | None,
    connection: Connection,
    model: options.ChosenModel,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Compare words, dense, latent and hybrid systems on judged collections.

    A COLLECTION is a folder in BEIR layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), a folder
    with TREC files beside the corpus (topics*, qrels*), or ir_datasets:NAME.

    All systems search through the engine, except dense: the exact cosine of the backbone's own
    vectors, computed in memory. The collection is indexed unless its index is complete. Use --index
    to evaluate an existing index as it is.
    """
    from latent_ingest.connector.collections.catalog import load_collections
    from latent_ingest.connector.evaluation.evaluation import Evaluation, Plan
    from latent_ingest.connector.evaluation.report import make_folder

    plan = Plan.of(systems, specs, measures, cache)
    if index and len(names) > 1:
        raise InputError("--index is for one collection; leave it out, or evaluate one by one")
    if out:
        make_folder(out)
    collections = load_collections(names, split, limit_queries, plan.cache)
    client = connection.open()
    EngineInfo.read(client)  # fails early, before the model is loaded
    evaluation = Evaluation(
        client,
        model.load(),
        collections,
        plan,
        index=index,
        journal=journal,
        folder=out,
        command=options.resuming_command(),
    )
    for part in evaluation.run(bar_of, run_with_bar):
        if not as_json:
            print_lines([*collection_lines(part, evaluation.report["measures"]), ""])
    if as_json:
        print_json(in_short(evaluation.report) | evaluation.report)
    if out:
        click.echo(f"report: {out}", err=True)


@contextmanager
def bar_of(name: str, work: int) -> Iterator[Tick]:
    """Show a progress bar while a collection is evaluated."""
    with progress_bar(total=work, desc=name, unit="") as bar:
        yield bar.update


def in_short(report: dict[str, Any]) -> dict[str, Any]:
    """Return name and means of the only collection; {} if there are several."""
    if len(report["collections"]) != 1:
        return {}
    (part,) = report["collections"]
    means = {name: system["means"] for name, system in part["systems"].items()}
    return {"collection": part["name"], "systems": means}


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
