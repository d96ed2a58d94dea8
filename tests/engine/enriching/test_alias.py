"""enrich --alias: a copy gets latent terms and takes the alias; the index stays as it is."""

from __future__ import annotations

import json
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException
from shop import MAPPING, all_done, make, sources

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index import guard
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.listing import IndexInfo, list_indices
from latent_ingest.connector.indexing import enrich, sender
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.jobs import copying
from latent_ingest.connector.indexing.jobs.copying import Copy
from latent_ingest.connector.indexing.outcomes import EnrichReport

OURS = {"latent", "latent_hash"}


@pytest.fixture
def rows(documents: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"_id": str(number), "title": "", "body": document["text"][:200], "year": 2000 + number}
        for number, document in enumerate(documents[:40])
    ]


@pytest.fixture
def index(new_index: Any, client: OpenSearch, rows: list[dict[str, Any]]) -> str:
    name: str = new_index()
    make(client, name, rows)
    return name


@pytest.fixture
def alias(client: OpenSearch, index: str) -> Iterator[str]:
    """That the index is searched by."""
    name = f"{index}-{uuid.uuid4().hex[:6]}"
    client.indices.put_alias(index=index, name=name)
    yield name
    for version in list_indices(client, f"{name}-*"):
        client.indices.delete(index=version.name)


Command = Callable[..., Result]


@pytest.fixture
def command(
    opensearch_url: str,
    monkeypatch: pytest.MonkeyPatch,
    index: str,
    alias: str,
    encoder: LatentEncoder,
) -> Command:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda *_: encoder)

    def invoke(*arguments: str, code: int = 0) -> Result:
        given = ["enrich", "--index", index, "--alias", alias, "--text-fields", "title,body"]
        result = CliRunner().invoke(cli, [*given, *arguments])
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and requests of a few documents."""
    monkeypatch.setattr(enrich, "PAGE", 7)
    monkeypatch.setattr(enrich, "MAX_BATCH_DOCUMENTS", 5)
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 3)


def behind(client: OpenSearch, alias: str) -> list[str]:
    return [index.name for index in list_indices(client, alias)]


def test_the_copy_has_all_documents_and_the_index_is_not_touched(
    command: Command, client: OpenSearch, index: str, alias: str, encoder: LatentEncoder
) -> None:
    client.indices.put_settings(
        index=index, body={"index": {"refresh_interval": "7s", "number_of_replicas": 1}}
    )
    before = client.indices.get(index=index)[index], sources(client, index)
    stop, found = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            answer = client.search(index=alias, body={"query": {"match_all": {}}})
            found.append(answer["hits"]["total"]["value"])

    asking = threading.Thread(target=ask)
    asking.start()
    done = command()
    stop.set()
    asking.join()
    copy = f"{alias}-minilm-32k-1"
    assert done.stdout.splitlines()[-1] == f"alias {alias}: {index} → {copy}"
    assert behind(client, alias) == [copy]
    assert {*found} == {40}

    assert (client.indices.get(index=index)[index]["mappings"], sources(client, index)) == (
        before[0]["mappings"],
        before[1],
    )
    stripped = {
        identifier: {name: value for name, value in source.items() if name not in OURS}
        for identifier, source in sources(client, copy).items()
    }
    assert stripped == before[1]
    assert all_done(client, copy, encoder)
    made = client.indices.get(index=copy)[copy]
    assert made["settings"]["index"]["refresh_interval"] == "7s"
    assert made["settings"]["index"]["number_of_replicas"] == "1"
    assert made["mappings"]["dynamic"] == MAPPING["dynamic"]
    assert made["mappings"]["_meta"]["owner"] == "shop"
    for name, field in MAPPING["properties"].items():
        assert made["mappings"]["properties"][name] == field
    assert IndexInfo.read(client, copy).complete


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("where", ["copying", "encoding"])
def test_an_interrupted_run_resumes(
    where: str,
    command: Command,
    client: OpenSearch,
    index: str,
    alias: str,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut_copying(copy: Copy, retry: Any, ended: threading.Event, _: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(copying, "ASK_SECONDS", 0)
        fill(copy, retry, ended)

    def cut_encoding(job: Enrich, _: Any) -> EnrichReport:
        return run(job, lambda report: job.stop() if report.encoded >= 6 else None)

    fill, run = Copy.fill, Enrich.run
    with monkeypatch.context() as patch:
        if where == "copying":
            patch.setattr(Copy, "fill", cut_copying)
        else:
            patch.setattr(Enrich, "run", cut_encoding)
        stopped = command(code=130)
    assert f"alias {alias} still points at {index}: the run was stopped" in stopped.stderr
    assert behind(client, alias) == [index]

    done = command("--json")
    assert f"resuming {alias}-minilm-32k-1, which is not complete" in done.stderr
    report = json.loads(done.stdout)
    assert (report["read"], report["failed"], report["alias_moved"]) == (40, 0, True)
    if where == "encoding":
        assert 6 <= report["up_to_date"] < 40
    assert len(sources(client, alias)) == 40
    assert all_done(client, alias, encoder)


def test_an_index_that_was_written_to_meanwhile_keeps_the_alias(
    command: Command,
    client: OpenSearch,
    index: str,
    alias: str,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(copy: Copy, *arguments: Any) -> None:
        fill(copy, *arguments)
        client.index(index=index, id="3", body={"title": "new", "body": "wasps", "year": 1})

    fill = Copy.fill
    with monkeypatch.context() as patch:
        patch.setattr(Copy, "fill", write)
        refused = command(code=1)
    assert f"{index} was written to since its copy was started; give the same command" in (
        refused.stderr
    )
    assert behind(client, alias) == [index]
    assert "was written to since" in command(code=1).stderr
    command("--restart")
    assert behind(client, alias) == [f"{alias}-minilm-32k-2"]
    assert sources(client, alias)["3"]["body"] == "wasps"
    assert all_done(client, alias, encoder)


def test_a_write_in_the_moment_of_the_swap_is_refused_not_lost(
    command: Command,
    client: OpenSearch,
    index: str,
    alias: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the alias, between the look at the index and the move; also when the run ends there."""
    refused: list[str] = []

    def swap(*arguments: Any) -> Any:
        try:
            client.index(index=alias, id="late", body={"title": "late", "body": "", "year": 1})
        except AuthorizationException as error:
            refused.append(str(error.error))
        if len(refused) == 1:
            raise EngineError("the power went")
        return move(*arguments)

    def cut(*_: Any) -> None:
        raise EngineError("the power went")

    move = Alias.move
    monkeypatch.setattr(Alias, "move", swap)
    with monkeypatch.context() as patch:
        patch.setattr(guard, "unblock_writes", cut)
        assert "the power went" in command(code=1).stderr
    assert behind(client, alias) == [index]
    assert blocks(client, index) == {"write": "true"}
    command()
    assert refused == ["cluster_block_exception"] * 2
    assert blocks(client, index) == {}
    assert behind(client, alias) == [f"{alias}-minilm-32k-1"]
    assert len(sources(client, alias)) == 40


def test_a_block_of_somebody_else_stays(
    command: Command, client: OpenSearch, index: str, alias: str
) -> None:
    client.indices.put_settings(index=index, body={"index.blocks.write": True})
    command()
    assert behind(client, alias) == [f"{alias}-minilm-32k-1"]
    assert blocks(client, index) == {"write": "true"}
    assert blocks(client, alias) == {}


def blocks(client: OpenSearch, name: str) -> dict[str, str]:
    """The index behind a name."""
    (found,) = client.indices.get_settings(index=name).values()
    kinds: dict[str, str] = found["settings"]["index"].get("blocks", {})
    return kinds


def test_a_copy_that_is_deleted_while_it_is_filled_is_not_made_again(
    command: Command, client: OpenSearch, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(self: OpenSearch, **options: Any) -> Any:
        client.indices.delete(index=f"{alias}-minilm-32k-1")
        return reindex(self, **options)

    reindex = OpenSearch.reindex
    monkeypatch.setattr(OpenSearch, "reindex", delete)
    assert "no such index" in command(code=1).stderr
    assert list_indices(client, f"{alias}-*") == []


def test_what_cannot_be_copied_is_said(
    command: Command, client: OpenSearch, index: str, alias: str, new_index: Any
) -> None:
    assert "no field 'nothing'" in command("--text-fields", "nothing", code=2).stderr
    assert f"{index} is an index, not an alias" in command("--alias", index, code=2).stderr
    other = new_index()
    client.indices.create(index=other)
    client.indices.put_alias(index=other, name=f"{other}-a")
    said = command("--alias", f"{other}-a", code=2).stderr
    assert f"points at {other}, which has no latent terms and is not {index}" in said
    command()
    said = command("--index", alias, code=2).stderr
    assert "has latent terms already; leave --alias out" in said
    assert [version.number for version in list_indices(client, f"{alias}-*")] == [1]
