"""README and docs: their commands parse, their paths and links exist, and nothing is left out."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import latent_ingest.connector
from latent_ingest.cli.main import COMMANDS, cli

README_WORDS = 900


def pages(root: Path) -> list[Path]:
    """README and every page of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def command_lines(page: Path) -> list[str]:
    """Calls of latent-ingest in the code blocks of a page, without pipes and comments."""
    blocks = re.findall(r"```(?:console|sh)\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("|")]
    return [part for part in parts if part.startswith("latent-ingest ")]


def parse(command: click.Command, name: str, arguments: list[str]) -> None:
    """Raise click's UsageError for what the command does not take; nothing is run."""
    with command.make_context(name, arguments) as context:
        if not isinstance(command, click.Group):
            return
        name, child, rest = command.resolve_command(context, context._protected_args + context.args)
        assert name
        assert child
        parse(child, name, rest)


def create(argument: str, folder: Path) -> None:
    """The file or folder that an argument names, since some options require that it exists."""
    path = folder / re.sub(r"^\w+=|=\d+$", "", argument)  # of NAME=FILE and FILE=WEIGHT
    if argument.endswith("/") or argument in ("scifact", "nfcorpus", "my-model", "published"):
        path.mkdir(parents=True, exist_ok=True)
    elif path.suffix in (".jsonl", ".json", ".gz", ".txt") and "*" not in argument:
        path.touch()


def test_every_command_line_parses(root: Path, tmp_path: Path) -> None:
    checked = 0
    for page in pages(root):
        for line in command_lines(page):
            arguments = shlex.split(line, comments=True)[1:]
            for argument in arguments:
                create(argument, tmp_path)
            try:
                parse(cli, "latent-ingest", arguments)
            except click.UsageError as error:
                pytest.fail(f"{page.name}: {line}: {error.format_message()}")
            checked += 1
    assert checked > 60


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that does something, such as ("engine", "up")."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, (*path, name))


def test_every_command_is_documented_by_an_example(root: Path) -> None:
    """In a page that a person wrote: not counting the generated reference."""
    lines = [line for page in pages(root) if page.name != "cli.md" for line in command_lines(page)]
    paths = list(leaves(cli))
    assert len(paths) >= len(COMMANDS)
    for path in paths:
        # `ingest FILE` is written as FILE alone.
        called = "latent-ingest " + ("corpus.jsonl" if path == ("ingest",) else " ".join(path))
        assert any(f"{line} ".startswith(f"{called} ") for line in lines), called


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.stdout
    assert "latent-ingest" in shown.stdout.split("Example")[1]


def test_the_command_line_reference_is_up_to_date(root: Path, tmp_path: Path) -> None:
    """In a process of its own, since click keeps the help options of the contexts made above."""
    made = tmp_path / "cli.md"
    subprocess.run([sys.executable, root / "docs" / "generate_cli.py", made], check=True)
    committed = (root / "docs" / "cli.md").read_text()
    assert committed.count("\n## latent-ingest") == 1 + len(COMMANDS)
    assert made.read_text() == committed, "--help has changed: run python docs/generate_cli.py"


def test_the_picture_of_the_rooms_is_what_its_script_writes(root: Path, tmp_path: Path) -> None:
    made = tmp_path / "architecture.svg"
    subprocess.run([sys.executable, root / "docs" / "generate_architecture.py", made], check=True)
    committed = (root / "docs" / "architecture.svg").read_text()
    assert made.read_text() == committed, "run python docs/generate_architecture.py"


def test_the_readme_is_short(root: Path) -> None:
    assert len((root / "README.md").read_text().split()) <= README_WORDS


def test_every_page_is_in_the_navigation(root: Path) -> None:
    nav = re.findall(r"^ +- .*: ([\w-]+\.md)$", (root / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(nav) > 20
    assert sorted(nav) == sorted(page.name for page in (root / "docs").glob("*.md"))


def test_every_relative_link_leads_to_a_file(root: Path) -> None:
    checked = 0
    for page in [*pages(root), root / "SECURITY.md", root / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
                checked += 1
    assert checked > 40


def test_every_path_and_module_that_is_named_exists(root: Path) -> None:
    checked = 0
    for page in pages(root):
        text = page.read_text()
        for name in re.findall(
            r"(?<![\w./-])(?:connector|mappings|cli|tests|benchmarks|docs)/[\w./-]*\w", text
        ):
            assert (root / name).exists(), f"{page.name}: {name}"
            checked += 1
        for name in re.findall(r"(?<!::: )latent_ingest\.(?:connector|cli|mappings)[\w.]*", text):
            assert importlib.util.find_spec(name), f"{page.name}: {name}"
            checked += 1
    assert checked > 40


def test_the_architecture_page_has_every_room(root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text()
    rooms = [path.parent.name for path in (root / "connector").glob("*/__init__.py")]
    assert len(rooms) > 8
    for room in rooms:
        assert f"`connector/{room}`" in text, room


def test_the_api_page_has_every_public_name(root: Path) -> None:
    text = (root / "docs" / "api.md").read_text()
    shown = re.findall(r"^::: latent_ingest\.connector\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted([*latent_ingest.connector.__all__, "sentence_transformers"])


def test_the_site_builds(root: Path, tmp_path: Path) -> None:
    """Strict: a broken link, a missing anchor or an unknown name in the API page fails."""
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason="the extra 'docs' is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "QueryRewriter.rewrite_body" in (tmp_path / "api.html").read_text()


def test_the_changelog_has_the_version(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text()
    assert "Keep a Changelog" in text
    version = re.search(r'^version = "(.*)"', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    sections = re.findall(r"^## \[(.*?)\](.*)$", text, re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    assert sections[1][0] == version[1]
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", sections[1][1])


def test_the_pins_satisfy_the_ranges(root: Path) -> None:
    """Each dependency of pyproject.toml has an exact version, within its range."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = (root / "pyproject.toml").read_text()
    quoted = re.findall(r'"([a-z][\w.-]*(?:\[[\w,-]+\])?[<>=][^"]*)"', text)
    wanted = [Requirement(one) for one in quoted]
    assert len(wanted) > 15
    for file in ("constraints.txt", "constraints-py310.txt"):
        lines = (root / file).read_text().split()
        assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines)
        pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
        for requirement in wanted:
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
