"""latent-ingest prune: old versions of an alias are deleted."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import click

from latent_ingest.cli.indices import described, table
from latent_ingest.cli.options import connection_options, journal_option, warn
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.versions import delete, prunable


@click.command(
    epilog="""\b
Examples:
  latent-ingest prune --alias papers --dry-run
  latent-ingest prune --alias papers --keep 2 --yes
"""
)
@click.option("--alias", required=True, help="Whose versions.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Complete versions kept besides the one behind the alias.",
)
@connection_options
@journal_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only list.")
@click.option("--json", "as_json", is_flag=True, help="Print what was deleted as one object.")
def prune(
    alias: str,
    keep: int,
    connection: Connection,
    journal: Path | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete the versions older than the one behind the alias, but for the last KEEP complete ones.

    Newer versions stay, so one whose run was cut can be gone on with, and goes when a later one has
    taken the alias. An index that any alias points at is never deleted, nor one that a run is
    loading. What was cut on another machine, or with another journal, looks the same from here: it
    is named, and stays.
    """
    client = connection.open()
    with closing(Journal(journal)) as book:
        old, loading = prunable(Alias(client, alias), keep, book)
        rows = described(client, old)
        for index in loading:
            warn(
                f"{index.name} stays: a run is loading it, or was cut where this journal does not "
                f"know of it; end that run, prune there, or delete it (DELETE /{index.name})"
            )
        if old and not as_json:
            click.echo(table(rows))
        if old and not yes and not dry_run:
            if not sys.stdin.isatty():
                raise click.UsageError("prune asks before it deletes; give --yes, or --dry-run")
            what = "this index" if len(old) == 1 else f"these {len(old)} indices"
            click.confirm(f"Delete {what}?", abort=True, err=True)
            still = {index.name for index in prunable(Alias(client, alias), keep, book)[0]}
            old = [index for index in old if index.name in still]
            rows = [row for row in rows if row["index"] in still]
        if not dry_run:
            delete(Alias(client, alias), old)
    if as_json:
        click.echo(json.dumps({"alias": alias, "dry_run": dry_run, "indices": rows}))
    elif not old:
        click.echo(f"nothing to delete for alias {alias}")
    elif not dry_run:
        click.echo(f"deleted {', '.join(index.name for index in old)}")
