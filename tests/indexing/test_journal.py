"""The journal: where an interrupted run resumes, and when a run must not start."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.journal_records import Progress, RunKey

Open = Callable[[], Journal]


@pytest.fixture
def open_journal(tmp_path: Path) -> Iterator[Open]:
    """The same file in several hands."""
    opened: list[Journal] = []

    def journal() -> Journal:
        opened.append(Journal(tmp_path / "j" / "journal.sqlite"))
        return opened[-1]

    yield journal
    for one in opened:
        one.close()


def key(corpus: str = "/a.jsonl", uuid: str = "u1", **settings: Any) -> RunKey:
    return RunKey(corpus, "papers", uuid, settings, "latent-ingest a.jsonl")


def test_an_interrupted_run_resumes_and_a_done_one_starts_again(open_journal: Open) -> None:
    run = open_journal().open(key())
    assert run.resumed is None
    progress = Progress(lines=7, digest="d", position=70, size=100, failures_bytes=3)
    run.note(progress, rejected=[2, 5])
    run.close()  # as the system does when the process is killed

    other = dataclasses.replace(key(), command="latent-ingest a.jsonl --concurrency 1")
    again = open_journal().open(other)
    assert [record.command for record in open_journal().runs()] == [other.command]
    assert again.resumed == progress
    assert again.rejected == {2, 5}
    again.end(None)
    again.close()

    fresh = open_journal().open(key())
    assert fresh.resumed is None
    assert fresh.rejected == set()
    fresh.close()


def test_a_clock_that_is_set_back_changes_nothing(
    open_journal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_journal().open(key())
    run.note(Progress(lines=7))
    monkeypatch.setattr("time.time", lambda: 0.0)
    run.note(Progress(lines=9))
    run.close()
    again = open_journal().open(key())
    assert again.resumed is not None
    assert again.resumed.lines == 9
    again.close()


@pytest.mark.parametrize("other", [key("/b.jsonl"), key(uuid="u2")])
def test_another_file_or_index_is_another_run(open_journal: Open, other: RunKey) -> None:
    run = open_journal().open(key())
    run.note(Progress(lines=7))
    beside = open_journal().open(other)
    assert beside.resumed is None
    beside.close()
    run.close()


def test_restart_forgets(open_journal: Open) -> None:
    run = open_journal().open(key())
    run.note(Progress(lines=7))
    run.close()
    again = open_journal().open(key(), restart=True)
    assert again.resumed is None
    again.close()


def test_other_settings_are_refused_with_the_two_ways_on(open_journal: Open) -> None:
    run = open_journal().open(key(id_fields=["id"]))
    run.note(Progress(lines=7))
    run.close()
    with pytest.raises(InputError, match=r"had id_fields \['id'\], .* with --restart"):
        open_journal().open(key(id_fields=["key"]))
    same = open_journal().open(key(id_fields=["id"]))
    assert same.resumed
    same.close()


def test_the_default_is_what_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for commands, which have it from their option."""
    monkeypatch.setenv("LATENT_INGEST_JOURNAL", str(tmp_path / "named.sqlite"))
    with closing(Journal()) as journal:
        assert journal.path == tmp_path / "named.sqlite"
    monkeypatch.delenv("LATENT_INGEST_JOURNAL")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with closing(Journal()) as journal:
        assert journal.path.name == "journal.sqlite"
        assert journal.path != tmp_path / "named.sqlite"


def test_two_at_once_are_refused(open_journal: Open) -> None:
    run = open_journal().open(key())
    with pytest.raises(InputError, match="by another process; wait for it, or stop it"):
        open_journal().open(key())
    run.close()
    open_journal().open(key()).close()


HOLDING = """
import sys, time
from pathlib import Path
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.journal_records import Progress, RunKey
run = Journal(Path(sys.argv[1])).open(RunKey("/a.jsonl", "papers", "u1"))
run.note(Progress(lines=7))
print("held", flush=True)
time.sleep(600)
"""


def test_a_run_of_another_process_is_refused_and_resumed_when_that_is_killed(
    open_journal: Open,
) -> None:
    journal = open_journal()
    command = [sys.executable, "-c", HOLDING, str(journal.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="by another process; wait for it, or stop it"):
            journal.open(key())
        assert journal.running("u1")
        other.kill()
    assert not journal.running("u1")
    run = journal.open(key())
    assert run.resumed is not None
    assert run.resumed.lines == 7
    run.close()


def test_runs_say_how_they_ended(open_journal: Open) -> None:
    journal = open_journal()
    ends: dict[str, str | None] = {"/done": None, "/stopped": "the engine went away"}
    for corpus, reason in ends.items():
        run = journal.open(key(corpus))
        run.note(Progress(lines=3))
        run.end(reason)
        run.close()
    killed = journal.open(key("/killed"))
    killed.note(Progress(lines=4))
    running = journal.open(key("/running"))
    killed.close()
    states = {record.corpus: record.state for record in open_journal().runs()}
    assert states == {
        "/done": "done",
        "/stopped": "the engine went away",
        "/killed": "interrupted",
        "/running": "running",
    }
    running.close()


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"journal.sqlite: the journal fails: .* move it away"):
        Journal(path)


@pytest.mark.parametrize("stored", ['{"lines": 7', "[]", "7"])
def test_a_damaged_run_is_said(open_journal: Open, stored: str) -> None:
    """SQLite notices nothing of it."""
    journal = open_journal()
    run = journal.open(key())
    run.note(Progress(lines=7))
    run.close()
    journal._database.execute("UPDATE run SET progress = ?", (stored,))
    for ask in (journal.runs, lambda: journal.open(key())):
        with pytest.raises(InputError, match=r"a run in it is damaged: .*; move it away"):
            ask()


def test_a_journal_of_a_newer_version_is_said(open_journal: Open) -> None:
    path = open_journal().path
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(InputError, match=r"of a newer version \(9, this is 1\); upgrade"):
        Journal(path)


def test_a_full_disk_is_said_and_what_was_noted_stays(open_journal: Open) -> None:
    journal = open_journal()
    run = journal.open(key())
    run.note(Progress(lines=7))
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(InputError, match=r"is full; free disk space and repeat the command"):
        run.note(Progress(lines=9), rejected=range(100_000))
    run.close()
    again = open_journal().open(key())
    assert again.resumed is not None
    assert again.resumed.lines == 7
    again.close()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written: .*; name another with --journal"):
        Journal(tmp_path / "file" / "journal.sqlite")
