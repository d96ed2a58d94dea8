"""latent-ingest evaluate: nDCG@10 of a collection, through the engine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from latent_ingest.cli.ingest import run_with_bar
from latent_ingest.cli.options import (
    INTERRUPTED,
    comma_list,
    compute_options,
    connection_options,
    load_encoder,
    model_option,
    progress_bar,
    warn,
)
from latent_ingest.connector.client import Connection, EngineInfo
from latent_ingest.connector.errors import EngineError, InputError

SYSTEMS = "words,dense,latent,two_phase,hybrid"


@click.command(
    epilog="""\b
Examples:
  latent-ingest evaluate scifact/
  latent-ingest evaluate scifact/ --index scifact --systems words,latent,hybrid --json
"""
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--index", default=None, help="Index name.  [default: evaluate-FOLDER]")
@click.option("--split", default="test", show_default=True, help="Which of qrels/*.tsv.")
@click.option("--systems", default=SYSTEMS, show_default=True, help="What to compare, by comma.")
@connection_options
@model_option
@compute_options
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def evaluate(
    folder: Path,
    index: str | None,
    split: str,
    systems: str,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Measure a collection in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv).

    Words, latent, two_phase and hybrid go through the engine; dense is the exact cosine of the
    backbone's own vectors, in memory. The index is made when it does not hold the collection.
    """
    chosen = comma_list(systems)
    if unknown := set(chosen) - set(comma_list(SYSTEMS)):
        raise click.BadParameter(f"{min(unknown)!r}: use some of {SYSTEMS}", param_hint="--systems")
    client = connection.open()
    EngineInfo.read(client)

    from latent_ingest.connector.evaluation import evaluate as evaluation
    from latent_ingest.connector.evaluation.collection import Collection
    from latent_ingest.connector.indexing.index import open_index
    from latent_ingest.connector.indexing.ingest import Ingest

    collection = Collection.load(folder, split)
    name = index or f"evaluate-{collection.name.lower()}"
    encoder = load_encoder(model, device, dtype)
    if not evaluation.is_complete(client, name, collection):
        click.echo(f"indexing {collection.corpus} into {name}", err=True)
        meta = open_index(client, name, encoder, {})
        report = run_with_bar(Ingest(client, name, encoder, meta, collection.corpus, warn=warn))
        if report.stopped == "interrupted":
            raise click.exceptions.Exit(INTERRUPTED)
        if not report.ok:
            raise EngineError(f"{report.failed + report.not_sent} documents are not in {name}")
        if not evaluation.is_complete(client, name, collection):
            raise InputError(
                f"index {name} holds other documents than {collection.corpus}; "
                f"name a new one with --index"
            )
    work = len(collection.queries) * len([s for s in chosen if s != "dense"])
    if "dense" in chosen:
        work += sum(1 for _ in collection.documents())
    with progress_bar(total=work, desc="evaluating", unit="") as bar:

        def tick(done: int) -> None:
            bar.update(done)

        results = evaluation.evaluate(client, name, encoder, collection, chosen, tick)
    if as_json:
        named = {system: {"nDCG@10": value} for system, value in results.items()}
        click.echo(json.dumps({"collection": collection.name, "systems": named}))
        return
    click.echo(f"{collection.name}, {len(collection.queries):,} queries ({split})")
    click.echo("system     nDCG@10")
    for system, value in results.items():
        click.echo(f"{system:<10} {value:>7.4f}")
