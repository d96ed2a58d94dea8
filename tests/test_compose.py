"""compose.yaml, as far as it can be checked without Docker."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from latent_ingest.connector.engine.local import DISTRIBUTIONS


@pytest.fixture
def services(root: Path) -> dict[str, Any]:
    content = yaml.safe_load((root / "compose.yaml").read_text())
    assert set(content) == {"services", "volumes"}
    found: dict[str, Any] = content["services"]
    assert set(found) == {"opensearch", "tests"}
    return found


def test_it_is_the_version_of_the_local_engine(services: dict[str, Any]) -> None:
    image = services["opensearch"]["image"]
    assert image == f"opensearchproject/opensearch:{DISTRIBUTIONS['opensearch'].versions[0]}"


def test_it_is_one_node_on_the_loopback_interface_without_security(
    services: dict[str, Any], root: Path
) -> None:
    service = services["opensearch"]
    assert service["ports"] == ["127.0.0.1:9200:9200"]
    assert service["environment"]["discovery.type"] == "single-node"
    assert service["environment"]["DISABLE_SECURITY_PLUGIN"] == "true"
    assert "Security is off" in (root / "compose.yaml").read_text()


def test_its_test_service_runs_the_gates_command_against_it(
    services: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    """Run the command itself in other folders; make only prints what it would do."""
    service = services["tests"]
    assert service["environment"]["OPENSEARCH_URL"] == "http://opensearch:9200"
    assert service["depends_on"] == {"opensearch": {"condition": "service_healthy"}}
    shell, option, script = service["command"]
    assert (shell, option) == ("sh", "-c")
    assert script.endswith("make -C /tmp/checkout --keep-going test test-slow")
    gate = (root / ".ci" / "run").read_text()
    assert re.findall(r"^make (\S+)", gate, re.MULTILINE) == ["test", "test-slow"]
    script = script.replace("/source", str(root)).replace("/tmp/checkout", str(tmp_path / "copy"))
    script = script.replace("make -C", "make --dry-run -C")
    done = subprocess.run([shell, option, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = [line for line in done.stdout.splitlines() if ".venv/bin/pytest" in line]
    assert [line.split(" -m ")[1] for line in run] == ['"not slow"', "slow"]
    assert "--ignore" not in "".join(run)
    assert "--deselect" not in "".join(run)
    assert "venv .venv" in done.stdout
    assert (tmp_path / "copy" / "connector" / "__init__.py").is_file()
    assert not (tmp_path / "copy" / ".venv").exists()


def health(services: dict[str, Any], url: str) -> int:
    kind, script = services["opensearch"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    script = script.replace("$$", "$")
    done = subprocess.run(
        ["sh", "-c", script], env={**os.environ, "OPENSEARCH_URL": url}, capture_output=True
    )
    return done.returncode


def test_its_healthcheck_fails_where_nothing_answers(services: dict[str, Any]) -> None:
    assert health(services, "http://127.0.0.1:1") != 0


def test_its_data_is_kept_in_a_volume(services: dict[str, Any], root: Path) -> None:
    declared = yaml.safe_load((root / "compose.yaml").read_text())["volumes"]
    used = {
        mount.split(":")[0]
        for service in services.values()
        for mount in service["volumes"]
        if re.match(r"[a-z]", mount)
    }
    assert used == set(declared)
