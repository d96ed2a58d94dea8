"""Writes docs/cli.md, the reference of the command line, from the `--help` of every command.

    python docs/generate_cli.py [FILE]

A test fails when docs/cli.md and `--help` differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from latent_ingest.cli.main import cli

WIDTH = 90
HEAD = """\
# Command line

<!-- Written by docs/generate_cli.py from --help. Do not edit; run the script again. -->

`latent-ingest FILE` is short for `latent-ingest ingest FILE`. Results go to stdout; progress,
notices and errors go to stderr. `--json` prints one object for programs.
"""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Names of the command and of every command below it, parents first."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, (*path, name))


def help_text(path: tuple[str, ...]) -> str:
    """What `latent-ingest PATH --help` prints at a width of WIDTH columns."""
    runner = CliRunner(env={"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"})
    shown = runner.invoke(
        cli,
        [*path, "--help"],
        prog_name="latent-ingest",
        terminal_width=WIDTH,
        max_content_width=WIDTH,
    )
    assert shown.exit_code == 0, shown.output
    return "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path in commands(cli):
        name = " ".join(("latent-ingest", *path))
        heading = "##" if len(path) < 2 else "###"
        parts.append(f"{heading} {name}\n\n```text\n{help_text(path)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name("cli.md")
    target.write_text(page(), encoding="utf-8")
