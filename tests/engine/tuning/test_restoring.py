"""What `tune` leaves of an index, whether it ends, is interrupted or is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from killed import Killed
from opensearchpy import OpenSearch
from tuned import call, k1_of, state

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.index.repair import (
    new_note,
    repair,
    restore,
)
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.journal_records import RunKey
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher
from latent_ingest.connector.tuning import tuned_index

CALLED = (sys.executable, "-c", "from latent_ingest.cli.main import cli; cli()")

# Dies right after the index was closed for the second time: other k1 and b are in it by then.
DIES_WHILE_CLOSED = Killed("opensearchpy.client.indices.IndicesClient.close", call=2, after=True)


def started(
    url: str, folder: Path, index: str, *options: str, program: Sequence[str] = CALLED
) -> subprocess.Popen[str]:
    arguments = ["tune", str(folder), "--index", index, "--url", url, "--split", "all"]
    return subprocess.Popen(
        [*program, *arguments, *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def copies_of(client: OpenSearch, index: str) -> dict[str, Any]:
    found: dict[str, Any] = client.indices.get(index=f"{index}-tune-*")
    return found


def test_the_next_command_restores_an_index_that_a_killed_run_left_closed(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    before = state(client, made)
    options = ("--knobs", "k1,b", "--yes")
    process = started(opensearch_url, folder, made, *options, program=DIES_WHILE_CLOSED.program())
    stderr = process.communicate(timeout=180)[1]
    assert process.returncode == -signal.SIGKILL, stderr
    left = state(client, made)
    assert left["status"] == "close"
    assert left["settings"] != before["settings"]
    done = subprocess.run(
        [
            *(*CALLED, "search"),
            *("file names", "--index", made, "--url", opensearch_url, "--json"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"index {made} was left changed by an interrupted tuning run: it is open" in done.stderr
    assert json.loads(done.stdout)["hits"]["hits"]
    assert state(client, made) == before


def test_the_next_command_deletes_the_copy_of_a_killed_run(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    before = state(client, made)
    process = started(opensearch_url, folder, made, "--knobs", "k1", "--copy")
    wait_until(lambda: copies_of(client, made), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(copies_of(client, made)) == 1
    corpus = str(folder / "corpus.jsonl")
    done = CliRunner().invoke(cli, ["verify", corpus, "--index", made, "--url", opensearch_url])
    assert done.exit_code == 0, done.stderr
    assert copies_of(client, made) == {}
    assert state(client, made) == before


@pytest.mark.parametrize("command", ["explain", "rewrite", "enrich", "ingest", "evaluate", "tune"])
def test_each_command_that_opens_an_index_restores_it(
    opensearch_url: str, client: OpenSearch, folder: Path, load: Any, index: str, command: str
) -> None:
    """Those for search and verify are below: their tuning runs are killed."""
    corpus = folder / "corpus.jsonl"
    assert load(client, index, corpus).ok
    handle = Index(client, index)
    note = new_note(tuned_index.similarity(2.0, 0.7)) | {"pid": 2**22 + 1, "renewed": 0}
    handle.update_meta(tuning=note)
    handle.put_settings_closed(tuned_index.similarity(9.0, 0.7), Retry(client))
    client.indices.close(index=index)
    arguments = {
        "explain": ["file names", "--id", json.loads(corpus.read_text().splitlines()[0])["_id"]],
        "rewrite": ["file names"],
        "enrich": [],
        "evaluate": ["--systems", "words", "--split", "dev", str(folder)],
        "ingest": [str(corpus)],
        "tune": ["--split", "few", "--report", "few", "--knobs", "latent_boost", str(folder)],
    }[command]
    where = ["--index", index, "--url", opensearch_url]
    done = CliRunner().invoke(cli, [command, *where, *arguments])
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert f"index {index} was left changed by an interrupted tuning run: it is open" in done.stderr
    assert k1_of(client, index) == 2.0
    assert handle.meta().tuning is None


def test_reading_an_index_that_tuning_left_changes_nothing(
    client: OpenSearch, made: str, encoder: LatentEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader only warns; `repair` restores, also by an alias, and deletes no index but a copy."""
    index, foreign = Index(client, made), f"{made}-tune-archive"
    alias = f"{made}-alias"
    client.indices.create(index=foreign)
    client.indices.put_alias(index=made, name=alias)
    before = state(client, made)
    note = new_note(tuned_index.similarity(2.0, 0.7), foreign) | {"pid": 2**22 + 1}
    try:
        index.update_meta(tuning=note | {"renewed": 0})
        index.put_settings_closed(tuned_index.similarity(9.0, 0.7), Retry(client))
        left = state(client, made)
        meta = IndexMeta.read(client, alias)
        assert meta is not None
        assert meta.tuning is not None
        assert ExistingIndex.read(client, alias).open
        assert caplog.messages == []
        for read in (
            lambda: QueryRewriter.from_index(client, alias, encoder),
            lambda: Searcher(client, alias, [encoder]),
        ):
            read()
            assert caplog.messages[-1].startswith(
                f"index {made} was left changed by an interrupted"
            )
            assert f"any command with --index {made}" in caplog.messages[-1]
        assert state(client, made) == left
        repair(client, alias)
        assert state(client, made) == before
        assert f"{foreign}, which is not a name that tuning gives" in caplog.text
        assert client.indices.exists(index=foreign)
    finally:
        client.indices.delete_alias(index=made, name=alias)
        client.indices.delete(index=foreign)


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_restores_the_index_at_once(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path, how: str
) -> None:
    before = state(client, made)
    copy = how == "SIGTERM"
    process = started(opensearch_url, folder, made, "--knobs", "k1", "--copy" if copy else "--yes")
    if copy:
        wait_until(lambda: copies_of(client, made), process)
    else:
        wait_until(lambda: k1_of(client, made) != 2.0, process)
    process.send_signal(signal.Signals[how])
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert state(client, made) == before
    assert copies_of(client, made) == {}


def test_a_run_that_was_taken_for_dead_ends_and_closes_nothing(
    client: OpenSearch, made: str
) -> None:
    """As after a laptop slept: another command has restored the index, and tunes it."""
    before = state(client, made)
    existing = ExistingIndex.read(client, made)
    other = new_note(tuned_index.similarity(2.0, 0.7))
    with tuned_index.in_place(existing, Retry(client)) as asked:
        asked.set(3.0, 0.7)
        asked.check()
        restore(existing.index, other, Retry(client))
        with pytest.raises(EngineError, match=r"has k1 and b \(2.0, 0.7\), not \(3.0, 0.7\)"):
            asked.check()
    assert state(client, made) == before
    with tuned_index.in_place(existing, Retry(client)) as asked:
        Index(client, made).update_meta(tuning=other)
        with pytest.raises(EngineError, match="another command took this run for dead"):
            asked.set(3.0, 0.7)
    assert state(client, made)["mappings"]["_meta"]["latent_ingest"]["tuning"] == other
    Index(client, made).update_meta(tuning=None)
    assert state(client, made) == before


def test_a_run_renews_its_note_while_it_asks(
    client: OpenSearch, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = ExistingIndex.read(client, made)
    with tuned_index.in_place(existing, Retry(client)) as asked:
        first = IndexMeta.read(client, made)
        monkeypatch.setattr(tuned_index, "RENEW_SECONDS", 0)
        asked.check()
        second = IndexMeta.read(client, made)
    notes = [meta.tuning for meta in (first, second) if meta and meta.tuning]
    assert notes[0]["renewed"] < notes[1]["renewed"]


def test_a_process_that_lives_is_left_alone(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    Index(client, made).update_meta(tuning=new_note({"index.similarity.latent_bm25.k1": 9.0}))
    try:
        meta = IndexMeta.read(client, made)
        assert meta is not None
        assert meta.tuning is not None
        assert k1_of(client, made) == 2.0
        done = call(opensearch_url, folder, made, "--split", "dev", "--yes")
        assert done.exit_code == 2
        assert f"index {made} is being tuned by process {os.getpid()}" in done.stderr
    finally:
        Index(client, made).update_meta(tuning=None)


def test_an_index_that_is_written_to_is_left_alone(
    opensearch_url: str, client: OpenSearch, folder: Path, load: Any, index: str, tmp_path: Path
) -> None:
    """By an application, or by a running ingest."""
    assert load(client, index, folder / "corpus.jsonl").ok
    before = state(client, index)
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.1):
            client.index(index=index, id="written", body={"text": "Vitamin D"})

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for options in (("--yes",), ("--copy",)):
            done = call(opensearch_url, folder, index, "--split", "dev", *options)
            assert done.exit_code == 2
            assert f"index {index} receives writes" in done.stderr
    finally:
        ended.set()
        writing.join()
    key = RunKey(str(tmp_path / "corpus.jsonl"), index, Index(client, index).uuid())
    with closing(Journal(tmp_path / "runs.sqlite")) as book, closing(book.open(key)):
        options = ("--split", "dev", "--yes", "--journal", str(tmp_path / "runs.sqlite"))
        done = call(opensearch_url, folder, index, *options)
        assert (done.exit_code, f"a run of ingest writes to {index}" in done.stderr) == (2, True)
    # And once it is closed and opened now and then, which are no writes.
    existing = ExistingIndex.read(client, index)
    with tuned_index.in_place(existing, Retry(client)) as asked:
        asked.set(3.0, 0.7)
        asked.set(2.0, 0.7)
        client.index(index=index, id="written", body={"text": "Vitamin D"})
        with pytest.raises(InputError, match=r"receives writes \(1 since tuning began\)"):
            asked.set(3.0, 0.7)
    after = state(client, index)
    assert (after["status"], after["settings"]) == ("open", before["settings"])
