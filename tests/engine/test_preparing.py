"""An index that is prepared for latent terms: all that they need, or the index as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tenacity
from click.testing import CliRunner, Result
from faults import FaultProxy, Spoiling
from opensearchpy import OpenSearch
from shop import make

from latent_ingest.cli.main import cli
from latent_ingest.connector import EnrichJob
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry as retry_module
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, LatentIngestError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare

FIELDS = {"text_fields": ("title", "body")}
STEPS = ["_close", "_settings", "_mapping", "_open"]


@pytest.fixture
def index(new_index: Any, client: OpenSearch) -> str:
    name: str = new_index()
    make(client, name, [{"_id": "a", "title": "bees", "body": "honey"}])
    return name


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_module, "WAIT", tenacity.wait_fixed(0.02))


def state(client: OpenSearch, index: str) -> dict[str, Any]:
    """Whether an index is open, its settings, `_meta` and fields."""
    found = client.indices.get(index=index, flat_settings=True)[index]
    mapping = found["mappings"]
    settings = {k: v for k, v in found["settings"].items() if k != "index.version.upgraded"}
    return {
        "open": not IndexInfo.read(client, index).closed,
        "settings": settings,
        "meta": mapping.get("_meta", {}),
        "fields": {*mapping["properties"]},
        "aliases": found["aliases"],
    }


class Breaking(Spoiling):
    """Breaks the requests of some steps, numbered from 1, in one way."""

    broken: Callable[[int], bool]
    how: str
    steps: list[str]

    def do_POST(self) -> None:
        step = self.path.split("?")[0].rsplit("/", 1)[-1]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.command == "GET" or step not in STEPS:
            return self.give(*self.forward(body))
        self.steps.append(step)
        if not type(self).broken(len(self.steps)):
            return self.give(*self.forward(body))
        if "after" in self.how:
            self.forward(body)
        if "reset" in self.how:
            return self.reset()
        if "unready" in self.how:
            unready = b'{"acknowledged":true,"shards_acknowledged":false}'
            return self.give(200, unready, "application/json")
        return self.give(int(self.how.split()[0]), b'{"error":{"reason":"broken"}}', "text/plain")

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST


@contextmanager
def breaking(url: str, how: str, broken: Callable[[int], bool]) -> Iterator[tuple[Any, list[str]]]:
    """A client some of whose steps break, and the steps so far."""
    steps: list[str] = []
    handler = type("Handler", (Breaking,), {"broken": staticmethod(broken), "how": how})
    handler.steps = steps  # type: ignore[attr-defined]
    with FaultProxy(url, seed=0).listening(handler) as through:
        yield Connection(through).open(), steps


@pytest.mark.parametrize(
    ("how", "closed"),
    [("500", False), ("500 after", True), ("503", True), ("reset", False), ("reset after", False)],
)
def test_whichever_step_breaks_the_index_is_as_it_was(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    how: str,
    closed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once; opening is tried again. Afterwards the index can be prepared."""
    if closed:
        client.indices.close(index=index)
    before = state(client, index)
    broken = []
    for number in range(1, 5 - closed):
        with breaking(opensearch_url, how, lambda n, number=number: n == number) as (on, steps):
            preparation = plan(ExistingIndex.read(on, index), encoder, FIELDS)
            step = STEPS[closed:][number - 1]
            if step == "_open" and not how.startswith("500"):
                continue
            with pytest.raises(EngineError, match=r"broken|nothing answers|503"):
                prepare(preparation, Retry(on))
        broken.append(steps[number - 1])
        mapped = "_open" in broken or ("after" in how and "_mapping" in broken)
        kept = {"latent", "latent_hash"} if mapped else set()
        after = state(client, index)
        assert after["fields"] == before["fields"] | kept
        assert after["meta"] == before["meta"]
        assert after["open"] == before["open"]
        assert ("keeps the fields latent, latent_hash" in caplog.text) == bool(kept)
        if not kept:
            assert after == before
        if kept:
            break
    assert broken == STEPS[closed : closed + len(broken)] != []
    preparation = plan(ExistingIndex.read(client, index), encoder, FIELDS)
    prepare(preparation, Retry(client))
    assert Index(client, index).meta().text_fields == ["title", "body"]
    assert state(client, index)["open"]


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_at_any_step_leaves_the_index_as_it_was(
    client: OpenSearch, index: str, encoder: LatentEncoder, step: str
) -> None:
    """Before the request and after it."""
    before = state(client, index)
    on, name = {
        "_close": (client.indices, "close"),
        "_settings": (client.indices, "put_settings"),
        "_mapping": (client.indices, "put_mapping"),
        "_open": (Index, "open"),
    }[step]
    asked = getattr(on, name)
    for early in (True, False) if step != "_mapping" else (True,):
        calls: list[int] = []

        def interrupted(*given: Any, **named: Any) -> Any:
            calls.append(1)  # noqa: B023
            if len(calls) > 1:  # noqa: B023
                return asked(*given, **named)
            if not early:  # noqa: B023
                asked(*given, **named)
            raise KeyboardInterrupt

        preparation = plan(ExistingIndex.read(client, index), encoder, FIELDS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(on, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                prepare(preparation, Retry(client))
        assert calls
        after = state(client, index)
        if step == "_open":  # the fields are there by then
            assert (after["open"], after["meta"]) == (True, before["meta"])
            break
        assert after == before


@pytest.mark.parametrize("how", ["503", "reset"])
def test_an_engine_that_stays_away_is_given_up_and_the_last_words_are_true(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for first, closed in {1: False, 2: True, 4: True}.items():
        caplog.clear()
        with breaking(opensearch_url, how, lambda n, first=first: n >= first) as (on, _):
            preparation = plan(ExistingIndex.read(on, index), encoder, FIELDS)
            started = time.monotonic()
            with pytest.raises(EngineError) as raised:
                prepare(preparation, Retry(on, give_up_after=0.3))
        assert time.monotonic() - started < 15  # of the minutes of the default
        assert IndexInfo.read(client, index).closed is closed
        said = f"{raised.value} {caplog.text}"
        assert "trying again for up to 0.3 s" in said
        assert (f"index {index} is closed: the same command opens it" in said) is closed
        assert "may be left closed" not in said
        client.indices.open(index=index)
        if first == 4:
            break
        assert plan(ExistingIndex.read(client, index), encoder, FIELDS).mapping


def test_opening_that_waits_ends_when_the_job_is_stopped(
    opensearch_url: str, index: str, encoder: LatentEncoder
) -> None:
    with breaking(opensearch_url, "503", lambda n: n >= 4) as (on, steps):
        job = EnrichJob(on, index, text_fields=["title"], encoder=encoder)
        stopped: list[float] = []

        def stop() -> None:
            while steps.count("_open") < 3:
                time.sleep(0.01)
            job.stop()
            stopped.append(time.monotonic())

        stopping = threading.Thread(target=stop, daemon=True)
        stopping.start()
        with pytest.raises(EngineError, match="answered 503"):
            job.run()
        stopping.join(1)
    assert time.monotonic() - stopped[0] < 15


@pytest.mark.slow
def test_shards_that_do_not_start_are_waited_for(
    client: OpenSearch, opensearch_url: str, index: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And an index is not said to be closed then. Copies that no node can hold are not waited for,
    whatever the index itself asks for."""
    settings = {"index": {"number_of_replicas": 1, "write.wait_for_active_shards": "2"}}
    client.indices.put_settings(index=index, body=settings)
    client.indices.close(index=index)
    started = time.monotonic()
    Index(client, index).reopen(Retry(client))
    assert time.monotonic() - started < 15  # of the 30 s that engines wait
    unready = breaking(opensearch_url, "unready after", lambda _: True)
    with unready as (on, steps), pytest.raises(EngineError) as raised:
        Index(on, index).reopen(Retry(on, give_up_after=0.3))
    assert str(raised.value).endswith("its shards have not started; gave up after 0.3 s")
    assert f"index {index} is open, but its shards have not started; trying again" in caplog.text
    assert steps.count("_open") > 2


@pytest.fixture
def command(opensearch_url: str, encoder: LatentEncoder, index: str, monkeypatch: Any) -> Any:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda *_: encoder)

    def invoke(*arguments: str, name: str = "enrich") -> Result:
        return CliRunner().invoke(cli, [name, "--index", index, *arguments])

    return invoke


BLOCKS = ["read_only", "read_only_allow_delete", "read", "write", "metadata"]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_said_before_anything_is_touched(
    command: Any, client: OpenSearch, index: str, block: str
) -> None:
    setting = f"index.blocks.{block}"
    before = state(client, index)
    client.indices.put_settings(index=index, body={setting: True})
    started = time.monotonic()
    try:
        done = command("--text-fields", "title", "--yes", "--give-up-after", "5s")
    finally:
        client.indices.put_settings(index=index, body={setting: None})
    assert time.monotonic() - started < 3
    assert done.exit_code == 1
    last = done.stderr.splitlines()[-1]
    assert f"set {setting} to null" in last
    assert "left closed" not in done.stderr
    assert "ask for the permission" not in done.stderr
    assert state(client, index) == before


@pytest.mark.parametrize("block", ["read_only", "read_only_allow_delete", "closed"])
def test_an_index_that_takes_nothing_is_said_before_an_ingest(
    command: Any, client: OpenSearch, index: str, encoder: LatentEncoder, block: str, corpus: Any
) -> None:
    prepare(plan(ExistingIndex.read(client, index), encoder, FIELDS), Retry(client))
    if block == "closed":
        client.indices.close(index=index)
    else:
        client.indices.put_settings(index=index, body={f"index.blocks.{block}": True})
    try:
        done = command(str(corpus), name="ingest")
    finally:
        if block != "closed":
            client.indices.put_settings(index=index, body={f"index.blocks.{block}": None})
    assert done.exit_code == 1
    fix = "open it (POST" if block == "closed" else f"set index.blocks.{block} to null"
    assert fix in done.stderr.splitlines()[-1]


def test_a_run_that_is_blocked_gives_up_once(
    command: Any, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """The block of the cluster is none of the index's settings."""
    prepare(plan(ExistingIndex.read(client, index), encoder, FIELDS), Retry(client))
    block = {"cluster.blocks.read_only": True}
    client.cluster.put_settings(body={"transient": block})
    started = time.monotonic()
    try:
        done = command("--give-up-after", "2s")
    finally:
        client.cluster.put_settings(body={"transient": {"cluster.blocks.read_only": None}})
    assert time.monotonic() - started < 4
    assert done.exit_code == 1
    assert "trying again for up to 2 s" in done.stderr
    assert "set cluster.blocks.read_only to null; gave up after 2 s" in done.stderr


@pytest.mark.parametrize("setting", ["derived_source", "append_only"])
def test_an_index_whose_documents_cannot_be_updated_is_not_touched(
    client: OpenSearch, new_index: Any, encoder: LatentEncoder, setting: str
) -> None:
    if EngineInfo.read(client).version < (3, 2):
        pytest.skip("such indices are of OpenSearch 3.2 and later")
    name = new_index()
    settings = {f"index.{setting}.enabled": True, "number_of_replicas": 0}
    properties = {"title": {"type": "text"}}
    body = {"settings": settings, "mappings": {"properties": properties}}
    client.indices.create(index=name, body=body)
    before = client.indices.get(index=name)
    job = EnrichJob(client, name, text_fields=["title"], encoder=encoder)
    with pytest.raises(LatentIngestError, match=rf"index.{setting}.enabled\); ingest its doc"):
        job.run()
    assert client.indices.get(index=name) == before


@pytest.mark.slow
def test_ctrl_c_ends_the_waiting_of_a_command(
    client: OpenSearch, opensearch_url: str, index: str
) -> None:
    """While an index is opened again, which a proxy refuses."""
    with breaking(opensearch_url, "503", lambda n: n >= 4) as (on, steps):
        (host,) = on.transport.hosts
        url = f"http://{host['host']}:{host['port']}"
        command = "from latent_ingest.cli.main import cli; cli()"
        options = ["--index", index, "--url", url, "--text-fields", "title", "--yes"]
        process = subprocess.Popen(
            [sys.executable, "-c", command, "enrich", *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while steps.count("_open") < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        said = process.communicate(timeout=30)[1]
    assert time.monotonic() - started < 5
    assert "Traceback" not in said
    assert f"index {index} is closed: the same command opens it" in said
    assert process.returncode in (1, 130)
    assert IndexInfo.read(client, index).closed
