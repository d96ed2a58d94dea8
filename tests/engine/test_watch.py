"""enrich --watch: what applications write gets its latent terms, whatever breaks meanwhile."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tenacity
from application import Application
from click.testing import CliRunner, Result
from lines import logged
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError
from preloaded import started
from shop import all_done, make, sources
from watching import Watching, run_at_random

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing import sender
from latent_ingest.connector.indexing.jobs.enrich_job import EnrichJob
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.outcomes import WatchReport
from latent_ingest.connector.indexing.watching import changes
from latent_ingest.connector.indexing.watching.job import WatchJob

FIELDS = ["title", "body"]


@pytest.fixture
def rows(documents: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"_id": f"{n}", "title": document["_id"], "body": document["text"][:60], "year": n}
        for n, document in enumerate(documents[:24])
    ]


@pytest.fixture
def index(new_index: Any, client: OpenSearch, rows: list[dict[str, Any]]) -> str:
    name: str = new_index()
    make(client, name, rows)
    return name


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_fixed(0.05))


Watch = Callable[..., Any]


@pytest.fixture
def watch(client: OpenSearch, index: str, encoder: LatentEncoder) -> Watch:
    """Watch the index, or another, within a context."""

    @contextmanager
    def watching(
        name: str = index,
        *,
        on: Any = client,
        on_progress: Callable[[WatchReport], None] = lambda report: None,
        **options: Any,
    ) -> Iterator[Watching]:
        options = {"text_fields": FIELDS, "poll": 0.1, "give_up_after": 20, **options}
        one = Watching(WatchJob(on, name, encoder=encoder, **options), on_progress)
        try:
            yield one
        finally:
            one.stop()

    return watching


def adds_up(report: WatchReport) -> bool:
    ended = report.up_to_date + report.encoded + report.deleted + report.failed
    return report.read == ended + report.left


def test_an_index_of_another_application_is_followed(
    either: OpenSearch,
    new_index: Any,
    rows: list[dict[str, Any]],
    watch: Watch,
    encoder: LatentEncoder,
) -> None:
    """On each engine. What was there gets its latent terms, then what is written."""
    name = new_index(either)
    make(either, name, rows)
    with watch(name, on=either) as watching:
        report = watching.caught_up()
        assert (report.encoded, report.failed) == (24, 0)
        assert all_done(either, name, encoder)
        either.index(index=name, id="new", body={"title": "added", "body": "honey"})
        either.index(index=name, id="0", body={"title": "replaced", "body": "whole"})
        either.update(index=name, id="1", body={"doc": {"body": "bees dance"}})
        either.update(index=name, id="2", body={"doc": {"year": 9}})
        either.delete(index=name, id="3")
        report = watching.caught_up()
        assert report.encoded == 27
        assert all_done(either, name, encoder)
    assert watching.error is None
    assert (report.stopped, report.left, report.ok) == ("interrupted", 0, True)
    # 24 and 4 that were written, and again 24 and 3 for the terms that they got.
    assert report.read <= 24 + 4 + 24 + 3
    assert adds_up(report)
    assert either.indices.get_alias(index=name)[name]["aliases"] == {}, "the guard is removed"


def test_only_what_was_written_since_is_read(
    watch: Watch, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """By the next job, from the journal; the numbers of the shards are remembered."""
    with watch() as watching:
        watching.caught_up()
    client.index(index=index, id="new", body={"title": "added", "body": "honey"})
    client.delete(index=index, id="5")
    with watch() as watching:
        report = watching.caught_up()
        assert (report.read, report.encoded, report.up_to_date) == (2, 1, 1)
        assert all_done(client, index, encoder)
    with watch() as watching:
        watching.caught_up()
        assert watching.report.read == 0
    (run,) = Journal().runs()
    assert (run.corpus, run.state) == (f"watch:{index}", "interrupted")


def test_an_index_of_ours_is_followed(
    watch: Watch, client: OpenSearch, new_index: Any, load: Any, rows: list[dict[str, Any]]
) -> None:
    """What is up to date is not encoded again."""
    name = new_index()
    load(client, name, [json.dumps({"_id": row["_id"], "text": row["body"]}) for row in rows])
    with watch(name, text_fields=None) as watching:
        report = watching.caught_up()
        assert (report.encoded, report.up_to_date) == (0, report.read)
        assert report.read == 24
        client.index(index=name, id="new", body={"text": "honey"})
        watching.caught_up()
        assert watching.report.encoded == 1
    assert sources(client, name)["new"]["latent"]


def test_what_no_search_finds_yet_is_not_passed_over(
    watch: Watch, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """The index is never refreshed by itself."""
    client.indices.put_settings(index=index, body={"refresh_interval": "-1"})
    with watch() as watching:
        watching.caught_up()
        for n in range(20):
            client.index(index=index, id=f"new {n}", body={"title": f"{n}", "body": "honey"})
            time.sleep(0.02)
        watching.caught_up()
        assert all_done(client, index, encoder)
        assert watching.report.encoded == 44


def test_every_document_is_read_once_in_small_pages(
    watch: Watch,
    client: OpenSearch,
    index: str,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most numbers of the shards are of documents that were written again, or deleted."""
    for n in range(60):
        client.index(index=index, id="often", body={"title": f"{n}", "body": "again"})
        client.index(index=index, id=f"gone {n}", body={"title": f"{n}", "body": "gone"})
        client.delete(index=index, id=f"gone {n}")
    for name, value in (("FIRST_PAGE", 3), ("PAGE", 3), ("WINDOW", 10)):
        monkeypatch.setattr(changes, name, value)
    ranges: list[tuple[int, int]] = []
    page = changes.ChangeReader._page

    def noted(reader: Any, shard: int, after: int, upto: int, size: int) -> Any:
        ranges.append((after, upto))
        return page(reader, shard, after, upto, size)

    monkeypatch.setattr(changes.ChangeReader, "_page", noted)
    with watch() as watching:
        report = watching.caught_up()
        assert (report.encoded, report.read) == (25, 50)
        assert all_done(client, index, encoder)
    assert max(upto - after for after, upto in ranges) == 10
    assert len(ranges) > 20


def test_a_later_write_is_not_overwritten(
    watch: Watch, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """Changes that an application makes between the reading and the update."""
    changed: list[str] = []

    class Between:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def bulk(self, **options: Any) -> Any:
            if len(changed) < 5:
                changed.append(f"change {len(changed)}")
                client.update(index=index, id="7", body={"doc": {"body": changed[-1]}})
                client.delete(index=index, id=f"{len(changed)}")
            return client.bulk(**options)

    with watch(on=Between()) as watching:
        report = watching.caught_up()
        assert all_done(client, index, encoder)
    assert sources(client, index)["7"]["body"] == "change 4"
    assert report.conflicts == 5
    assert report.deleted >= 1
    assert adds_up(report)


def test_a_document_that_cannot_be_updated_fails_and_the_others_do_not(
    watch: Watch, client: OpenSearch, index: str
) -> None:
    class Spoiling:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def bulk(self, body: bytes, **options: Any) -> Any:
            lines = body.splitlines(keepends=True)
            for at in range(0, len(lines), 2):
                if json.loads(lines[at])["update"]["_id"] == "7":
                    lines[at + 1] = lines[at + 1].replace(b'"latent": "', b'"latent": {}, "_": "')
            return client.bulk(body=b"".join(lines), **options)

    with watch(on=Spoiling()) as watching:
        report = watching.caught_up()
        assert (report.encoded, report.failed) == (23, 1)
    assert not report.ok
    (line,) = Path(f"{index}.failed.jsonl").read_text().splitlines()
    assert json.loads(line)["_id"] == "7"
    with watch() as watching:
        watching.caught_up()
        assert watching.report.read == 0, "not until it is changed"
        client.update(index=index, id="7", body={"doc": {"body": "other"}})
        watching.caught_up()
        assert watching.report.encoded == 1


def test_an_engine_that_is_away_ends_it_and_the_next_one_goes_on(
    watch: Watch, client: OpenSearch, index: str, encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Some updates are done, some are not; what was not acknowledged is read again."""
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 3)
    away = threading.Event()

    class Leaving:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def bulk(self, **options: Any) -> Any:
            answer = client.bulk(**options)
            if away.is_set():
                raise TransportError(503, "away", {})
            away.set()
            return answer

    with watch(on=Leaving(), give_up_after=0.5, concurrency=1) as watching:
        report = watching.ended()
    assert "gave up after 0.5 s" in (report.stopped or "")
    assert report.left
    assert adds_up(report)
    with watch() as watching:
        watching.caught_up()
        assert all_done(client, index, encoder)


def test_the_reading_is_bounded(watch: Watch) -> None:
    with watch(rate=10) as watching:
        began = time.monotonic()
        watching.until(lambda: watching.report.encoded == 24)
        assert time.monotonic() - began > 24 / 10 - 1.2
        stopping = time.monotonic()
        watching.stop()
        assert time.monotonic() - stopping < 2


def test_an_alias_that_moves_is_followed(
    watch: Watch,
    client: OpenSearch,
    index: str,
    new_index: Any,
    rows: list[dict[str, Any]],
    encoder: LatentEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    second, third = new_index(), new_index()
    alias = f"{index}-alias"
    client.indices.put_alias(index=index, name=alias)
    make(client, second, rows[:20])
    make(client, third, rows[:2])
    with watch(alias) as watching:
        watching.caught_up()
        assert watching.report.index == index
        moves = [
            {"remove": {"index": index, "alias": alias}},
            {"add": {"index": second, "alias": alias}},
        ]
        client.indices.update_aliases(body={"actions": moves})
        watching.until(lambda: watching.report.index == second)
        assert watching.caught_up().encoded == 44
        assert all_done(client, second, encoder)
        client.indices.put_alias(index=third, name=alias)
        watching.ended()
    assert isinstance(watching.error, InputError)
    assert "stands for 2 indices" in str(watching.error)
    said = [line for line in logged(caplog) if "following that" in line]
    assert said == [f"{alias} stands for index {second} now, no longer {index}; following that"]


def test_an_index_that_is_deleted_ends_it(watch: Watch, client: OpenSearch, index: str) -> None:
    with watch() as watching:
        watching.caught_up()
        client.indices.delete(index=index)
        report = watching.ended(5)
        assert report.stopped == f"{index} was deleted while it was watched"
    assert not client.indices.exists(index=index), "the engine makes it again of what is sent"


def test_an_index_that_is_deleted_and_created_again_ends_it(
    watch: Watch, client: OpenSearch, index: str, rows: list[dict[str, Any]]
) -> None:
    with watch(poll=1.0) as watching:
        watching.caught_up()
        client.indices.delete(index=index)
        make(client, index, rows)
        assert "was deleted" in (watching.ended(10).stopped or "")


def test_an_index_that_is_closed_for_a_moment_is_waited_for(
    watch: Watch, client: OpenSearch, index: str, caplog: pytest.LogCaptureFixture
) -> None:
    with watch() as watching:
        watching.caught_up()
        client.indices.close(index=index)
        watching.until(lambda: any("trying again" in line for line in logged(caplog)))
        client.indices.open(index=index)
        client.index(index=index, id="new", body={"title": "added", "body": "honey"})
        watching.caught_up()
        assert watching.report.encoded == 25


def test_another_command_with_other_fields_ends_it(
    watch: Watch, client: OpenSearch, index: str, encoder: LatentEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Else the two would change the terms of each other's documents for ever."""
    with watch() as watching:
        watching.caught_up()
        other = EnrichJob(client, index=index, encoder=encoder, text_fields=["title"])
        assert other.run().report.ok
        report = watching.ended()
    assert "another command changed the text_fields of its latent terms" in (report.stopped or "")
    with watch() as watching:
        watching.caught_up()
        assert all_done(client, index, encoder)
    with watch(text_fields=["body"]) as watching:
        assert watching.caught_up().encoded == 24
    assert any("watched with other settings" in line for line in logged(caplog))


def test_fields_that_no_document_has_are_named_once(
    watch: Watch, index: str, caplog: pytest.LogCaptureFixture
) -> None:
    with watch(text_fields=["title", "more.summary"]) as watching:
        watching.caught_up()
        watching.caught_up()
    assert [line for line in logged(caplog) if "no document" in line] == [
        f"no document of index {index} has a field 'more.summary'"
    ]


def test_a_job_that_was_stopped_before_it_began_reads_nothing(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """And leaves the index open."""
    job = WatchJob(client, index, encoder=encoder, text_fields=FIELDS)
    job.stop()
    report = job.run().report
    assert (report.stopped, report.read) == ("interrupted", 0)
    assert client.count(index=index)["count"] == 24


def test_there_is_one_follower_of_an_index(watch: Watch, index: str) -> None:
    with watch() as watching:
        watching.caught_up()
        with watch() as second:
            second.ended()
        assert f"watch:{index} is being ingested into {index} by another process" in str(
            second.error
        )


Command = Callable[..., Result]


@pytest.fixture
def command(opensearch_url: str, monkeypatch: pytest.MonkeyPatch, index: str) -> Command:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["enrich", "--index", index, "--watch", *arguments])

    return invoke


def test_what_cannot_be_watched_is_said_in_one_line(
    command: Command, client: OpenSearch, opensearch_url: str, index: str, new_index: Any
) -> None:
    taken = opensearch_url.rsplit(":", 1)[1]
    closed, other = new_index(), new_index()
    client.indices.create(index=closed)
    client.indices.close(index=closed)
    client.indices.create(index=other)
    several = f"{index}-both"
    for name in (index, other):
        client.indices.put_alias(index=name, name=several)
    fields = ("--text-fields", "title,body")
    for arguments, status, message in (
        (("--alias", "copy"), 2, "--watch and --alias exclude each other"),
        (("--restart",), 2, "--watch and --restart exclude each other"),
        (("--rate", "0"), 2, "0 is not in the range x>=1"),
        (("--poll", "0"), 2, "--poll: 0.1s is the least"),
        (("--metrics-host", "0.0.0.0"), 2, "--metrics-host needs --metrics-port"),
        (
            ("--metrics-port", taken, *fields),
            2,
            f"metrics cannot be served at 127.0.0.1:{taken}: Address already in use",
        ),
        (("--index", "not-there"), 2, "no index not-there; check --index"),
        (("--index", several), 2, f"{several}: 2 indices"),
        (("--index", closed), 1, f"index {closed} is closed; open it (POST /{closed}/_open)"),
        (("--text-fields", "bodi"), 2, "no field 'bodi' in index"),
        ((), 2, "name the fields to encode with --text-fields"),
        (fields, 2, "agree with --yes"),
        (("--url", "http://127.0.0.1:1"), 1, "nothing answers at http://127.0.0.1:1"),
    ):
        done = command(*arguments)
        assert message in done.stderr, (arguments, done.stderr)
        assert done.exit_code == status, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    for option in ("--rate=5", "--poll=2s", "--metrics-port=9290", "--metrics-host=h"):
        done = CliRunner().invoke(cli, ["enrich", "--index", index, option])
        assert done.exit_code == 2
        assert f"{option.split('=')[0]} needs --watch" in done.stderr


def test_a_job_checks_its_arguments(client: OpenSearch) -> None:
    for wrong in ({"alias": "a"}, {"restart": True}, {"poll": 0}, {"rate": 0}):
        with pytest.raises(InputError):
            WatchJob(client, "shop", **wrong)  # type: ignore[arg-type]


def test_the_command_is_stopped_in_good_order_and_shows_its_lag(
    opensearch_url: str, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """By SIGTERM; with lines of JSON, and metrics for Prometheus."""
    port = free_port()
    arguments = ["enrich", "--index", index, "--text-fields", "title,body", "--yes", "--watch"]
    arguments += [
        "--url",
        opensearch_url,
        "--json",
        "--metrics-port",
        str(port),
        "--poll",
        "0.2s",
    ]
    process = started(arguments, "out.txt", 10)
    metrics: dict[str, float] = {}
    deadline = time.monotonic() + 60
    while metrics.get('latent_watch_documents_total{outcome="up_to_date"}') != 24:
        assert time.monotonic() < deadline, Path("out.txt").read_text()
        assert process.is_alive(), Path("out.txt").read_text()
        time.sleep(0.2)
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        except OSError:
            continue
        metrics = {
            name: float(value)
            for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        }
    assert metrics['latent_watch_documents_total{outcome="encoded"}'] == 24
    assert metrics[f'latent_watch_info{{index="{index}"}}'] == 1
    assert time.time() - metrics["latent_watch_answered_timestamp_seconds"] < 20
    assert metrics["latent_watch_seconds_behind"] < 20
    assert process.pid
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 0, Path("out.txt").read_text()
    lines = [line for line in Path("out.txt").read_text().splitlines() if line.startswith("{")]
    last = json.loads(lines[-1])
    assert (last["index"], last["encoded"], last["stopped"]) == (index, 24, "interrupted")
    assert {"writes_behind", "seconds_behind"} <= last.keys()
    assert all_done(client, index, encoder)


def test_whatever_is_written_and_killed_each_document_gets_the_terms_of_its_text(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    documents: list[dict[str, str]],
    rows: list[dict[str, Any]],
    encoder: LatentEncoder,
    seed: int,
) -> None:
    """At most ten seconds after it was written, and within ten seconds after the last write."""
    application = Application(client, index, seed, [row["text"] for row in documents])
    for row in rows:
        application.rows[row["_id"]] = {k: v for k, v in row.items() if k != "_id"}
        application.since[row["_id"]] = time.monotonic()
    kills = run_at_random(
        opensearch_url, index, application, seed, seconds=18, kill_every=5, pause=0.03
    )
    assert kills >= 2
    assert application.writes > 100
    application.check(encoder)
