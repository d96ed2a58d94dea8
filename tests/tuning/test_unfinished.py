"""Whether the process that wrote a note still lives, as any other can tell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latent_ingest.connector.index import repair
from latent_ingest.connector.index.repair import (
    LEASE_SECONDS,
    began,
    is_copy_name,
    is_left,
    new_copy_name,
    new_note,
)

LONG_AGO = time.time() - 10 * LEASE_SECONDS

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@linux
def test_a_process_of_this_machine_is_known_by_its_start() -> None:
    """However long it has been silent; another one of the same pid is another."""
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
    """Of a container, too, whose host's name and pid are these."""
    note = new_note({}) | {"machine": machine}
    assert not is_left(note)
    assert is_left(note | {"pid": 2**22 + 1, "renewed": LONG_AGO})
    assert is_left(note | {"renewed": time.time() - LEASE_SECONDS - 1})


def test_without_proc_the_lease_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "BOOT", Path("/nowhere"))
    monkeypatch.setattr(repair, "began", lambda _pid: "")
    note = new_note({})
    assert note["machine"] == note["host"]
    assert not is_left(note)
    assert is_left(note | {"renewed": LONG_AGO})


def test_only_names_that_tuning_gives_are_those_of_copies() -> None:
    assert is_copy_name(new_copy_name("papers"), "papers")
    for name in ("papers", "papers-tune-", "papers-tune-archive1", "others-tune-0123abcd", "*"):
        assert not is_copy_name(name, "papers")
    assert not is_copy_name("paperss-tune-0123abcd", "paper.")
