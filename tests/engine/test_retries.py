"""An engine that is busy, blocked or away: waited for, given up on, and nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tenacity
from click.testing import CliRunner
from failing import Failing
from faults import FaultProxy, Spoiling
from lines import adds_up, failures, line, logged
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import SerializationError, TransportError

from latent_ingest.cli.main import cli
from latent_ingest.connector.document import Document
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing import sender
from latent_ingest.connector.indexing.actions import IndexAction, index_action
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.sender import Sender


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_fixed(0.01))


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(
    "error",
    [TransportError(status, "busy", {}) for status in (429, 502, 503, 504)]
    + [NoConnection("N/A", "reset", OSError("reset")), SerializationError("half an answer")],
    ids=["429", "502", "503", "504", "connection", "half"],
)
def test_failures_that_pass_are_tried_again(
    client: OpenSearch, index: str, load: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(client, lambda call, body: error if call < 10 else None)
    report = load(failing, index, [line("a"), line("b")])
    assert failing.calls == 10
    assert report.ok
    assert report.indexed == client.count(index=index)["count"] == 2
    said = logged(caplog)
    assert [row for row in said if "trying again for up to 10 min" in row] == said != []


@pytest.mark.usefixtures("no_waits")
def test_an_engine_that_stays_away_ends_the_run_and_loses_nothing(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 2)
    gone = NoConnection("N/A", "refused", OSError("refused"))
    failing = Failing(client, lambda call, body: gone if call > 1 else None)
    rows = [line(name) for name in "abcdef"]
    report = load(failing, index, rows, concurrency=1, give_up_after=0.2)
    assert failing.calls > 3
    assert adds_up(report)
    assert (report.indexed, report.not_sent, report.lines) == (2, 2, 4)
    assert "nothing answers at" in report.stopped
    assert "gave up after 0.2 s" in report.stopped
    assert report.failures_file is None  # nothing is wrong with these documents
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    assert "refresh_interval" not in settings


def turning_away(monkeypatch: pytest.MonkeyPatch, times: int) -> list[list[str]]:
    """429 for document b, within an answer of status 200, as a full write queue gives."""
    sent: list[list[str]] = []
    real = OpenSearch.bulk

    def turn_away_b(self: OpenSearch, body: bytes, **options: Any) -> Any:
        ids = [json.loads(row)["index"]["_id"] for row in body.splitlines()[::2]]
        sent.append(ids)
        answer = real(self, body=body, **options)
        if len(sent) <= times and "b" in ids:
            busy = {"status": 429, "error": {"type": "busy"}}
            answer["items"][ids.index("b")]["index"] = busy
        return answer

    monkeypatch.setattr(OpenSearch, "bulk", turn_away_b)
    return sent


@pytest.mark.usefixtures("no_waits")
def test_one_document_turned_away_for_now_is_sent_again_alone(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = turning_away(monkeypatch, times=2)
    report = load(client, index, [line("a"), line("b"), line("c")])
    assert sent == [["a", "b", "c"], ["b"], ["b"]]
    assert report.ok
    assert (report.indexed, report.replaced) == (3, 0)


@pytest.mark.usefixtures("no_waits")
def test_a_document_that_stays_turned_away_ends_the_run(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        sent = turning_away(patch, times=10**6)
        report = load(client, index, [line("a"), line("b")], give_up_after=0.2)
    assert len(sent) > 3
    assert adds_up(report)
    assert (report.indexed, report.not_sent, report.failed) == (1, 1, 0)
    assert "refuses documents for now (429: busy); gave up after 0.2 s" in report.stopped


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("of", ["a request", "a document"])
def test_an_engine_that_is_too_busy_gets_half_the_requests_at_once(
    client: OpenSearch,
    index: str,
    load: Any,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
    of: str,
) -> None:
    load(client, index, [])
    busy = TransportError(429, "busy", {})
    failing = Failing(client, lambda call, body: busy if of == "a request" and call == 1 else None)
    turning_away(monkeypatch, times=1 if of == "a document" else 0)
    meta = open_index(client, index, encoder, {})
    sender = Sender[IndexAction](failing, {"index": index}, Retry(client), concurrency=8)  # type: ignore[arg-type]
    document = Document(1, "b", False, "", {})
    (outcome,) = sender.submit([index_action(document, 1, meta, "f1")]).result()
    sender.close()
    assert outcome.reason is None
    assert 4 < sender.concurrency.limit < 5  # half of it, and a step back up


@pytest.mark.usefixtures("no_waits")
def test_a_wait_is_as_long_as_the_engine_asks(client: OpenSearch, index: str, load: Any) -> None:
    busy = TransportError(429, "busy", {})
    busy.retry_after = 0.5  # type: ignore[attr-defined]
    failing = Failing(client, lambda call, body: busy if call == 1 else None)
    started = time.monotonic()
    assert load(failing, index, [line("a")]).ok
    assert time.monotonic() - started > 0.5


@pytest.mark.usefixtures("no_waits")
def test_of_two_documents_with_one_id_the_later_wins_in_spite_of_retries(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is turned away again and again, and the second has to wait for it."""
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 1)
    sent = turning_away(monkeypatch, times=6)
    report = load(client, index, [line("b"), line("c"), line("b", "later"), line("d")])
    assert sent.count(["b"]) > 2
    assert (report.indexed, report.replaced) == (3, 1)
    assert client.get(index=index, id="b")["_source"]["text"] == "later"


@pytest.fixture
def mending() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Something an operator does a moment from now."""
    timers: list[threading.Timer] = []

    def soon(mend: Callable[[], Any]) -> None:
        timers.append(threading.Timer(1.5, mend))
        timers[-1].start()

    yield soon
    for timer in timers:
        timer.join()


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("trouble", ["closed", "flood", "block"])
def test_an_index_that_takes_no_writes_for_now_is_waited_for(
    client: OpenSearch,
    index: str,
    load: Any,
    mending: Any,
    trouble: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    load(client, index, [line("a")])
    block = {
        "flood": "index.blocks.read_only_allow_delete",
        "block": "index.blocks.write",
        "closed": None,
    }[trouble]

    def break_it(call: int, _body: bytes) -> None:
        if call > 1:
            return
        if block is None:
            client.indices.close(index=index)
            mending(lambda: client.indices.open(index=index))
        else:
            client.indices.put_settings(index=index, body={block: True})
            mending(lambda: client.indices.put_settings(index=index, body={block: None}))

    failing = Failing(client, break_it)
    report = load(failing, index, [line("b"), line("c")])
    assert failing.calls > 2
    assert report.ok
    assert "trying again for up to" in caplog.text
    assert ("closed" if trouble == "closed" else "blocked by") in caplog.text
    assert client.count(index=index)["count"] == 3


def test_an_index_deleted_under_our_feet_ends_the_run_and_is_not_made_again(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 2)

    def delete(call: int, _body: bytes) -> None:
        if call == 2:
            client.indices.delete(index=index)

    rows = [line(name) for name in "abcdef"]
    report = load(Failing(client, delete), index, rows, concurrency=1)
    assert "the index was deleted while it was being loaded" in report.stopped
    assert (report.indexed, report.not_sent) == (2, 2)
    assert adds_up(report)
    assert not client.indices.exists(index=index)


def test_no_alias_is_left_behind(client: OpenSearch, index: str, load: Any) -> None:
    guarded: list[list[str]] = []

    def look(_call: int, _body: bytes) -> None:
        guarded.append(list(client.indices.get_alias(index=index)[index]["aliases"]))

    load(Failing(client, look), index, [line("a")])
    assert [name.startswith(f"{index}.loading-") for (name,) in guarded] == [True]
    assert client.indices.get_alias(index=index)[index]["aliases"] == {}


def test_a_request_too_large_is_halved_until_it_fits(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no request of several documents is as large again as one that was refused."""
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 8)
    refused: list[int] = []

    def too_large(_call: int, body: bytes) -> Exception | None:
        assert body.count(b"\n") == 2 or len(body) < min(refused, default=10**9)
        if len(body) <= 1500:
            return None
        refused.append(len(body))
        return TransportError(413, "too large", {})

    rows = [line(str(number)) for number in range(40)]
    rows[20] = line("big", "word " * 400)
    report = load(Failing(client, too_large), index, rows, concurrency=1)
    assert adds_up(report)
    assert refused
    assert (report.indexed, report.failed) == (39, 1)
    (failure,) = failures(report)
    assert failure["_id"] == "big"
    assert "too large for the engine" in failure["_failure"]["reason"]


class BusyOnce(Spoiling):
    """Does what it is asked, but answers 503 the first time; bulk requests pass."""

    asked: ClassVar[set[tuple[str, str]]]
    begun: ClassVar[bool]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        answer = self.forward(body)
        kind = (self.command, self.path.split("?")[0])
        if "_bulk" in self.path:
            type(self).begun = True
        elif self.begun and kind not in self.asked and self.path != "/":
            self.asked.add(kind)
            answer = 503, b"busy", "text/plain"
        self.give(*answer)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(
    ("options", "begun", "spoilt"),
    [
        (["--ids", "engine", "--index"], True, {"/_mapping", "/_settings", "/_refresh", "/_count"}),
        (["--alias"], False, {"/_aliases", "/_refresh", "/_count"}),
    ],
    ids=["beginning", "end"],
)
def test_every_request_of_a_run_is_tried_again(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    begun: bool,
    spoilt: set[str],
) -> None:
    """From the making of the index to the move of the alias."""
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda *_: encoder)
    monkeypatch.setattr(BusyOnce, "asked", set(), raising=False)
    monkeypatch.setattr(BusyOnce, "begun", begun, raising=False)
    Path("c.jsonl").write_text(line("a") + "\n" + line("b"))
    try:
        with FaultProxy(opensearch_url, seed=1).listening(BusyOnce) as url:
            done = CliRunner().invoke(cli, ["c.jsonl", *options, index, "--url", url, "--json"])
        assert done.exit_code == 0, done.output
        assert spoilt <= {f"/{path.split('/')[-1]}" for _, path in BusyOnce.asked}
        client.indices.refresh(index=index)
        assert client.count(index=index)["count"] == 2
    finally:
        client.indices.delete(index=f"{index}-*")


def test_a_refusal_is_not_tried_again(client: OpenSearch, index: str, load: Any) -> None:
    failing = Failing(client, lambda call, body: TransportError(403, "forbidden", {}))
    report = load(failing, index, [line("a")])
    assert failing.calls == 1
    assert "forbids this" in (report.stopped or "")
    assert (report.not_sent, report.lines) == (1, 1)


def test_stop_ends_after_the_request_in_flight(
    client: OpenSearch, index: str, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 3)
    Path("c.jsonl").write_text("".join(line(str(n)) + "\n" for n in range(60)))
    meta = open_index(client, index, encoder, {})
    job = Ingest(client, index, encoder, meta, "c.jsonl")
    report = job.run(lambda report, position: job.stop())
    assert report.stopped == "interrupted"
    assert adds_up(report)
    assert 3 <= report.indexed == report.lines == client.count(index=index)["count"] < 60


def test_a_document_of_a_higher_version_fails_and_is_left_alone(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    """An application that numbers its documents itself, higher than runs are."""
    open_index(client, index, encoder, {})
    versions = {"version": 2**60, "version_type": "external"}
    client.index(index=index, id="a", body={"text": "theirs"}, params=versions)
    report = load(client, index, [line("a", "ours"), line("b")])
    assert (report.indexed, report.failed) == (1, 1)
    assert "version conflict, current version" in failures(report)[0]["_failure"]["reason"]
    assert client.get(index=index, id="a")["_source"] == {"text": "theirs"}


def test_what_an_application_changed_since_is_not_undone_by_a_request_sent_twice(
    client: OpenSearch, index: str, load: Any
) -> None:
    class Losing(Failing):
        def bulk(self, body: bytes, **options: Any) -> Any:
            answer = super().bulk(body, **options)
            if self.calls == 1:  # the answer is lost, and somebody is faster than we
                client.update(index=index, id="a", body={"doc": {"year": 1}})
                raise NoConnection("N/A", "reset", OSError("reset"))
            return answer

    report = load(Losing(client, lambda call, body: None), index, [line("a"), line("b")])
    assert report.ok
    assert report.indexed == 2
    assert client.get(index=index, id="a")["_source"]["year"] == 1
