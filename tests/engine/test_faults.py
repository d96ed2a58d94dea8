"""Requests that are refused, broken off, delayed, answered by half: the index is the file."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tenacity
from faults import FAULTS, FaultProxy, Spoiling
from lines import adds_up
from opensearchpy import OpenSearch
from preloaded import started

from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.document import Document, parse_line
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import client as client_module
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import LocalEngine, free_port
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import create_index, open_index
from latent_ingest.connector.indexing import sender
from latent_ingest.connector.indexing.actions import term_strings
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.verify import Verification
from latent_ingest.mappings import MappingConfig

DOCUMENTS = 900
KILLED_DOCUMENTS = 240
TIMEOUT = 0.6


def write_corpus(
    path: Path,
    documents: list[dict[str, str]],
    number: int,
    scenario: Scenario | None = None,
) -> None:
    """Real texts, some of them long; some ids twice, and documents that the engine rejects."""
    rows: list[dict[str, Any]] = [
        {"_id": str(n), "text": documents[n % len(documents)]["text"][:60], "n": n}
        for n in range(number)
    ]
    for n in range(30, number, 80):
        rows[n]["text"] = " ".join(row["text"] for row in documents[n % 7 :: 7])[:2500]
    for n in range(100, number, 100):  # replaces the one before
        rows[n]["_id"] = rows[n - 1]["_id"]
    if scenario is None or scenario.rejected:
        for n in range(50, number, 105):
            rows[n]["n"] = "no number"
    if scenario and not scenario.own_ids:
        for n in range(100, number, 100):
            rows[n] = rows[n - 1]
        rows = [{name: row[name] for name in ("text", "n")} for row in rows]
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_whatever_is_spoilt_the_index_is_the_file(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 3)
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_random(0, 0.02))
    monkeypatch.setattr(client_module, "REQUEST_SECONDS", TIMEOUT)
    write_corpus(Path("c.jsonl"), documents, DOCUMENTS)
    meta = open_index(client, index, encoder, {})
    client.indices.put_mapping(index=index, body={"properties": {"n": {"type": "integer"}}})
    proxy = FaultProxy(opensearch_url, seed, timeout=TIMEOUT)
    with proxy.listening() as url:
        report = Ingest(Connection(url).open(), index, encoder, meta, "c.jsonl").run()
    assert proxy.injected.total() >= 200, proxy.injected
    assert set(proxy.injected) == set(FAULTS)
    assert adds_up(report)
    assert report.stopped is None
    assert (report.lines, report.indexed, report.replaced) == (DOCUMENTS, DOCUMENTS - 17, 8)
    assert (report.failed, report.not_sent) == (9, 0)
    assert_exactly(client, index, Path("c.jsonl"), encoder, report.indexed, report.failed)


def test_a_creation_that_was_carried_out_but_not_answered_is_sent_again(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    meta = create_index(client, index, encoder, MappingConfig())
    assert create_index(client, index, encoder, MappingConfig()) == meta
    with pytest.raises(InputError, match=f"index {index} cannot be created: .* already exists"):
        create_index(client, index, encoder, MappingConfig(scale=2.0))


@dataclass(frozen=True)
class Scenario:
    """A command that is killed again and again."""

    options: tuple[str, ...]
    """The last takes the name of the index, or of the alias."""
    last_kill: str
    """The end of a path that is asked for when all lines are done: the last kill comes after it."""
    kills: int
    corpus: str = "c.jsonl"
    own_ids: bool = True
    rejected: bool = True
    """An alias does not move where documents are."""


SCENARIOS = {
    "ids": Scenario(("--index",), "/_refresh", 7),
    "generated ids": Scenario(
        ("--spelling", "delimited", "--index"), "/_settings", 5, "c.jsonl.gz", own_ids=False
    ),
    "chunks": Scenario(("--long", "chunks", "--index"), "/_segments", 5),
    "alias": Scenario(("--alias",), "/_aliases", 5, rejected=False),
}


@pytest.mark.parametrize(
    "name",
    ["ids", *(pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS if name != "ids")],
)
def test_a_run_killed_again_and_again_resumes_and_ends_with_the_file(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    seed: int,
    name: str,
) -> None:
    """kill -9 from the first line to the last request, while requests are spoilt too."""
    scenario = SCENARIOS[name]
    chance = random.Random(seed)
    path = Path(scenario.corpus)
    write_corpus(path, documents, KILLED_DOCUMENTS, scenario)
    others = 0 if "--alias" in scenario.options else 0.1
    proxy = FaultProxy(opensearch_url, seed, chance=0.2, others=others, timeout=TIMEOUT)
    try:
        with proxy.listening() as url:
            command = [str(path), *scenario.options, index, "--url", url, "--json"]
            for number in range(scenario.kills - 1):
                place = (number + chance.random()) / (scenario.kills - 1)
                kill(command, lines=int(place * (KILLED_DOCUMENTS - 60)), wait=chance.random() / 20)
            kill_at_the_end(command, proxy, scenario.last_kill)
            process = started(command, "out.json", TIMEOUT)
            process.join()
        report = json.loads(Path("out.json").read_text().splitlines()[-1])
        failed = [51, 156] if scenario.rejected else []
        assert process.exitcode == bool(failed), report
        assert report["resumed_after"] == report["lines"] == KILLED_DOCUMENTS
        assert (report["failed"], report["not_sent"], report["replaced"]) == (len(failed), 0, 2)
        assert report["indexed"] == KILLED_DOCUMENTS - len(failed) - 2
        if failed:
            rows = Path(report["failures_file"]).read_text().splitlines()
            assert [json.loads(row)["_failure"]["line"] for row in rows] == failed
        built = report.get("index", index)
        assert_exactly(client, built, path, encoder, report["indexed"], len(failed))
    finally:
        client.indices.delete(index=f"{index}-*")


def kill(command: list[str], lines: int, wait: float) -> None:
    """Kill the command when so many lines are done, and a moment more has passed (seconds)."""
    process = started(command, "out.json", TIMEOUT)
    while lines_done() < lines and process.is_alive():
        time.sleep(0.01)
    time.sleep(wait)
    assert process.is_alive(), Path("out.json").read_text()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def kill_at_the_end(command: list[str], proxy: FaultProxy, last: str) -> None:
    """Kill it after a request that it makes when all lines are done."""

    def see(path: str) -> None:
        if path.endswith(last) and lines_done() == KILLED_DOCUMENTS:
            process.kill()

    proxy.applied = see
    process = started(command, "out.json", TIMEOUT)
    process.join()
    assert process.exitcode == -signal.SIGKILL, Path("out.json").read_text()
    proxy.applied = lambda path: None


class Holding(Spoiling):
    """Answers the first bulk request, and holds the answers of the others until it is let go."""

    bulks: ClassVar[int]
    held: ClassVar[threading.Event]
    let_go: ClassVar[threading.Event]

    def do_POST(self) -> None:
        answer = self.forward(self.rfile.read(int(self.headers.get("content-length") or 0)))
        if "_bulk" in self.path:
            type(self).bulks += 1
            if self.bulks > 1:
                self.held.set()
                self.let_go.wait(60)
        self.give(*answer)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST


def test_a_second_ctrl_c_waits_for_nothing_and_the_run_can_be_resumed(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"bulks": 0, "held": threading.Event(), "let_go": threading.Event()}.items():
        monkeypatch.setattr(Holding, name, value, raising=False)
    write_corpus(Path("c.jsonl"), documents, 60)
    command = ["c.jsonl", "--index", index, "--concurrency", "1", "--json"]
    with FaultProxy(opensearch_url, seed=1).listening(Holding) as url:
        process = started([*command, "--url", url], "out.json", timeout=60)
        assert process.pid is not None
        assert Holding.held.wait(60), Path("out.json").read_text()
        os.kill(process.pid, signal.SIGINT)
        while "Ctrl-C again exits at once" not in Path("out.json").read_text():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        process.join(10)
        assert process.exitcode == 130
        Holding.let_go.set()
    assert "Interrupted." in Path("out.json").read_text()
    process = started([*command, "--url", opensearch_url], "out.json", timeout=60)
    process.join()
    report = json.loads(Path("out.json").read_text().splitlines()[-1])
    assert (report["resumed_after"], report["lines"], report["failed"]) == (8, 60, 1)
    assert_exactly(client, index, Path("c.jsonl"), encoder, 59, 1)


@pytest.mark.slow
def test_a_node_that_is_killed_and_started_again_is_waited_for(
    tmp_path: Path,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 10)
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_random(0, 1))
    write_corpus(Path("c.jsonl"), documents, DOCUMENTS)
    engine = LocalEngine("opensearch", tmp_path / "node")
    port = free_port()
    state = engine.up(port=port, heap="512m", bound_to_us=True)
    client = Connection(state.url).open()
    meta = open_index(client, "killed", encoder, {})
    killed = threading.Event()

    def kill(report: IngestReport, _position: int) -> None:
        if report.lines > DOCUMENTS // 4 and not killed.is_set():
            killed.set()
            os.kill(state.pid, signal.SIGKILL)
            os.waitpid(state.pid, 0)
            threading.Thread(target=engine.up, kwargs={"port": port, "heap": "512m"}).start()

    report = Ingest(client, "killed", encoder, meta, "c.jsonl").run(kill)
    assert killed.is_set()
    assert "trying again for up to 10 min" in caplog.text
    assert adds_up(report)
    assert (report.stopped, report.indexed, report.failed) == (None, DOCUMENTS - 17, 9)
    assert_exactly(client, "killed", Path("c.jsonl"), encoder, report.indexed, report.failed)
    engine.down()


def lines_done() -> int:
    with closing(Journal(Path(os.environ["LATENT_INGEST_JOURNAL"]))) as journal:
        return sum(record.progress.lines for record in journal.runs())


def assert_exactly(
    client: OpenSearch, index: str, corpus: Path, encoder: LatentEncoder, number: int, rejected: int
) -> None:
    """The index holds so many documents, all of the file but those that it rejected.

    Their latent terms are those of their texts: a sample is encoded again, in another order.
    """
    meta = IndexMeta.read(client, index)
    assert meta is not None
    verified = Verification(Index(client, index), corpus).run()
    assert (verified.same, verified.missing.count) == (number, rejected)
    assert (verified.different.count, verified.extra.count, verified.stale.count) == (0, 0, 0)
    in_chunks = meta.long == "chunks"
    body = {"size": 10_000, "query": {"term": {"chunk": 0}} if in_chunks else {"match_all": {}}}
    hits = client.search(index=index, body=body)["hits"]["hits"]
    assert len({hit["_id"] for hit in hits}) == len(hits) == number
    texts = {}
    with CorpusFile(corpus) as file:
        for line in file:
            document = parse_line(line)
            assert isinstance(document, Document)
            texts[document.id] = document.text
    sample = random.Random(number).sample(hits, 25)
    wanted = [texts[hit["_source"].get("parent_id", hit["_id"])] for hit in sample]
    if in_chunks:
        chunks = encoder.encode_chunks(wanted)
        first = [chunks.texts.tolist().index(row) for row in range(len(wanted))]
        strings = [term_strings(chunks.vectors, meta)[row] for row in first]
    else:
        strings = term_strings(encoder.encode(wanted, long=meta.long), meta)
    for hit, string in zip(sample, strings, strict=True):
        found, expected = counts(hit["_source"]["latent"]), counts(string)
        # Rounding differs by what else is in a batch.
        assert (found & expected).total() > 0.97 * max(found.total(), expected.total()), hit


def counts(string: str) -> Counter[str]:
    """How often each term is there, in either spelling."""
    found: Counter[str] = Counter()
    for term in string.split():
        name, _, count = term.partition("|")
        found[name] += int(count or 1)
    return found
