"""An install without PyTorch, by the lines in docs/serving.md, asks by table."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.cli.main import MODEL_PACKAGES

PINS = "constraints.txt" if sys.version_info >= (3, 11) else "constraints-py310.txt"
BREAD = '{"_id": "bread", "text": "Bake the loaf until its crust is brown."}'


def documented(root: Path) -> list[list[str]]:
    """The arguments of each `pip install` in docs/serving.md without an extra."""
    page = (root / "docs" / "serving.md").read_text()
    found = re.findall(r"^pip install (.+)$", page, re.MULTILINE)
    return [shlex.split(line) for line in found if "[" not in line]


def test_the_documented_lines_install_all_but_the_model(root: Path) -> None:
    project = (root / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert block
    required = re.findall(r'"(.+)"', block[1])
    model = tuple(name.replace("_", "-") for name in MODEL_PACKAGES)
    assert len([line for line in required if line.startswith(model)]) == len(model)
    own, others = documented(root)
    assert own == ["--no-deps", "latent-ingest"]
    assert others == [line for line in required if not line.startswith(model)]


@pytest.mark.slow
def test_an_install_without_torch_asks_by_table(
    root: Path,
    wheel: Path,
    tmp_path: Path,
    client: OpenSearch,
    opensearch_url: str,
    new_index: Any,
    load: Any,
) -> None:
    index = new_index(client)
    load(client, index, [BREAD])
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    for arguments in documented(root):
        named = [str(wheel) if name == "latent-ingest" else name for name in arguments]
        pins = root / PINS
        subprocess.run([programs / "pip", "install", "-q", "-c", pins, *named], check=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        asked = [str(programs / "latent-ingest"), *arguments, "--index", index]
        asked += ["--url", opensearch_url]
        return subprocess.run(asked, capture_output=True, text=True, check=False, cwd=tmp_path)

    found = run("search", "wheat flour dessert", "--questions", "table", "--size", "1")
    assert found.returncode == 0, found.stderr
    assert "bread" in found.stdout
    refused = run("search", "wheat flour dessert", "--questions", "model")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: the model needs ")
    assert len(refused.stderr.splitlines()) == 1
