"""latent-ingest indices: what the engine holds of ours."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click
from opensearchpy import OpenSearch
from tqdm import tqdm

from latent_ingest.cli.options import connection_options
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo, list_indices

STATES = {True: "complete", False: "unfinished", None: "-"}


@click.command(
    epilog="""\b
Examples:
  latent-ingest indices
  latent-ingest indices --alias papers --json
"""
)
@click.option("--alias", help="Only versions of this alias, and what it points at.")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print the indices as one object.")
def indices(alias: str | None, connection: Connection, as_json: bool) -> None:
    """List the indices that hold latent terms: model, documents, size, alias, when they were made.

    A version made with --alias is complete when it has taken its alias, else unfinished: the
    command that began it goes on with it, and 'latent-ingest runs' has that of a run that was cut.
    An index is loading while a run writes to it, or when one was killed and is not gone on with.
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
        click.echo(json.dumps({"indices": rows}))
    else:
        click.echo(table(rows) if rows else "no indices")


def described(client: OpenSearch, indices: list[IndexInfo]) -> list[dict[str, Any]]:
    """An object an index."""
    rows = []
    for index in indices:
        size = None if index.closed else Index(client, index.name).size()
        rows.append(
            {
                "index": index.name,
                "model": index.stored.get("model"),
                "fingerprint": index.stored.get("fingerprint"),
                "documents": size.documents if size else None,
                "bytes": size.bytes if size else None,
                "version_of": index.alias,
                "complete": index.complete,
                "loading": bool(index.guards),
                "aliases": sorted(index.aliases),
                "created": index.created,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The objects in columns."""
    lines = [["index", "model", "documents", "size", "state", "alias", "made"]]
    for row in rows:
        closed = row["documents"] is None
        lines.append(
            [
                row["index"],
                row["model"] or "none",
                "closed" if closed else f"{row['documents']:,}",
                "" if closed else f"{tqdm.format_sizeof(row['bytes'])}B",
                "loading"
                if row["loading"] and row["complete"] is not False
                else STATES[row["complete"]],
                ", ".join(row["aliases"]) or "-",
                datetime.fromtimestamp(row["created"]).strftime("%Y-%m-%d %H:%M"),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (2, 3) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def moved(alias: str, before: IndexInfo | None, index: str) -> str:
    """What became of an alias."""
    return f"alias {alias}: {before.name} → {index}" if before else f"alias {alias} → {index}"
