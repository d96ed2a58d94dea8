"""A framework that is missing or of another version: one line, that names the extra."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latent_ingest.connector.frameworks.requirement import require


def installed(folder: Path, name: str, version: str) -> Path:
    """A folder in which a version of a package is installed, without its modules."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


@pytest.mark.parametrize(
    ("version", "fits"), [("1.9.9", False), ("2", True), ("2.14.0rc1", True), ("3.0", False)]
)
def test_versions_out_of_range_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    monkeypatch.syspath_prepend(installed(tmp_path, "some-framework", version))
    if fits:
        require("some-framework", "some", "2", "3")
        return
    with pytest.raises(ImportError) as raised:
        require("some-framework", "some", "2", "3")
    assert str(raised.value) == (
        f"some-framework {version} is not supported; pip install 'latent-ingest[some]' installs "
        "version 2 or later, below 3"
    )


def test_a_missing_one_is_named() -> None:
    with pytest.raises(ImportError, match=r"^no-such-framework is missing; pip install 'latent-"):
        require("no-such-framework", "some", "2", "3")


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "latent-ingest"
    paths = {"PYTHONPATH": str(installed(tmp_path, "mcp", "1.9.4"))}
    done = subprocess.run(
        [program, "mcp"], env={**os.environ, **paths}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Error: mcp 1.9.4 is not supported" in done.stderr
    assert "Traceback" not in done.stderr
