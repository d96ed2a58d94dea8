"""A run that is interrupted, by whatever, resumes: the index equals the file, nothing is twice."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from failing import Failing
from lines import logged
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing import batches
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.journal_records import RunKey
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.sender import Sender

Start = Callable[..., Ingest]


@pytest.fixture
def start(
    client: OpenSearch, index: str, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> Start:
    """A run over c.jsonl with a journal; it resumes if it was interrupted before."""
    monkeypatch.setattr(batches, "MAX_BATCH_LINES", 4)

    def make(on: OpenSearch = client, corpus: str = "c.jsonl", **options: Any) -> Ingest:
        content = Path("c.jsonl").read_bytes()
        if corpus == "c.jsonl.gz":
            Path(corpus).write_bytes(gzip.compress(content))
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        meta = open_index(client, index, encoder, {})
        journal = Journal(Path("journal.sqlite"))
        run = journal.open(RunKey(corpus, index, Index(client, index).uuid()))
        return Ingest(on, index, encoder, meta, corpus, run=run, concurrency=1, **options)

    return make


def ended(job: Ingest) -> IngestReport:
    """Run it to its end."""
    report = job.run()
    assert job._run is not None
    job._run.close()
    return report


def cut(
    start: Start, client: OpenSearch, after: int, *, kind: type[Failing] = Failing, **options: Any
) -> IngestReport:
    """Run it until so many requests are answered, each a batch of four lines."""
    forbidden = TransportError(403, "forbidden", {})
    failing = kind(client, lambda call, body: forbidden if call > after else None)
    report = ended(start(failing, **options))
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


@pytest.mark.parametrize(
    ("after", "corpus"),
    [(1, "c.jsonl"), (2, "c.jsonl"), (3, "c.jsonl"), (2, "c.jsonl.gz"), (2, "-")],
)
def test_an_interrupted_run_ends_as_one_that_was_not(
    start: Start, client: OpenSearch, index: str, after: int, corpus: str
) -> None:
    """Files are opened, and standard input is given, from the beginning."""
    write(MIXED)
    cut(start, client, after, corpus=corpus)
    report = ended(start(corpus=corpus))
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


class AppliedAll(Failing):
    """Its requests fail after the engine has taken them, as when a run is killed meanwhile."""

    def bulk(self, body: bytes, **options: Any) -> Any:
        self._client.bulk(body=body, **options)
        return super().bulk(body, **options)


def test_lines_that_were_edited_meanwhile_replace_what_was_under_way(
    start: Start, client: OpenSearch, index: str
) -> None:
    """Their lines have moved, some before those that the engine took before the interruption."""
    rows: list[dict[str, Any] | str] = [{"_id": str(n), "text": f"text {n}"} for n in range(12)]
    write(rows)
    cut(start, client, after=1, kind=AppliedAll)
    assert rows_of(client, index)["7"] == "text 7"
    edited = [{"_id": name, "text": f"edited {at}"} for at, name in enumerate("76705")]
    write([*rows[:4], *edited])
    report = ended(start())
    assert counts(report) == (9, 7, 2, 0, 0)
    texts = rows_of(client, index)
    assert [texts[name] for name in "0123"] == ["edited 3", "text 1", "text 2", "text 3"]
    assert [texts[name] for name in "765"] == ["edited 2", "edited 1", "edited 4"]


def test_ctrl_c_while_it_goes_past_what_is_done_changes_nothing(
    start: Start, client: OpenSearch, index: str
) -> None:
    write([{"_id": str(n), "text": f"text {n}"} for n in range(12)])
    before = cut(start, client, after=2)
    job = start()
    job.stop()
    report = ended(job)
    assert report.stopped == "interrupted"
    assert job._file.lines_read < 8 == report.lines == report.resumed_after
    assert report.indexed == before.indexed == len(rows_of(client, index))
    assert ended(start()).indexed == 12


def test_a_failures_file_that_was_corrected_meanwhile_is_left_alone(
    start: Start, client: OpenSearch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "latent_ingest")
    write(MIXED)
    cut(start, client, after=1)
    corrected = '{"_id": "x", "text": "of line 2"}\n'
    Path("c.failed.jsonl").write_text(corrected)
    caplog.clear()
    report = ended(start())
    assert logged(caplog)[0] == "c.jsonl: resuming after line 4"
    assert "c.failed.jsonl has been changed" in logged(caplog)[1]
    assert report.failed == 3
    assert report.failures_file == "c.failed-2.jsonl"
    failed = [json.loads(row) for row in Path("c.failed-2.jsonl").read_text().splitlines()]
    assert [row["_failure"]["line"] for row in failed] == [6, 10]
    assert Path("c.failed.jsonl").read_text() == corrected


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
