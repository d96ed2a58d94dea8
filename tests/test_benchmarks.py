"""The commands of the scripts in benchmarks/, without what they measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Of its folder, as `python benchmarks/NAME.py` is; all in one process, which imports torch once.
ASK_ALL = """
import importlib, json, sys
from click.testing import CliRunner
for name in sys.argv[1:]:
    found = CliRunner().invoke(importlib.import_module(name).main, ["--help"])
    print(json.dumps([name, found.exit_code, found.output]))
"""


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "benchmarks"


def test_each_script_has_help(folder: Path) -> None:
    scripts = [path.stem for path in folder.glob("*.py") if "__main__" in path.read_text()]
    assert len(scripts) > 30
    asked = subprocess.run(
        [sys.executable, "-c", ASK_ALL, *scripts], cwd=folder, capture_output=True, text=True
    )
    assert asked.returncode == 0, asked.stderr
    answers = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [name for name, *_ in answers] == scripts
    for name, status, output in answers:
        assert status == 0, (name, output)
        usage, _, does = output.partition("Options:")[0].partition("\n\n")
        assert usage.startswith("Usage:"), output
        assert does.strip(), f"{name}.py says nothing about what it does"


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            ["pairs.py", "--on", "nowhere:dev", "minilm-32k"],
            "Error: nowhere: no such folder; name a folder in BEIR layout",
        ),
        (
            ["own_words.py", "nowhere"],
            "Error: nowhere: no split; name FOLDER:SPLIT, such as nowhere:dev",
        ),
    ],
)
def test_a_wrong_path_is_one_line(folder: Path, call: list[str], line: str) -> None:
    script, *arguments = call
    done = subprocess.run(
        [sys.executable, str(folder / script), *arguments], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, f"{line}\n")
