"""enrich: changes meanwhile, failures and interruptions lose no document."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity
from enriched import FIELDS, Run, counts
from faults import FaultProxy
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import TransportError
from shop import all_done, make, sources

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import client as client_module
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index import reading
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.indexing import enrich, outcomes, sender
from latent_ingest.connector.indexing.actions import term_strings
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.outcomes import EnrichReport


class Between:
    """A client that lets something happen before its bulk requests, on an engine that is real."""

    def __init__(self, client: OpenSearch, happen: Callable[[int], None]) -> None:
        self._client = client
        self._happen = happen
        self._one_at_a_time = threading.Lock()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def bulk(self, **options: Any) -> Any:
        with self._one_at_a_time:
            self.calls += 1
            self._happen(self.calls)
        return self._client.bulk(**options)


@pytest.mark.usefixtures("small")
def test_a_change_between_reading_and_writing_is_not_overwritten(
    run: Run, client: OpenSearch, index: str, rows: list[dict[str, Any]], encoder: LatentEncoder
) -> None:
    """By others: to one document again and again, to another once; and one is deleted."""
    busy, once, gone = (row["_id"] for row in rows[:3])

    def others(call: int) -> None:
        if call == 1:
            client.update(index=index, id=once, body={"doc": {"body": "changed once"}})
            client.delete(index=index, id=gone)
        if call <= 18:
            client.update(index=index, id=busy, body={"doc": {"body": f"change {call}"}})

    between = Between(client, others)
    report = run(on=between)
    assert between.calls > 18
    assert report.ok
    assert report.read == 32
    assert report.encoded == 31
    assert report.deleted == 1
    assert report.conflicts >= 3
    after = sources(client, index)
    assert after[once]["body"] == "changed once"
    assert after[busy]["body"] == "change 18"
    assert gone not in after
    assert all_done(client, index, encoder)
    assert counts(run()) == (31, 31, 0, 0, 0)


@pytest.mark.usefixtures("small")
def test_a_document_that_never_rests_fails_in_the_end(
    run: Run, client: OpenSearch, index: str, rows: list[dict[str, Any]]
) -> None:
    busy = rows[0]["_id"]

    def other(call: int) -> None:
        client.update(index=index, id=busy, body={"doc": {"body": f"change {call}"}})

    report = run(on=Between(client, other))
    assert counts(report) == (32, 0, 31, 1, 0)
    assert not report.ok
    assert report.failures_file == f"{index}.failed.jsonl"
    (failure,) = map(json.loads, Path(report.failures_file).read_text().splitlines())
    assert failure["_id"] == busy
    assert "changed 10 times while it was encoded" in failure["_failure"]["reason"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("cut", ["stop", "gone", "crash"])
def test_an_interrupted_run_resumes(
    run: Run, client: OpenSearch, index: str, encoder: LatentEncoder, cut: str
) -> None:
    stopped = threading.Event()

    def break_off(call: int) -> None:
        if call > 4 and cut == "gone":
            raise NoConnection("N/A", "refused", OSError("refused"))
        if call > 4 and cut == "crash":
            raise KeyboardInterrupt
        if call > 3 and cut == "stop":
            stopped.wait(30)

    def stop(job: Enrich) -> None:
        if job.report.encoded >= 6 and cut == "stop":
            job.stop()
            stopped.set()

    if cut == "crash":
        with pytest.raises(KeyboardInterrupt):
            run(on=Between(client, break_off))
    else:
        report = run(on=Between(client, break_off), on_progress=stop)
        assert not report.ok
        counts(report)
        message = "interrupted" if cut == "stop" else "nothing answers at"
        assert message in (report.stopped or "")
    done = sum("latent" in source for source in sources(client, index).values())
    assert 0 < done < 32
    assert counts(run()) == (32, done, 32 - done, 0, 0)
    assert all_done(client, index, encoder)


@pytest.mark.usefixtures("small")
def test_failures_that_pass_are_tried_again(
    run: Run, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """Also an answer that is lost after the engine did what it was asked."""

    refused: list[int] = []

    class Losing(Between):
        def bulk(self, **options: Any) -> Any:
            if options["body"].count(b"\n") > 4:
                refused.append(len(options["body"]))
                raise TransportError(413, "too large", {})
            answer = super().bulk(**options)
            if self.calls % 3 == 0:
                raise NoConnection("N/A", "reset", OSError("reset"))
            return answer

    def busy(call: int) -> None:
        if call % 5 == 0:
            raise TransportError(429, "busy", {})

    report = run(on=Losing(client, busy), concurrency=1)
    assert report.ok
    assert counts(report) == (32, 0, 32, 0, 0)
    assert report.conflicts > 0
    assert all_done(client, index, encoder)
    assert sorted(set(refused), reverse=True) == refused != [], "what is too large is remembered"
    assert client.indices.get_alias(index=index)[index]["aliases"] == {}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("status", [401, 403])
def test_a_document_that_is_forbidden_ends_the_run(
    run: Run, client: OpenSearch, status: int
) -> None:
    """And is not one of those that fail; what the engine took of the same request counts."""

    class Forbidding(Between):
        def bulk(self, **options: Any) -> Any:
            answer = super().bulk(**options)
            if self.calls == 2:
                error = {"type": "security_exception", "reason": "no permissions"}
                answer["items"][1]["update"] = {"status": status, "error": error}
            return answer

    report = run(on=Forbidding(client, lambda call: None), concurrency=1)
    assert "forbids this (no permissions); ask for the rights" in (report.stopped or "")
    assert (report.encoded, report.failed) == (5, 0)
    counts(report)


@pytest.mark.slow
def test_whatever_is_spoilt_and_changed_meanwhile_each_document_has_the_latents_of_its_text(
    run: Run,
    client: OpenSearch,
    opensearch_url: str,
    new_index: Any,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An application updates, replaces, adds and deletes documents all along."""
    for module, name, value in (
        (reading, "PAGE", 10), (enrich, "PAGE", 10), (enrich, "MAX_BATCH_DOCUMENTS", 20),
        (sender, "MAX_DOCUMENTS", 4), (retry, "WAIT", tenacity.wait_random(0, 0.02)),
        (client_module, "REQUEST_SECONDS", 0.6),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    texts = {str(n): documents[n % len(documents)]["text"][:60] for n in range(60)}
    index = new_index()
    make(client, index, [{"_id": name, "title": "", "body": text} for name, text in texts.items()])
    preparation = plan(ExistingIndex.read(client, index), encoder, FIELDS)
    prepare(preparation, Retry(client))
    chance = random.Random(seed)

    def application(_: EnrichReport) -> None:
        name, text = chance.choice([*texts]), f"{chance.random()} bees"
        what = chance.choice(["update", "replace", "add", "delete"])
        if what == "delete":
            client.delete(index=index, id=name)
            del texts[name]
            return
        name = f"new {text}" if what == "add" else name
        if what == "update":
            doc = {"doc": {"body": text}}
            client.update(index=index, id=name, body=doc, params={"retry_on_conflict": 9})
        else:
            client.index(index=index, id=name, body={"title": "", "body": text})
        texts[name] = text

    proxy = FaultProxy(opensearch_url, seed, others=0.2, timeout=0.6)
    with proxy.listening() as url:
        job = Enrich(Connection(url).open(), preparation, encoder, give_up_after=60)
        report = job.run(application)
    assert report.ok, report
    assert report.conflicts > 0
    assert proxy.injected.total() >= 10, proxy.injected
    run(index)  # what was added, or changed after it was encoded
    after = sources(client, index)
    assert {name: source["body"] for name, source in after.items()} == texts
    names = list(after)
    vectors = encoder.encode([after[name]["body"] for name in names])
    meta = IndexMeta.read(client, index)
    assert meta is not None
    for name, string in zip(names, term_strings(vectors, meta), strict=True):
        assert after[name]["latent_hash"] == text_hash(texts[name])
        # Batches of other texts differ in the last bit, which moves a count at the edge.
        found, expected = {*after[name]["latent"].split()}, {*string.split()}
        assert len(found ^ expected) <= 0.02 * len(expected), name


@pytest.mark.usefixtures("small")
def test_too_many_failures_end_the_run_early(
    run: Run, client: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "MAX_FAILED", 2)
    counted = threading.Event()

    class Spoiling(Between):
        def bulk(self, **options: Any) -> Any:
            if self.calls:  # an object where the engine wants text
                options["body"] = options["body"].replace(b'"latent": "', b'"latent": {}, "_": "')
            return super().bulk(**options)

    def third_is_in_flight(call: int) -> None:
        assert call < 3 or counted.wait(30)

    def stopped(job: Enrich) -> None:
        if job.report.stopped:
            counted.set()

    between = Spoiling(client, third_is_in_flight)
    report = run(on=between, concurrency=1, on_progress=stopped)
    counts(report)
    assert report.encoded == 3
    assert between.calls <= 3, "a request in flight ends, no other is sent"
    assert 3 <= report.failed <= 6
    assert len(Path(f"{index}.failed.jsonl").read_text().splitlines()) == report.failed
    assert "3 documents failed, more than 2" in (report.stopped or "")


@pytest.mark.usefixtures("small")
def test_an_engine_that_forgets_where_we_are_ends_the_run(
    run: Run, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    points: list[str] = []
    searches: list[int] = []

    class Forgetting(Between):
        def create_pit(self, **options: Any) -> Any:
            answer = self._client.create_pit(**options)
            points.append(answer["pit_id"])
            return answer

        def search(self, **options: Any) -> Any:
            self._happen(0)
            return self._client.search(**options)

    def forget(_call: int) -> None:
        searches.append(1)
        if len(searches) >= 4:  # two shards are read at the same time
            client.delete_pit(body={"pit_id": points})

    report = run(on=Forgetting(client, forget))
    assert f"has lost the reading position in index {index}" in (report.stopped or "")
    assert not report.ok
    assert run().ok
    assert all_done(client, index, encoder)


@pytest.mark.usefixtures("small")
def test_an_index_deleted_under_our_feet_ends_the_run(
    run: Run, client: OpenSearch, index: str
) -> None:
    def delete(call: int) -> None:
        if call == 2:
            client.indices.delete(index=index)

    report = run(on=Between(client, delete), concurrency=1)
    assert not report.ok
    assert "the index was deleted" in (report.stopped or "")
    assert (report.encoded, report.failed, report.deleted) == (3, 0, 0)
    assert not client.indices.exists(index=index), "the engine makes it again of what is sent"


@pytest.mark.usefixtures("small")
def test_an_index_deleted_after_the_last_update_is_no_success(
    run: Run, client: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_all = Enrich._update_all

    def then_delete(job: Enrich, target: Any) -> None:
        update_all(job, target)
        client.indices.delete(index=index)

    monkeypatch.setattr(Enrich, "_update_all", then_delete)
    report = run()
    assert report.encoded
    assert not report.ok
    assert f"no such index [{index}]" in (report.stopped or "")
