"""latent-ingest runs: what the journal knows."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from latent_ingest.cli.options import journal_option
from latent_ingest.connector.indexing.journal import DONE, RUNNING, Journal, RunRecord


@click.command(
    epilog="""\b
Example:
  latent-ingest runs
"""
)
@journal_option
@click.option("--json", "as_json", is_flag=True, help="Print the runs as one object.")
def runs(journal: Path | None, as_json: bool) -> None:
    """List the runs of ingest, the latest first: how far, how they ended, how to go on."""
    with closing(Journal(journal)) as book:
        records = book.runs()
    if as_json:
        click.echo(json.dumps({"runs": [asdict(record) for record in records]}))
    elif not records:
        click.echo("no runs yet")
    for record in records if not as_json else ():
        click.echo(described(record))


def described(record: RunRecord) -> str:
    """A run in two or three lines."""
    progress = record.progress
    share = f", {progress.position / progress.size:.0%}" if progress.size else ""
    when = datetime.fromtimestamp(record.updated).strftime("%Y-%m-%d %H:%M")
    lines = [
        f"{when}  {record.corpus} → {record.index}: {record.state}",
        f"    {progress.lines:,} lines{share}, {progress.report['failed']:,} failed",
    ]
    if record.state not in (DONE, RUNNING):
        lines.append(f"    go on with: {record.command}")
    return "\n".join(lines)
