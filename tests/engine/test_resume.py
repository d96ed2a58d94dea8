"""A run that is cut, by whatever, is gone on with: the index is the file, and nothing is twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from failing import Failing
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing import batches
from latent_ingest.connector.indexing.index import index_uuid, open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.journal import Journal, RunKey
from latent_ingest.connector.indexing.report import IngestReport
from latent_ingest.connector.indexing.sending import Sender

# The command, in batches so small that it can be cut between them.
START = """
from latent_ingest.connector.indexing import batches
batches.MAX_BATCH_LINES = 8
from latent_ingest.cli.main import cli
cli()
"""

KILLS = 4


Start = Callable[..., Ingest]


@pytest.fixture
def start(
    client: OpenSearch, index: str, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> Start:
    """A job on c.jsonl that notes what it does; one that was cut before goes on."""
    monkeypatch.setattr(batches, "MAX_BATCH_LINES", 4)

    def make(on: OpenSearch = client, **options: Any) -> Ingest:
        meta = open_index(client, index, encoder, {})
        journal = Journal(Path("journal.sqlite"))
        run = journal.open(RunKey(str(Path("c.jsonl").resolve()), index, index_uuid(client, index)))
        return Ingest(on, index, encoder, meta, "c.jsonl", run=run, concurrency=1, **options)

    return make


def ended(job: Ingest) -> IngestReport:
    """Run it to its end."""
    report = job.run()
    assert job._run is not None
    job._run.close()
    return report


def cut(start: Start, client: OpenSearch, after: int) -> IngestReport:
    """Run it until so many requests are answered, each a batch of four lines."""
    forbidden = TransportError(403, "forbidden", {})
    failing = Failing(client, lambda call, body: forbidden if call > after else None)
    report = ended(start(failing))
    assert "forbids this" in (report.stopped or "")
    return report


def write(rows: list[dict[str, Any] | str]) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    Path("c.jsonl").write_text("".join(line + "\n" for line in lines))


def rows_of(client: OpenSearch, index: str) -> dict[str, str]:
    """Texts by id, of everything in the index."""
    client.indices.refresh(index=index)
    hits = client.search(index=index, body={"size": 10_000, "query": {"match_all": {}}})["hits"]
    assert hits["total"]["value"] == len(hits["hits"])
    return {hit["_id"]: hit["_source"]["text"] for hit in hits["hits"]}


def counts(report: IngestReport) -> tuple[int, ...]:
    return report.lines, report.indexed, report.replaced, report.failed, report.blank


MIXED: list[dict[str, Any] | str] = [
    {"_id": "a", "text": "bees"},
    "no json",
    "",
    {"_id": "b", "text": "honey", "n": 1},
    {"_id": "a", "text": "wasps"},
    {"_id": "c", "text": "rejected", "n": "no number"},
    {"_id": "d", "text": "ants"},
    {"_id": "e", "text": "moths"},
    {"_id": "c", "text": "mended", "n": 2},
    "[]",
    {"_id": "b", "text": "nectar", "n": 3},
    {"_id": "f", "text": "flies"},
    {"_id": "g", "text": "gnats"},
]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_that_was_cut_ends_as_one_that_was_not(
    start: Start, client: OpenSearch, index: str, after: int
) -> None:
    write(MIXED)
    cut(start, client, after)
    report = ended(start())
    assert report.resumed_after == 4 * after
    assert counts(report) == (13, 7, 2, 3, 1)
    assert rows_of(client, index) == {
        "a": "wasps", "b": "nectar", "c": "mended", "d": "ants", "e": "moths", "f": "flies",
        "g": "gnats",
    }  # fmt: skip
    assert report.failures_file is not None
    failed = [json.loads(row) for row in Path(report.failures_file).read_text().splitlines()]
    assert [row["_failure"]["line"] for row in failed] == [2, 6, 10]


def test_what_was_done_is_not_encoded_or_sent_again(
    start: Start, client: OpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    write([{"_id": str(n), "text": f"text number {n}"} for n in range(12)])
    cut(start, client, after=2)
    sent: list[str] = []
    real = Sender.submit

    def note(self: Sender, request: Any) -> Any:
        sent.extend(action.document.id for action in request)
        return real(self, request)

    monkeypatch.setattr(Sender, "submit", note)
    assert ended(start()).indexed == 12
    assert sent == ["8", "9", "10", "11"]


@pytest.mark.parametrize("change", ["line", "shrunk"])
def test_a_file_that_changed_where_it_was_done_is_refused(
    start: Start, client: OpenSearch, change: str
) -> None:
    rows: list[dict[str, Any] | str] = [{"_id": str(n), "text": f"text {n}"} for n in range(12)]
    write(rows)
    cut(start, client, after=2)
    write([{"_id": "other", "text": "x"}, *rows[1:]] if change == "line" else rows[:3])
    with pytest.raises(InputError, match=r"first 8 lines are not those .* with --restart"):
        start().run()


def test_an_index_that_was_made_again_is_filled_from_the_beginning(
    start: Start, client: OpenSearch, index: str
) -> None:
    write([{"_id": str(n), "text": f"text {n}"} for n in range(12)])
    cut(start, client, after=2)
    client.indices.delete(index=index)
    report = ended(start())
    assert report.resumed_after == 0
    assert len(rows_of(client, index)) == 12


def test_killed_again_and_again_it_loses_and_doubles_nothing(
    client: OpenSearch,
    index: str,
    opensearch_url: str,
    documents: list[dict[str, str]],
    request: pytest.FixtureRequest,
) -> None:
    """kill -9 at moments that a seed chooses."""
    seed = random.randrange(10**6)
    request.node.add_report_section("call", "seed", str(seed))
    chance = random.Random(seed)
    rows: list[dict[str, Any] | str] = [
        {"_id": f"{round_}-{document['_id']}", "text": document["text"]}
        for round_ in range(6)
        for document in documents
    ]
    rows[30], rows[400] = "broken", "broken too"
    write(rows)
    command = [sys.executable, "-c", START, "c.jsonl", "--index", index, "--json"]
    environment = {**os.environ, "OPENSEARCH_URL": opensearch_url}
    for _ in range(KILLS):
        before = lines_done()
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while lines_done() <= before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, f"it ended before; seed {seed}"
    last = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    assert last.returncode == 1
    report = json.loads(last.stdout)
    assert report["resumed_after"] > 0
    assert (report["lines"], report["indexed"], report["failed"]) == (540, 538, 2)
    wanted = {row["_id"]: row["text"] for row in rows if isinstance(row, dict)}
    assert rows_of(client, index) == wanted
    failed = Path(report["failures_file"]).read_text().splitlines()
    assert [json.loads(row)["_failure"]["line"] for row in failed] == [31, 401]


def lines_done() -> int:
    with closing(Journal(Path(os.environ["LATENT_INGEST_JOURNAL"]))) as journal:
        return sum(record.progress.lines for record in journal.runs())
