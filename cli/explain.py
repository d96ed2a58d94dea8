"""latent-ingest explain: why a document is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from latent_ingest.cli.connection import open_client
from latent_ingest.cli.layout import one_line, shorten, table
from latent_ingest.cli.options import (
    compute_options,
    connection_options,
    form_option,
    index_option,
    load_encoder,
    model_option,
)
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.inspection.explain import Contribution, Explanation
from latent_ingest.connector.querying.asked_indices import engine_id
from latent_ingest.connector.querying.request import check_question
from latent_ingest.connector.querying.rewriter import QueryRewriter

# Contributions in the table, unless all are wanted.
MOST = 15

LABEL_WIDTH = 40


@click.command(
    epilog="""\b
Examples:
  latent-ingest explain "does vitamin D prevent falls" --index papers --id 42
  latent-ingest explain "does vitamin D prevent falls" --index papers --id 42 --form latent --all
  latent-ingest explain "does vitamin D prevent falls" --index papers --id 42 --json
"""
)
@click.argument("query")
@index_option
@click.option(
    "--id",
    "identifier",
    required=True,
    help="Of the document: its _id, or its own where the engine makes ids.",
)
@form_option
@click.option("--all", "every", is_flag=True, help=f"All contributions, not the first {MOST}.")
@connection_options
@model_option
@compute_options
@click.option("--json", "as_json", is_flag=True, help="Print one object for programs.")
def explain(
    query: str,
    index: str,
    identifier: str,
    form: str,
    every: bool,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Show what each word and each latent of QUERY adds to a document's score.

    Latents are named by labels.json in the model's folder, or else by the words of QUERY that fire
    them. In forms of two phases the score is that of both, as hits within the window have it.
    """
    check_question(query)
    client = open_client(connection, index)
    EngineInfo.read(client)

    encoder = load_encoder(model, device, dtype)
    from latent_ingest.connector.encoding.encoder import SHIPPED_MODEL
    from latent_ingest.connector.inspection.explain import explain as explain_document
    from latent_ingest.connector.inspection.labels import read_labels

    labels = read_labels(model or SHIPPED_MODEL, encoder.fingerprint.autoencoder)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    made = engine_id(client, index, identifier)
    found = explain_document(client, rewriter, query, made, form=form, labels=labels)
    found = replace(found, id=identifier)
    if as_json:
        click.echo(json.dumps({"query": query, "form": form, **found.to_json()}))
        return
    if not found.matched:
        click.echo(f"{identifier} in {found.index} does not match: no term of the query is in it")
        return
    shown = found.contributions if every else found.contributions[:MOST]
    click.echo(summary(found, form))
    click.echo()
    heads = ["share", "score", "term", "means", "weight", "idf", "freq"]
    first, *lines = table([heads, *map(row, shown)], right=(0, 1, 4, 5, 6))
    click.echo(click.style(first, bold=True))
    for line in lines:
        click.echo(line)
    if rest := found.contributions[len(shown) :]:
        share = sum(item.share for item in rest)
        click.echo(f"and {len(rest)} more, together {share:.1%}; --all shows them")


def summary(found: Explanation, form: str) -> str:
    """The score, and which kinds of terms it is made of."""
    names = {"word": "words", "latent": "latents", "other": "other"}
    shares = {name: found.share(kind) for kind, name in names.items()}
    parts = " + ".join(f"{share:.1%} {name}" for name, share in shares.items() if share)
    return f"{one_line(found.id)} in {found.index}, {form}: {found.score:.3f} = {parts}"


def row(item: Contribution) -> list[str]:
    """Cells of a contribution."""
    means = one_line(item.label) if item.label != item.term else f"({item.kind})"
    return [
        f"{item.share:.1%}",
        f"{item.score:.3f}",
        shorten(one_line(item.term), LABEL_WIDTH),
        shorten(means, LABEL_WIDTH),
        "" if item.weight is None else f"{item.weight:.3f}",
        "" if item.idf is None else f"{item.idf:.3f}",
        "" if item.frequency is None else f"{item.frequency:g}",
    ]
