"""latent-ingest engine: a local OpenSearch or Elasticsearch."""

from __future__ import annotations

from dataclasses import asdict

import click

from latent_ingest.cli import options
from latent_ingest.cli.output import print_json
from latent_ingest.connector.engine.local import (
    DISTRIBUTIONS,
    PORTS,
    LocalEngine,
    answer,
    local_engines,
)


@click.group(
    epilog="""\b
Examples:
  latent-ingest engine up
  latent-ingest engine up --version 2.19.1 --port 9210
  latent-ingest engine up --engine elasticsearch --port 9220
  latent-ingest engine down
"""
)
def engine() -> None:
    """Start, inspect and stop a local OpenSearch (no Docker, no system Java).

    It listens on the loopback interface only, without passwords, and keeps its data in the
    user's cache folder.
    """


@engine.command()
@click.option(
    "--engine",
    "kind",
    type=click.Choice(list(DISTRIBUTIONS)),
    default="opensearch",
    help="Engine to start.",
)
@click.option(
    "--version",
    help="Version to start: OpenSearch {}, or Elasticsearch {}.  [default: the first]".format(
        *(" or ".join(distribution.versions) for distribution in DISTRIBUTIONS.values())
    ),
)
@click.option(
    "--port", type=click.IntRange(PORTS.start, PORTS.stop - 1), default=9200, help="HTTP port."
)
@click.option("--heap", default="2g", help="Java heap.")
def up(kind: str, version: str | None, port: int, heap: str) -> None:
    """Start the engine, wait until it answers, and print its URL."""
    state = LocalEngine(kind, version=version).up(port=port, heap=heap)
    click.echo(state.url)


@engine.command()
@options.as_json
def status(as_json: bool) -> None:
    """Show which engines run. Exit status 1 if none does."""
    states = [state for engine in local_engines() if (state := engine.running())]
    if as_json:
        print_json({"running": [asdict(state) for state in states]})
    for state in [] if as_json else states:
        health = "answers" if answer(state.url) else "does not answer"
        click.echo(f"{state.kind} {state.version}, pid {state.pid}, {state.url}: {health}")
    if not states:
        if not as_json:
            click.echo("no local engine runs; start one with 'latent-ingest engine up'")
        raise click.exceptions.Exit(1)


@engine.command()
@click.option("--engine", "kind", type=click.Choice(list(DISTRIBUTIONS)), help="Engine to stop.")
def down(kind: str | None) -> None:
    """Stop the engines that run; their data stays."""
    stopped = [state for engine in local_engines(kind) if (state := engine.down())]
    for state in stopped:
        click.echo(f"stopped {state.kind} {state.version}, pid {state.pid}, {state.url}")
    if not stopped:
        click.echo("no local engine runs")
