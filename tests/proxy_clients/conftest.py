"""Programs of other languages, and what they need; a proxy and an engine as for its other tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from indexed import indexed
from opensearchpy import OpenSearch
from proxy.conftest import (  # noqa: F401
    Running,
    client,
    load,
    opensearch_url,
    proxy,
    remembered_encodings,
    serve,
    without_question_tables,
)

from latent_ingest.connector.encoding.encoder import LatentEncoder

HERE = Path(__file__).parent
QUESTION = "find files whose names look like a pattern"

Program = Callable[[str, str, str, str], Any]
"""Called with a URL, the index to make, the index of latent terms and a question."""


@pytest.fixture(scope="module")
def papers(
    client: OpenSearch,  # noqa: F811
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
) -> Iterator[str]:
    """An index of 40 docstrings."""
    with indexed(client, encoder, documents[:40]) as name:
        yield name


def run(command: Sequence[str], folder: Path, seconds: float = 240) -> str:
    """Run a command in a folder and return what it prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def missing(what: str) -> None:
    """Skip a test, unless the gate runs it: that has all toolchains."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def needed(*programs: str) -> None:
    """Skip a test where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            missing(f"no {program} on this machine")


def downloaded(command: Sequence[str], folder: Path) -> None:
    """Run a command that downloads packages; skip the test where it cannot."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        missing(f"{command[0]} could not download in time")
        return
    if done.returncode:
        missing(f"{command[0]} could not download: {(done.stderr or done.stdout)[-300:]}")


def copied(language: str, folder: Path) -> Path:
    """A copy of a program's folder, in which packages are installed."""
    return Path(shutil.copytree(HERE / language, folder / language))


def called(*command: str, folder: Path) -> Program:
    """A program that is started for each call."""

    def call(*arguments: str) -> Any:
        return json.loads(run([*command, *arguments], folder))

    return call


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Program:
    needed("node", "npm")
    folder = copied("node", tmp_path_factory.mktemp("clients"))
    downloaded(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
    return called("node", "client.mjs", folder=folder)


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Program:
    needed("go")
    folder = copied("go", tmp_path_factory.mktemp("clients"))
    downloaded(["go", "mod", "download"], folder)
    run(["go", "build", "-o", "client", "."], folder)
    return called("./client", folder=folder)


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> Program:
    needed("java", "javac", "mvn")
    folder = copied("java", tmp_path_factory.mktemp("clients"))
    copy = ["dependency:copy-dependencies", "-DoutputDirectory=jars"]
    downloaded(["mvn", "-q", "-B", *copy], folder)
    run(["javac", "-cp", "jars/*", "Client.java"], folder)
    return called("java", "-cp", "jars/*:.", "Client", folder=folder)
