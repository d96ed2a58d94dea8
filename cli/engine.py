"""latent-ingest engine: a local OpenSearch."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from latent_ingest.connector.engine.local import DISTRIBUTIONS, PORTS, LocalEngine, answer

kind_option = click.option(
    "--engine",
    "kind",
    type=click.Choice(list(DISTRIBUTIONS)),
    default="opensearch",
    show_default=True,
    help="Which engine.",
)


@click.group(
    epilog="""\b
Examples:
  latent-ingest engine up
  latent-ingest engine up --engine elasticsearch --port 9210
  latent-ingest engine down
"""
)
def engine() -> None:
    """Start, inspect and stop a local OpenSearch (no Docker, no system Java).

    It listens only on the loopback interface, without passwords, and keeps its data in the
    platform's cache folder.
    """


@engine.command()
@kind_option
@click.option(
    "--port",
    type=click.IntRange(PORTS.start, PORTS.stop - 1),
    default=9200,
    show_default=True,
    help="HTTP port.",
)
@click.option("--heap", default="2g", show_default=True, help="Java heap.")
def up(kind: str, port: int, heap: str) -> None:
    """Start the engine, wait until it answers, and print its URL."""
    state = LocalEngine(kind).up(port=port, heap=heap)
    click.echo(state.url)


@engine.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(as_json: bool) -> None:
    """List running local engines. Exit status 1 if there are none."""
    states = [state for kind in DISTRIBUTIONS if (state := LocalEngine(kind).running())]
    if as_json:
        click.echo(json.dumps({"running": [asdict(state) for state in states]}))
    for state in [] if as_json else states:
        health = "answers" if answer(state.url) else "does not answer"
        click.echo(f"{state.kind} {state.version}, pid {state.pid}, {state.url}: {health}")
    if not states:
        if not as_json:
            click.echo("no local engine runs; start one with 'latent-ingest engine up'")
        raise click.exceptions.Exit(1)


@engine.command()
@click.option("--engine", "kind", type=click.Choice(list(DISTRIBUTIONS)), help="Only this one.")
def down(kind: str | None) -> None:
    """Stop all local engines; their data is kept."""
    kinds = [kind] if kind else list(DISTRIBUTIONS)
    stopped = [state for name in kinds if (state := LocalEngine(name).down())]
    for state in stopped:
        click.echo(f"stopped {state.kind} {state.version}, pid {state.pid}, {state.url}")
    if not stopped:
        click.echo("no local engine runs")
