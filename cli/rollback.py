"""latent-ingest rollback: an alias back to the version before."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from latent_ingest.cli.indices import moved
from latent_ingest.cli.options import connection_options, journal_option
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.versions import rollback as roll_back


@click.command(
    epilog="""\b
Examples:
  latent-ingest rollback --alias papers
  latent-ingest rollback --alias papers --to papers-minilm-32k-3
"""
)
@click.option("--alias", required=True, help="The alias to move.")
@click.option("--to", metavar="INDEX", help="Where to.  [default: the complete version before]")
@connection_options
@journal_option
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one object.")
def rollback(
    alias: str, to: str | None, connection: Connection, journal: Path | None, as_json: bool
) -> None:
    """Point an alias back at the complete version before the one it points at, in one request.

    With --to, at any index with latent terms: also forth, and at a version that is not complete,
    which is taken as it is and counts as complete then.
    """
    client = connection.open()
    with closing(Journal(journal)) as book:
        before, new = roll_back(Alias(client, alias), book, to)
    if as_json:
        names = {"alias": alias, "from": before.name if before else None, "to": new.name}
        click.echo(json.dumps(names))
        return
    click.echo(moved(alias, before, new.name))
    if before and before.stored.get("fingerprint") != new.stored.get("fingerprint"):
        click.echo(f"its model is {new.stored['model']}, it was {before.stored.get('model')}")
