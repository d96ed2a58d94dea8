"""latent-ingest rewrite: print the request body that a query becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from latent_ingest.cli.options import (
    JsonObject,
    compute_options,
    connection_options,
    form_option,
    index_option,
    load_encoder,
    model_option,
)
from latent_ingest.connector.client import Connection, EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.rewriter import QueryRewriter


@click.command(
    epilog="""\b
Examples:
  latent-ingest rewrite "does vitamin D prevent falls" --index papers
  latent-ingest rewrite "does vitamin D prevent falls" --index papers --form two_phase \\
      | curl -s localhost:9200/papers/_search -H 'content-type: application/json' -d @-
"""
)
@click.argument("query")
@index_option
@form_option
@click.option("--size", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Hits.")
@click.option(
    "--filter", "filter_clause", type=JsonObject(), help="A query clause that hits must match."
)
@click.option(
    "--max-query-terms",
    type=click.IntRange(1, 1024),
    default=512,
    show_default=True,
    help="Latent terms at most, the heaviest.",
)
@connection_options
@model_option
@compute_options
def rewrite(
    query: str,
    index: str,
    form: str,
    size: int,
    filter_clause: dict[str, Any] | None,
    max_query_terms: int,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
) -> None:
    """Print the request body for QUERY; nothing is searched.

    The index is asked which model made it, so that a body of another model is not sent to it.
    When INDEX is an alias that has moved to an index of another model, rewrite anew.
    """
    if not query.strip():
        raise InputError("the query is empty; write a question")
    client = connection.open()
    EngineInfo.read(client)

    encoder = load_encoder(model, device, dtype)
    rewriter = QueryRewriter.from_index(client, index, encoder, max_query_terms=max_query_terms)
    body = rewriter.rewrite(query, form=form, size=size, filter=filter_clause)
    click.echo(json.dumps(body, indent=2))
