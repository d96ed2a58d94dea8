"""The local engine: started, found, stopped; what is stale or taken is noticed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from latent_ingest.cli.main import cli
from latent_ingest.connector.engine.local import (
    PORTS,
    WATERMARKS,
    LocalEngine,
    answer,
    free_port,
    local_url,
)
from latent_ingest.connector.errors import EngineError


def test_up_status_and_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the commands, in a cache folder of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("OPENSEARCH_URL", raising=False)
    cache = Path.home() / ".cache" / "jgo"
    if cache.is_dir():
        (tmp_path / "jgo").symlink_to(cache)
    runner, port = CliRunner(), free_port()
    assert "no local engine runs" in runner.invoke(cli, ["engine", "status"]).stdout
    started = runner.invoke(cli, ["engine", "up", "--port", str(port), "--heap", "512m"])
    try:
        url = f"http://127.0.0.1:{port}"
        assert (started.exit_code, started.stdout) == (0, f"{url}\n"), started.stderr
        content = answer(url)
        assert content is not None
        assert content["version"]["number"] == "3.8.0"
        defaults = answer(f"{url}/_cluster/settings?include_defaults=true&flat_settings=true")
        assert defaults is not None
        assert defaults["defaults"].items() >= WATERMARKS.items()
        status = runner.invoke(cli, ["engine", "status", "--json"])
        (state,) = json.loads(status.stdout)["running"]
        assert (state["url"], state["kind"], state["version"]) == (url, "opensearch", "3.8.0")
        again = runner.invoke(cli, ["engine", "up", "--port", str(port)])
        assert again.stdout == started.stdout
        taken = LocalEngine("opensearch", tmp_path / "other")
        with pytest.raises(EngineError, match=rf"port {port} is taken by opensearch 3.8.0; stop"):
            taken.up(port=port)
        # The commands find it without being told.
        missing = runner.invoke(cli, ["search", "bees", "--index", "nowhere"])
        assert "no index or alias nowhere" in missing.stderr
    finally:
        stopped = runner.invoke(cli, ["engine", "down"])
    assert stopped.stdout == f"stopped opensearch 3.8.0, pid {state['pid']}, {url}\n"
    assert not psutil.pid_exists(state["pid"])
    assert answer(url) is None
    assert "no local engine runs" in runner.invoke(cli, ["engine", "down"]).stdout


def stale(pid: int) -> str:
    return json.dumps({"pid": pid, "url": "http://127.0.0.1:1", "kind": "x", "version": "1"})


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("not json", "not the state of a node"),
        ("{}", "not the state of a node"),
        (stale(2**22 - 3), f"OpenSearch of pid {2**22 - 3} ended"),
        (stale(os.getpid()), f"OpenSearch of pid {os.getpid()} ended"),
    ],
    ids=["not json", "empty", "dead pid", "somebody else's pid"],
)
def test_a_stale_state_is_said_and_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, what: str
) -> None:
    caplog.set_level("INFO", "latent_ingest")
    engine = LocalEngine("opensearch", tmp_path)
    engine.home.mkdir(parents=True)
    (engine.home / "state.json").write_text(content)
    assert engine.running() is None
    assert len(caplog.messages) == 1
    assert what in caplog.messages[0]
    assert not (engine.home / "state.json").exists()
    assert engine.down() is None
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("command", ["status", "down", "up"])
def test_without_the_extra_one_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "psutil", None)
    engine = LocalEngine("opensearch")
    assert tmp_path in engine.home.parents
    engine.home.mkdir(parents=True)
    (engine.home / "state.json").write_text(stale(os.getpid()))
    done = CliRunner().invoke(cli, ["engine", command])
    assert done.exit_code == 1
    assert (
        done.output == "Error: psutil is missing; pip install 'latent-ingest[engine]' installs it\n"
    )
    assert local_url() is None


def test_a_port_taken_by_another_program_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(EngineError, match=rf"port {port} is taken by another program; stop"):
            LocalEngine("opensearch", tmp_path).up(port=port)


def test_a_port_taken_while_the_node_starts_is_said(
    opensearch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node then listens elsewhere, and another engine answers at the port."""
    port = int(opensearch_url.rsplit(":", 1)[1])
    monkeypatch.setattr("latent_ingest.connector.engine.local.port_taken", lambda _port: False)
    engine = LocalEngine("opensearch", tmp_path)
    with pytest.raises(EngineError, match=rf"port {port} was taken meanwhile by opensearch 3"):
        engine.up(port=port, heap="512m", bound_to_us=True)
    assert engine.running() is None
    assert answer(opensearch_url)


def test_a_local_engine_is_asked_without_a_proxy(
    opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert answer(opensearch_url)


def test_a_port_the_runner_cannot_have_is_refused(tmp_path: Path) -> None:
    for port in (80, PORTS.stop):
        with pytest.raises(EngineError, match="must be 1025 to 9299"):
            LocalEngine("opensearch", tmp_path).up(port=port)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(EngineError, match="use opensearch or elasticsearch"):
        LocalEngine("solr")


def test_an_unknown_version_is_refused() -> None:
    asked = ["engine", "up", "--version", "2.0"]
    for kind, versions in (("opensearch", r"3\.8\.0 or 2\.19\.1"), ("elasticsearch", r"7\.10\.2")):
        done = CliRunner().invoke(cli, [*asked, "--engine", kind])
        assert done.exit_code == 1
        assert re.fullmatch(rf"Error: {kind} version '2\.0': use {versions}\n", done.output)


def test_a_node_that_dies_at_once_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"OpenSearch ended at once with status 1: .*its log is"):
        LocalEngine("opensearch", tmp_path).up(port=free_port(), heap="1k")
    assert LocalEngine("opensearch", tmp_path).running() is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_node_bound_to_a_process_ends_with_it(tmp_path: Path) -> None:
    """So that tests that are killed leave none behind."""
    code = (
        "import os, signal; from pathlib import Path;"
        "from latent_ingest.connector.engine.local import LocalEngine, free_port;"
        f"e = LocalEngine('opensearch', Path({str(tmp_path)!r}));"
        "print(e.up(port=free_port(), heap='512m', bound_to_us=True).pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    pid = int(killed.stdout)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(30)
    assert not psutil.pid_exists(pid)
