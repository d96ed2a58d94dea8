"""Whether the process that wrote a note still lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException, RequestError

from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index import repair as module
from latent_ingest.connector.index.repair import (
    LEASE_SECONDS,
    began,
    is_copy_name,
    is_left,
    new_copy_name,
    new_note,
    repair,
)

LONG_AGO = time.time() - 10 * LEASE_SECONDS

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@linux
def test_a_process_of_this_machine_is_known_by_its_start() -> None:
    """Also after a long silence; a process with the same pid but another start is another one."""
    assert not is_left(new_note({}) | {"renewed": LONG_AGO})
    assert is_left(new_note({}) | {"began": "1"})


def test_a_process_that_has_ended_is_known_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        note = new_note({}) | {"pid": process.pid, "began": began(process.pid)}
        assert not is_left(note)
        process.kill()
        if sys.platform == "linux":
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert is_left(note)  # though nobody has waited for it
    assert began(process.pid) is None
    assert is_left(note)


@pytest.mark.parametrize("machine", ["another boot", "another container"])
def test_a_process_of_another_machine_is_known_by_its_lease(machine: str) -> None:
    """Also in a container with the same host name and pid."""
    note = new_note({}) | {"machine": machine}
    assert not is_left(note)
    assert is_left(note | {"pid": 2**22 + 1, "renewed": LONG_AGO})
    assert is_left(note | {"renewed": time.time() - LEASE_SECONDS - 1})


def test_without_proc_the_lease_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOT", Path("/nowhere"))
    monkeypatch.setattr(module, "began", lambda _pid: "")
    note = new_note({})
    assert note["machine"] == note["host"]
    assert not is_left(note)
    assert is_left(note | {"renewed": LONG_AGO})


def test_only_names_that_tuning_gives_are_those_of_copies() -> None:
    assert is_copy_name(new_copy_name("papers"), "papers")
    for name in ("papers", "papers-tune-", "papers-tune-archive1", "others-tune-0123abcd", "*"):
        assert not is_copy_name(name, "papers")
    assert not is_copy_name("paperss-tune-0123abcd", "paper.")


def test_a_login_that_may_not_restore_an_index_goes_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning says so; other refusals are errors."""
    client = OpenSearch("http://localhost:9200")
    note = new_note({"index.blocks.write": None}) | {"pid": 2**22 + 1, "renewed": LONG_AGO}
    mappings = {"_meta": {"latent_ingest": {"tuning": note}}}
    answer: Exception = AuthorizationException(403, "security_exception", {})

    def refuse(**_: object) -> None:
        raise answer

    monkeypatch.setattr(
        client.indices, "get_mapping", lambda **_: {"papers": {"mappings": mappings}}
    )
    monkeypatch.setattr(client.indices, "put_settings", refuse)
    repair(client, "papers")
    (line,) = caplog.messages
    assert line.startswith("index papers was left changed by an interrupted tuning run, and this")
    answer = RequestError(400, "illegal_argument_exception", {})
    with pytest.raises(EngineError, match="illegal_argument_exception"):
        repair(client, "papers")
