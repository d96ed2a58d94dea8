"""compose.yaml and the Dockerfile, as far as they can be checked without Docker."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from latent_ingest.cli.main import cli
from latent_ingest.connector.engine.local import DISTRIBUTIONS, WATERMARKS

Instruction = tuple[str, str]


@pytest.fixture
def services(root: Path) -> dict[str, Any]:
    content = yaml.safe_load((root / "compose.yaml").read_text())
    assert set(content) == {"services", "volumes"}
    found: dict[str, Any] = content["services"]
    assert set(found) == {"opensearch", "serve", "tests"}
    return found


def test_it_is_the_local_engine(services: dict[str, Any]) -> None:
    service = services["opensearch"]
    assert service["image"] == (
        f"opensearchproject/opensearch:{DISTRIBUTIONS['opensearch'].versions[0]}"
    )
    assert service["environment"].items() >= WATERMARKS.items()


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
        for mount in service.get("volumes", ())
        if re.match(r"[a-z]", mount)
    }
    assert used == set(declared)


def test_the_proxy_is_on_the_loopback_interface_without_rights(
    services: dict[str, Any], root: Path
) -> None:
    service = services["serve"]
    assert service["ports"] == ["127.0.0.1:9280:9280"]
    assert service["environment"] == {"OPENSEARCH_URL": "http://opensearch:9200"}
    assert service["depends_on"] == {"opensearch": {"condition": "service_healthy"}}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["build"]["context"] == "."
    assert service["build"]["target"] in stages((root / "Dockerfile").read_text())


def test_docker_compose_reads_it(root: Path) -> None:
    command = ["docker", "compose", "-f", str(root / "compose.yaml"), "config", "--quiet"]
    if shutil.which("docker") is None or subprocess.run([*command[:2], "version"]).returncode:
        pytest.skip("no docker compose")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def instructions(dockerfile: str) -> list[Instruction]:
    """The instructions of a Dockerfile, with continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in found]


def stages(dockerfile: str) -> dict[str, list[Instruction]]:
    """Stage → its instructions, with those of the stages that it is made from before them."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for name, rest in instructions(dockerfile):
        if name == "FROM":
            image, _, stage = rest.partition(" AS ")
            current = list(found.get(image, ()))
            found[stage] = current
        current.append((name, rest))
    return found


def values(stage: list[Instruction], name: str) -> list[str]:
    return [rest for other, rest in stage if other == name]


@pytest.mark.parametrize("variant", ["model", "table"])
def test_an_image_has_no_rights_and_no_tools(variant: str, root: Path) -> None:
    stage = stages((root / "Dockerfile").read_text())[variant]
    assert values(stage, "FROM")[0].startswith("python:${PYTHON}-slim")
    assert values(stage, "USER") == ["10001:10001"]
    assert values(stage, "EXPOSE") == ["9280"]
    assert values(stage, "COPY") == [f"--from=build-{variant} /opt/latent /opt/latent"]
    # After the user is chosen nothing runs, and before that pip does not.
    assert not any("pip" in run for run in values(stage, "RUN"))
    assert "ADD" not in dict(stage)


@pytest.mark.parametrize("variant", ["model", "table"])
def test_the_command_of_an_image_is_one_of_ours(variant: str, root: Path) -> None:
    stage = stages((root / "Dockerfile").read_text())[variant]
    (entry,) = values(stage, "ENTRYPOINT")
    command = [*yaml.safe_load(entry), *yaml.safe_load(values(stage, "CMD")[-1])]
    assert command[0] == "latent-ingest"
    (port,) = [after for before, after in pairwise(command) if before == "--port"]
    assert port == values(stage, "EXPOSE")[0]
    # An invalid option ends it before --help does.
    done = CliRunner().invoke(cli, [*command[1:], "--help"])
    assert done.exit_code == 0, done.output
    for option in command[2:]:
        assert not option.startswith("--") or option in done.output
    assert f":{port}/_latent/ready" in values(stage, "HEALTHCHECK")[-1]


def test_what_images_copy_is_there_and_sent_to_docker(root: Path) -> None:
    ignored = (root / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[1] == "*"
    copied = []
    for name, rest in instructions((root / "Dockerfile").read_text()):
        if name == "COPY" and "--from" not in rest:
            copied += shlex.split(rest)[:-1]
    assert len(copied) >= 8
    for path in copied:
        assert (root / path).exists(), path
        assert any(fnmatch(path, pattern) for pattern in kept), path
    stage_names = stages((root / "Dockerfile").read_text())
    for source in re.findall(r"--from=(\S+)", (root / "Dockerfile").read_text()):
        assert source in stage_names


def test_every_run_is_shell(root: Path) -> None:
    for name, rest in instructions((root / "Dockerfile").read_text()):
        if name == "RUN":
            done = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_the_table_variant_lacks_only_what_the_model_needs(root: Path) -> None:
    tomllib = pytest.importorskip("tomllib")  # in Python 3.11, as in the image
    command = [sys.executable, str(root / "docker/requirements.py"), str(root / "pyproject.toml")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    every = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    left_out = {re.split("[<>=]", line)[0] for line in every} - {
        re.split("[<>=]", line)[0] for line in printed
    }
    assert left_out == {"torch", "transformers", "huggingface-hub"}
