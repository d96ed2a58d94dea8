"""latent-ingest search: ask an index in plain words."""

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
from latent_ingest.connector.client import Connection, EngineInfo, engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.rewriter import QueryRewriter


@click.command(
    epilog="""\b
Examples:
  latent-ingest search "does vitamin D prevent falls" --index papers
  latent-ingest search "falls" --index papers --filter '{"term": {"year": 2024}}' --json
  latent-ingest search "does vitamin D prevent falls" --index papers --compare
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
    "--compare", is_flag=True, help="Word hits, latent hits and hybrid hits beside each other."
)
@connection_options
@model_option
@compute_options
@click.option("--json", "as_json", is_flag=True, help="Print the engine's answer.")
def search(
    query: str,
    index: str,
    form: str,
    size: int,
    filter_clause: dict[str, Any] | None,
    compare: bool,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Search for QUERY by meaning."""
    if not query.strip():
        raise InputError("the query is empty; write a question")
    client = connection.open()
    EngineInfo.read(client)

    encoder = load_encoder(model, device, dtype)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    bodies = {
        name: rewriter.rewrite(query, form=name, size=size, filter=filter_clause)
        for name in (["latent", "hybrid"] if compare else [form])
    }
    if compare:
        words = rewriter.words_only(query, size=size, filter=filter_clause)
        bodies = {"words": words, **bodies}
    with engine_errors(client):
        answers = {
            name: client.search(index=rewriter.index, body=body) for name, body in bodies.items()
        }
    if as_json:
        click.echo(json.dumps(answers if compare else answers[form]))
        return
    for name, answer in answers.items():
        hits = answer["hits"]["hits"]
        if compare:
            click.echo(click.style(f"{name}:", bold=True))
        if not hits:
            click.echo("  no hits")
        for rank, hit in enumerate(hits, start=1):
            click.echo(f"{rank:>3}  {hit['_score']:>7.3f}  {hit['_id']}  {headline(hit)}")


def headline(hit: dict[str, Any], length: int = 72) -> str:
    """The beginning of a hit's title and text, or of its other strings where it has neither."""
    source: dict[str, Any] = hit["_source"]
    named = {name: source[name] for name in ("title", "text") if source.get(name)}
    texts = [value for value in (named or source).values() if isinstance(value, str)]
    text = " ".join(" ".join(t for t in texts if t != hit["_id"]).split())
    return text if len(text) <= length else text[: length - 3] + "..."
