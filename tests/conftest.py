"""Fixtures of tests with and without an engine: minilm-32k, and real text."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3, s3_server

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder

ROOT = Path(__file__).parent.parent

# A job in the background of a shell ignores Ctrl-C, and so would the commands that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of all files that are tracked or new."""
    copy = tmp_path_factory.mktemp("source") / "project"
    left_out = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "demo", "tests")
    shutil.copytree(root, copy, ignore=left_out)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(copy / "out")]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (copy / "out").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def encoder() -> LatentEncoder:
    """The shipped model in fp32, exact enough to compare; commands with these options share it."""
    return LatentEncoder.shared(device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def backbone(encoder: LatentEncoder) -> Backbone:
    return encoder.backbone


@pytest.fixture(scope="session")
def documents() -> list[dict[str, str]]:
    """90 docstrings of the standard library: real text that every machine has."""
    every = list(standard_library())
    chosen = every[:: len(every) // 90][:90]
    assert len(chosen) == 90
    return chosen


@pytest.fixture(scope="session")
def corpus(documents: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents as a JSONL file."""
    path = tmp_path_factory.mktemp("corpus") / "stdlib.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in its own folder, so that it writes nothing into the project or home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_INGEST_JOURNAL", str(tmp_path / "journal" / "journal.sqlite"))
    monkeypatch.setenv("LATENT_INGEST_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a bucket that nothing else uses, not made yet; this process can read it."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"b-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
