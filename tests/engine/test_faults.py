"""Requests that are refused, broken off, delayed, answered by half: the index is the file."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tenacity
from faults import FAULTS, FaultProxy
from lines import adds_up
from opensearchpy import OpenSearch
from preloaded import started

from latent_ingest.connector import client as client_module
from latent_ingest.connector.client import Connection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.local import LocalEngine, free_port
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.indexing import bulk, patience
from latent_ingest.connector.indexing.index import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.report import IngestReport
from latent_ingest.connector.indexing.verify import Verification

DOCUMENTS = 900
TIMEOUT = 0.6
KILLS = 22


def write_corpus(path: Path, documents: list[dict[str, str]]) -> set[str]:
    """Real texts, some ids twice, two documents that the engine rejects; gives the good ids."""
    rows: list[dict[str, Any]] = [
        {"_id": str(number), "text": documents[number % len(documents)]["text"][:60], "n": number}
        for number in range(DOCUMENTS)
    ]
    for number in range(100, DOCUMENTS, 100):
        rows[number]["_id"] = str(number - 1)  # replaces the one before
    rows[50]["n"] = rows[650]["n"] = "no number"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {row["_id"] for row in rows} - {"50", "650"}


def test_whatever_is_spoilt_the_index_is_the_file(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "MAX_DOCUMENTS", 3)
    monkeypatch.setattr(patience, "WAIT", tenacity.wait_random(0, 0.02))
    monkeypatch.setattr(client_module, "REQUEST_SECONDS", TIMEOUT)
    ids = write_corpus(Path("c.jsonl"), documents)
    meta = open_index(client, index, encoder, {})
    client.indices.put_mapping(index=index, body={"properties": {"n": {"type": "integer"}}})
    proxy = FaultProxy(opensearch_url, seed, timeout=TIMEOUT)
    with proxy.listening() as url:
        report = Ingest(Connection(url).open(), index, encoder, meta, "c.jsonl").run()
    assert proxy.injected.total() >= 200, proxy.injected
    assert set(proxy.injected) == set(FAULTS)
    assert adds_up(report)
    assert report.stopped is None
    assert (report.lines, report.indexed, report.replaced) == (DOCUMENTS, len(ids), 8)
    assert (report.failed, report.not_sent) == (2, 0)
    assert_exactly(client, index, ids)


def test_killed_again_and_again_it_goes_on_and_ends_with_the_file(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    documents: list[dict[str, str]],
    seed: int,
) -> None:
    """kill -9, while requests are spoilt too."""
    chance = random.Random(seed)
    ids = write_corpus(Path("c.jsonl"), documents)
    proxy = FaultProxy(opensearch_url, seed, chance=0.2, others=0, timeout=TIMEOUT)
    kills = 0
    with proxy.listening() as url:
        command = ["c.jsonl", "--url", url, "--index", index, "--json"]
        while kills < KILLS:
            wanted = lines_done() + chance.choice([0, 1, 8, 16])
            process = started(command, "out.json", TIMEOUT)
            while lines_done() < wanted and process.is_alive():
                time.sleep(0.01)
            time.sleep(chance.random() * 0.1)
            assert process.is_alive(), Path("out.json").read_text()
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            kills += 1
        process = started(command, "out.json", TIMEOUT)
        process.join()
    assert process.exitcode == 1  # two documents are rejected
    report = json.loads(Path("out.json").read_text().splitlines()[-1])
    assert report["resumed_after"] > 0
    assert (report["lines"], report["indexed"], report["replaced"]) == (DOCUMENTS, len(ids), 8)
    assert (report["failed"], report["not_sent"]) == (2, 0)
    failed = Path(report["failures_file"]).read_text().splitlines()
    assert [json.loads(row)["_failure"]["line"] for row in failed] == [51, 651]
    assert_exactly(client, index, ids)


def test_a_node_that_is_killed_and_started_again_is_waited_for(
    tmp_path: Path,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "MAX_DOCUMENTS", 10)
    monkeypatch.setattr(patience, "WAIT", tenacity.wait_random(0, 1))
    ids = write_corpus(Path("c.jsonl"), documents)
    engine = LocalEngine("opensearch", tmp_path / "node")
    port = free_port()
    state = engine.up(port=port, heap="512m", bound_to_us=True)
    client = Connection(state.url).open()
    meta = open_index(client, "killed", encoder, {})
    said: list[str] = []
    killed = threading.Event()

    def kill(report: IngestReport, _position: int) -> None:
        if report.lines > DOCUMENTS // 4 and not killed.is_set():
            killed.set()
            os.kill(state.pid, signal.SIGKILL)
            os.waitpid(state.pid, 0)
            threading.Thread(target=engine.up, kwargs={"port": port, "heap": "512m"}).start()

    report = Ingest(client, "killed", encoder, meta, "c.jsonl", warn=said.append).run(kill)
    assert killed.is_set()
    assert "trying again for up to 10 min" in "".join(said)
    assert adds_up(report)
    assert (report.stopped, report.indexed, report.failed) == (None, len(ids), 2)
    assert_exactly(client, "killed", ids)
    engine.down()


def lines_done() -> int:
    with closing(Journal(Path(os.environ["LATENT_INGEST_JOURNAL"]))) as journal:
        return sum(record.progress.lines for record in journal.runs())


def assert_exactly(client: OpenSearch, index: str, ids: set[str]) -> None:
    """The index holds these documents as the file has them, and no others."""
    client.indices.refresh(index=index)
    found = client.search(index=index, body={"size": 10_000, "_source": False})["hits"]["hits"]
    assert len(found) == len(ids)
    assert {hit["_id"] for hit in found} == ids
    meta = IndexMeta.read(client, index)
    assert meta is not None
    verified = Verification(client, index, meta, "c.jsonl").run()
    assert (verified.different.count, verified.extra.count) == (0, 0)
    assert verified.same == len(ids)
