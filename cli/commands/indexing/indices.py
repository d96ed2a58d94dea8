"""latent-ingest indices, rollback, prune, runs: the indices of latent terms and their runs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from opensearchpy import OpenSearch

from latent_ingest.cli import jobs, options, output
from latent_ingest.cli.connection import connection_options
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo, list_indices
from latent_ingest.connector.indexing import versions
from latent_ingest.connector.indexing.journal import DONE, RUNNING, Journal
from latent_ingest.connector.indexing.journal_records import RunRecord

STATES = {True: "complete", False: "unfinished", None: "-"}


@click.command(
    epilog="""\b
Examples:
  latent-ingest indices
  latent-ingest indices --alias papers --json
"""
)
@click.option("--alias", help="List only the versions of this alias, and the index behind it.")
@connection_options
@options.as_json
def indices(alias: str | None, connection: Connection, as_json: bool) -> None:
    """List the indices that hold latent terms: model, documents, size, state, alias, creation time.

    A version made with --alias is complete once it has taken its alias, and unfinished until then.
    The command that started an unfinished version resumes it; 'latent-ingest runs' prints that
    command for an interrupted run. An index is loading while a run writes to it, or after a run
    that was killed, until that run is resumed.
    """
    client = connection.open()
    if alias is None:
        found = [index for index in list_indices(client) if index.stored]
    else:
        current = Alias(client, alias).target()
        found = Alias(client, alias).versions()
        if current and current.name not in {index.name for index in found}:
            found.insert(0, current)
    rows = described(client, found)
    if as_json:
        output.print_json({"indices": rows})
    elif rows:
        output.print_lines(index_table(rows))
    else:
        click.echo("no indices")


def described(client: OpenSearch, indices: list[IndexInfo]) -> list[dict[str, Any]]:
    """One JSON object per index."""
    rows = []
    for index in indices:
        held = None if index.closed else Index(client, index.name).size()
        rows.append(
            {
                "index": index.name,
                "model": index.stored.get("model"),
                "fingerprint": index.stored.get("fingerprint"),
                "documents": held.documents if held else None,
                "bytes": held.bytes if held else None,
                "version_of": index.alias,
                "complete": index.complete,
                "sample": index.stored.get("sample"),
                "loading": bool(index.guards),
                "aliases": sorted(index.aliases),
                "created": index.created,
            }
        )
    return rows


def index_table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a table of the objects that `described` makes."""
    cells = []
    for row in rows:
        closed = row["documents"] is None
        cells.append(
            [
                row["index"],
                row["model"] or "none",
                "closed" if closed else f"{row['documents']:,}",
                "" if closed else output.size(row["bytes"]).replace(" ", ""),
                state_of(row),
                ", ".join(row["aliases"]) or "-",
                minute(row["created"]),
            ]
        )
    heads = ["index", "model", "documents", "size", "state", "alias", "created"]
    return output.table(heads, cells, right=(2, 3))


def state_of(row: dict[str, Any]) -> str:
    """The state of an index in a word or two; "-" if there is nothing to say."""
    if row["loading"] and row["complete"] is not False:
        return "loading"
    if row["sample"]:
        return f"sample of {row['sample']:,}"
    return STATES[row["complete"]]


def minute(seconds: float) -> str:
    """A time since 1970 as local date, hour and minute."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


@click.command(
    epilog="""\b
Examples:
  latent-ingest rollback --alias papers
  latent-ingest rollback --alias papers --to papers-minilm-32k-3
"""
)
@click.option("--alias", required=True, help="Alias to move.")
@click.option(
    "--to", metavar="INDEX", help="Index to point it at.  [default: the previous complete version]"
)
@connection_options
@options.journal
@options.as_json
def rollback(
    alias: str, to: str | None, connection: Connection, journal: Path | None, as_json: bool
) -> None:
    """Point an alias back at the complete version before the current one, in one request.

    With --to, the alias moves to any index with latent terms: a newer version too, or an
    unfinished one, which is used as it is and counts as complete from then on.
    """
    client = connection.open()
    with closing(Journal(journal)) as book:
        before, new = versions.rollback(Alias(client, alias), book, to)
    name = before.name if before else None
    if as_json:
        output.print_json({"alias": alias, "from": name, "to": new.name})
        return
    click.echo(jobs.alias_moved(alias, name, new.name))
    if before and before.stored.get("fingerprint") != new.stored.get("fingerprint"):
        models = f"its model is {new.stored['model']}, it was {before.stored.get('model')}"
        click.echo(output.one_line(models))


@click.command(
    epilog="""\b
Examples:
  latent-ingest prune --alias papers --dry-run
  latent-ingest prune --alias papers --keep 2 --yes
"""
)
@click.option("--alias", required=True, help="Alias whose old versions are deleted.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=2,
    help="Number of complete versions to keep besides the current one.",
)
@connection_options
@options.journal
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@options.as_json
def prune(
    alias: str,
    keep: int,
    connection: Connection,
    journal: Path | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete versions older than the current one, except the last KEEP complete ones.

    Newer versions stay, so that an interrupted run can resume; they are deleted after a later
    version has taken the alias. An index behind any alias is never deleted, nor one that a run is
    loading. An index that was left by an interrupted run on another machine, or with another
    journal, looks the same: it is named and stays.
    """
    client = connection.open()
    handle = Alias(client, alias)
    with closing(Journal(journal)) as book:
        old, loading = versions.prunable(handle, keep, book)
        rows = described(client, old)
        for index in loading:
            output.warn(
                f"{index.name} stays: a run is loading it, or a run that this journal does not "
                f"know was interrupted; end that run, prune where its journal is, or delete the "
                f"index (DELETE /{index.name})"
            )
        if old and not as_json:
            output.print_lines(index_table(rows))
        if old and not dry_run:
            what = "this index" if len(old) == 1 else f"these {len(old)} indices"
            hint = "agree with --yes, or list them with --dry-run"
            output.confirm(f"prune deletes {what}", yes=yes, hint=hint)
            # The user may have taken minutes to answer.
            still = {index.name for index in versions.prunable(handle, keep, book)[0]}
            old = [index for index in old if index.name in still]
            rows = [row for row in rows if row["index"] in still]
            versions.delete(handle, old)
    if as_json:
        output.print_json({"alias": alias, "dry_run": dry_run, "indices": rows})
    elif not old:
        click.echo(f"nothing to delete for alias {alias}")
    elif not dry_run:
        click.echo(f"deleted {', '.join(index.name for index in old)}")


@click.command(
    epilog="""\b
Example:
  latent-ingest runs
"""
)
@options.journal
@options.as_json
def runs(journal: Path | None, as_json: bool) -> None:
    """List runs, the latest first: progress, result, and the command that resumes them."""
    with closing(Journal(journal)) as book:
        records = book.runs()
    if as_json:
        output.print_json({"runs": [asdict(record) for record in records]})
    else:
        output.print_lines(
            [line for record in records for line in run_lines(record)] or ["no runs yet"]
        )


def run_lines(record: RunRecord) -> list[str]:
    """A run in two or three lines."""
    progress = record.progress
    share = f", {progress.position / progress.size:.0%}" if progress.size else ""
    lines = [
        f"{minute(record.updated)}  {record.corpus} → {record.index}: {record.state}",
        f"    {progress.lines:,} lines{share}, {progress.report['failed']:,} failed",
    ]
    if record.state not in (DONE, RUNNING):
        lines.append(f"    resume with: {record.command}")
    return lines
