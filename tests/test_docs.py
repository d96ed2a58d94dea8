"""The README is true: its commands exist, and no command is left out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from latent_ingest.cli.main import COMMANDS, cli


def commands(root: Path) -> list[str]:
    """Lines of the README's code blocks that call latent-ingest."""
    blocks = re.findall(r"```(?:console|sh)\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("latent-ingest ")]


def parse(command: click.Command, name: str, arguments: list[str]) -> None:
    """Raise click's UsageError for what the command does not take; nothing is run."""
    with command.make_context(name, arguments) as context:
        if not isinstance(command, click.Group):
            return
        name, child, rest = command.resolve_command(context, context._protected_args + context.args)
        assert name
        assert child
        parse(child, name, rest)


def test_every_command_in_the_readme_is_one(root: Path, tmp_path: Path) -> None:
    lines = commands(root)
    assert len(lines) > 8
    for folder in ("scifact", "nfcorpus", "my-model", "mpnet-8k"):
        (tmp_path / folder).mkdir()
    for line in lines:
        arguments = shlex.split(line.split("|")[0], comments=True)
        parse(cli, "latent-ingest", arguments[1:])


def test_no_command_is_left_out_of_the_readme(root: Path) -> None:
    called = " ".join(commands(root))
    text = (root / "README.md").read_text()
    for name in COMMANDS:
        if name != "ingest":  # which is FILE alone
            assert f"latent-ingest {name}" in called or f"`latent-ingest {name}" in text, name


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    from click.testing import CliRunner

    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.stdout
    assert "latent-ingest" in shown.stdout.split("Example")[1]


def test_the_changelog_names_the_version(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text()
    assert "Keep a Changelog" in text
    assert re.search(r"^## \[(Unreleased|\d+\.\d+\.\d+)\]", text, re.MULTILINE)


def test_the_pins_satisfy_the_ranges(root: Path) -> None:
    """Each dependency of pyproject.toml has an exact version, within its range."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = (root / "pyproject.toml").read_text()
    wanted = [Requirement(quoted) for quoted in re.findall(r'"([a-z][\w.-]*[<>=][^"]*)"', text)]
    assert len(wanted) > 15
    for file in ("constraints.txt", "constraints-py310.txt"):
        lines = (root / file).read_text().split()
        assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines)
        pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
        for requirement in wanted:
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
