"""latent-ingest engine, doctor: a local engine, and what any engine allows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click

from latent_ingest.cli import options, output
from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.output import print_json
from latent_ingest.connector.diagnosis.finding import PROBLEM, STATES, WARNING, Finding
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import (
    DISTRIBUTIONS,
    PORTS,
    LocalEngine,
    answer,
    local_engines,
)

# Cells of the first two columns of `doctor`.
CHECK_WIDTH = 17
STATE_WIDTH = 7


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


@click.command(
    epilog="""\b
Examples:
  latent-ingest doctor
  latent-ingest doctor --url https://search:9200 --user ann --index papers
  latent-ingest doctor --write --json
"""
)
@click.option("--index", help="Index or alias to check, too.")
@click.option("--model", help="Folder or name of the model that asks the index.")
@click.option(
    "--write",
    is_flag=True,
    help="Also try what this login may do, in an index latent-ingest-doctor-... that is made for "
    "it and deleted.",
)
@connection_options
@options.as_json
def doctor(
    index: str | None, model: str | None, write: bool, connection: Connection, as_json: bool
) -> None:
    """Check what an engine, this login and an index allow, and say what follows.

    Nothing is changed without --write. Each check is ok, a note, unknown (the engine refuses to
    tell), a warning or a problem. Exit status 1 if there is a problem.
    """
    from latent_ingest.connector.diagnosis.doctor import examine

    findings = []
    with output.sigterm_interrupts():
        for finding in examine(connection.open(), index, model=model, write=write):
            findings.append(finding)
            if not as_json:
                output.print_lines(lines_of(finding))
    states = Counter(finding.state for finding in findings)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], **states})
    else:
        click.echo(", ".join(summed(states)))
    if states[PROBLEM]:
        raise click.exceptions.Exit(1)


def lines_of(finding: Finding) -> list[str]:
    """A line with the finding, and one with the advice, if any."""
    state = click.style(finding.state.ljust(STATE_WIDTH), bold=finding.state in (WARNING, PROBLEM))
    name = finding.check.ljust(CHECK_WIDTH)
    lines = [f"{name}  {state}  {output.one_line(finding.found)}"]
    if finding.advice:
        lines.append(" " * (CHECK_WIDTH + STATE_WIDTH + 4) + output.one_line(finding.advice))
    return lines


def summed(states: Counter[str]) -> list[str]:
    """How many findings have each state, the worst first."""
    nouns = {PROBLEM: "problem", WARNING: "warning", "note": "note"}
    return [
        output.counted(states[state], nouns[state])
        if state in nouns
        else f"{states[state]} {state}"
        for state in reversed(STATES)
        if states[state] or state in (PROBLEM, WARNING)
    ]
