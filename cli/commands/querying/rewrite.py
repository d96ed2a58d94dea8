"""latent-ingest rewrite: print the request body that a question, or another body, becomes."""

from __future__ import annotations

import json
from typing import IO, Any

import click

from latent_ingest.cli import options, values
from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.cli.output import warn
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.application.endpoints import ENDPOINTS, SEARCH
from latent_ingest.connector.querying.request import check_question, read_body
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import MATCHINGS, MAX_QUERY_TERMS


@click.command(
    epilog="""\b
Examples:
  latent-ingest rewrite "does vitamin D prevent falls" --index papers
  latent-ingest rewrite "does vitamin D prevent falls" --index papers --form two_phase \\
      | curl -s localhost:9200/papers/_search -H 'content-type: application/json' -d @-
  cat body.json | latent-ingest rewrite --index papers --body - --form hybrid
  latent-ingest rewrite --index papers --body body.json --endpoint _count
"""
)
@click.argument("query", required=False)
@click.option(
    "--body",
    type=click.File(encoding="utf-8"),
    help="Request body to rewrite instead of QUERY; - is standard input.",
)
@options.index
@options.form
@click.option(
    "--matching",
    type=click.Choice(MATCHINGS),
    help="With --body: words or latent terms match (expand), or words only, so that totals and "
    "aggregations stay (keep).  [default: depends on the body]",
)
@click.option(
    "--fields",
    type=values.NameList(),
    help="With --body: rewrite only clauses on these fields, separated by commas.",
)
@click.option(
    "--endpoint",
    type=click.Choice(ENDPOINTS),
    help=f"With --body: what the body is for.  [default: {SEARCH}]",
)
@click.option("--size", type=click.IntRange(1, 10_000), help="Number of hits.  [default: 10]")
@options.filter_clause
@click.option(
    "--max-query-terms",
    type=click.IntRange(1, 1024),
    help="Number of latent terms to keep, heaviest first.  "
    f"[default: {MAX_QUERY_TERMS}, or the index's tuned value]",
)
@connection_options
@options.model
@options.questions
def rewrite(
    query: str | None,
    body: IO[str] | None,
    index: str,
    form: str,
    matching: str | None,
    fields: list[str] | None,
    endpoint: str | None,
    size: int | None,
    filter_clause: dict[str, Any] | None,
    max_query_terms: int | None,
    connection: Connection,
    model: options.ChosenModel,
    questions: str,
) -> None:
    """Print the request body for QUERY, or for an application's request body; nothing is searched.

    Standard error says which clauses of a body were rewritten, or what was left out of a question.
    The body is only valid for an index of the same model, so the index is asked for its model. If
    INDEX is an alias that has moved to an index of another model, run rewrite again.
    """
    if (query is None) == (body is None):
        raise InputError("give either a question or --body FILE")
    if body is not None and (size is not None or filter_clause is not None):
        raise InputError("--size and --filter are for a question; write them into the body")
    if body is None and (matching or endpoint or fields is not None):
        raise InputError("--matching, --fields and --endpoint are for --body")
    if query is not None:
        check_question(query)
    given: Any = read_json(body) if body is not None else None
    client = open_client(connection, index)
    limits: dict[str, Any] = {"max_query_terms": max_query_terms} if max_query_terms else {}
    encoder = model.queries(questions, client, index)
    rewriter = QueryRewriter.from_index(client, index, encoder, **limits)
    if query is not None:
        made, report = rewriter.rewrite_and_report(
            query, form=form, size=size or 10, filter=filter_clause
        )
    else:
        made, report = rewriter.rewrite_and_report(
            given, form=form, matching=matching, fields=fields, endpoint=endpoint or SEARCH
        )
    for line in report.lines() if query is None else report.losses():
        warn(line)
    click.echo(json.dumps(made, indent=2))


def read_json(file: IO[str]) -> Any:
    """The content of a file; InputError if it is not JSON."""
    try:
        return read_body(file.read())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.name}: not JSON: {error}") from error
