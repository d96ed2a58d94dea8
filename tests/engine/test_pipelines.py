"""Ingest pipelines and templates of a cluster: what they drop or move is said, none runs twice."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lines import adds_up, failures, line
from opensearchpy import OpenSearch
from opensearchpy.client import IndicesClient
from opensearchpy.exceptions import TransportError
from shop import all_done, make, sources

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.guard import Guard
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.indexing import batches
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.jobs import copying
from latent_ingest.connector.indexing.jobs.copying import Copy
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.mappings import MappingConfig, index_body

DROP = {"drop": {"if": "ctx.lang == 'xx'"}}
APPEND = {"append": {"field": "tags", "value": ["seen"]}}
STAMP = {"set": {"field": "at", "value": "{{_ingest.timestamp}}"}}
STRIP = {"html_strip": {"field": "body"}}
RENAMES_ID = {"set": {"field": "_id", "value": "new-{{_id}}"}}
DEFAULT, FINAL = "default_pipeline", "final_pipeline"
OURS = {"latent", "latent_hash"}

ROWS = [line("1", lang="en"), line("2", "ants", lang="xx"), line("3", "wasps", lang="en")]
HTML = [
    {"_id": "1", "title": "", "body": "<p>Use the &lt;b&gt; tag for bold.</p>", "year": 1},
    {"_id": "2", "title": "", "body": "plain", "year": 2},
]


@pytest.fixture(autouse=True)
def _no_versions_left(index: str, client: OpenSearch) -> Iterator[None]:
    yield
    for version in list_indices(client, f"{index}-*"):
        client.indices.delete(index=version.name)


Pipeline = Callable[..., str]


@pytest.fixture
def pipeline(index: str, client: OpenSearch) -> Iterator[Pipeline]:
    """Makes a pipeline of these processors; returns its name."""
    made: list[tuple[OpenSearch, str]] = []

    def make(*processors: dict[str, Any], on: OpenSearch = client) -> str:
        name = f"{index}-pipeline-{len(made)}"
        on.ingest.put_pipeline(id=name, body={"processors": list(processors)})
        made.append((on, name))
        return name

    yield make
    for on, name in made:
        on.ingest.delete_pipeline(id=name)


@pytest.fixture
def template(index: str, client: OpenSearch) -> Iterator[Callable[..., None]]:
    """Makes a template for the index and for the versions of an alias of its name."""
    path = f"/_index_template/{index}"

    def make(settings: dict[str, Any], mappings: dict[str, Any] | None = None, **more: Any) -> None:
        body = {"settings": {"index": settings}, "mappings": mappings or {}}
        body = {"index_patterns": [f"{index}*"], "priority": 999, "template": body, **more}
        client.transport.perform_request("PUT", path, body=body)

    yield make
    client.transport.perform_request("DELETE", path, params={"ignore": 404})


Command = Callable[..., Result]


@pytest.fixture
def command(
    opensearch_url: str, monkeypatch: pytest.MonkeyPatch, encoder: LatentEncoder
) -> Command:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda *_: encoder)

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [*arguments])
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


def write(rows: list[str]) -> str:
    Path("c.jsonl").write_text("".join(row + "\n" for row in rows))
    return "c.jsonl"


def without(source: dict[str, Any], names: set[str] = OURS) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name not in names}


@pytest.mark.parametrize("kind", [DEFAULT, FINAL])
def test_a_document_that_a_pipeline_drops_is_a_failure(
    kind: str,
    command: Command,
    client: OpenSearch,
    index: str,
    pipeline: Pipeline,
    template: Callable[..., None],
) -> None:
    """In an index that gets its pipeline from a template; and again when the file is repeated."""
    template({kind: pipeline(DROP)})
    for _ in range(2):
        done = command(write(ROWS), "--index", index, "--json", code=1)
        report = json.loads(done.stdout)
        assert (report["lines"], report["indexed"], report["failed"]) == (3, 2, 1)
        assert (
            "c.jsonl: line 2: document '2' rejected: an ingest pipeline dropped it" in done.stderr
        )
        assert f"documents pass through the ingest pipeline {index}-pipeline-0" in done.stderr
        (failure,) = map(json.loads, Path(report["failures_file"]).read_text().splitlines())
        assert failure["_id"] == "2"
        assert {*sources(client, index)} == {"1", "3"}
    verified = command("verify", "c.jsonl", "--index", index, code=1)
    assert "missing: 1" in verified.stdout
    assert "what differs may be what it changed" in verified.stderr


def test_a_chunk_or_a_document_without_own_id_that_is_dropped_is_a_failure(
    client: OpenSearch, new_index: Any, load: Any, pipeline: Pipeline
) -> None:
    drop = pipeline({"drop": {"if": "ctx.chunk == 1 || ctx.lang == 'xx'"}})
    for wanted, rows in (
        ({"long": "chunks"}, [line("a", "word " * 600), line("b")]),
        ({"ids": "engine"}, ROWS),
    ):
        name = new_index()
        load(client, name, [line("first")], wanted=wanted)
        client.indices.put_settings(index=name, body={"index": {FINAL: drop}})
        report: IngestReport = load(client, name, rows, wanted=wanted)
        assert adds_up(report)
        assert (report.failed, report.indexed) == (1, len(rows) - 1)
        assert "pipeline dropped it" in failures(report)[0]["_failure"]["reason"]


@pytest.mark.parametrize(
    ("processor", "where"),
    [
        (RENAMES_ID, "index {index} as 'new-2', where it is; delete it"),
        ({"set": {"field": "_index", "value": "elsewhere"}}, "index elsewhere as '2' (no such"),
        ({"fail": {"message": "no"}}, "index failed-{index} as '2' (no such index"),
    ],
    ids=["id", "index", "on failure"],
)
def test_a_document_that_a_pipeline_moves_is_a_failure(
    processor: dict[str, Any],
    where: str,
    client: OpenSearch,
    index: str,
    load: Any,
    pipeline: Pipeline,
) -> None:
    """Repeating the file fails again, and makes no second copy."""
    ((kind, options),) = processor.items()
    aside = [{"set": {"field": "_index", "value": f"failed-{index}"}}]
    moves = {kind: {"if": "ctx.lang == 'xx'", "on_failure": aside, **options}}
    load(client, index, [line("1")])
    client.indices.put_settings(index=index, body={"index": {DEFAULT: pipeline(moves)}})
    for _ in range(2):
        report = load(client, index, ROWS)
        assert adds_up(report)
        assert (report.indexed, report.failed) == (2, 1)
        reason = failures(report)[0]["_failure"]["reason"]
        assert "document '2' rejected: an ingest pipeline sent it to index" in reason
        assert where.format(index=index) in reason
        assert {*sources(client, index)} - {"new-2"} == {"1", "3"}
    assert not client.indices.exists(index=f"elsewhere,failed-{index}")


def test_without_an_alias_for_the_run_a_document_in_another_index_is_a_failure(
    client: OpenSearch,
    index: str,
    new_index: Any,
    load: Any,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a login that may create no alias; with one, the engine does not move documents."""
    monkeypatch.setattr(Guard, "put", lambda *_: None)
    other = new_index()
    load(client, index, [line("1")])
    moves = pipeline({"set": {"if": "ctx.lang == 'xx'", "field": "_index", "value": other}})
    client.indices.put_settings(index=index, body={"index": {DEFAULT: moves}})
    report = load(client, index, ROWS)
    assert (report.indexed, report.failed) == (2, 1)
    reason = failures(report)[0]["_failure"]["reason"]
    assert f"sent it to index {other} as '2', where it is; delete it" in reason
    assert {*sources(client, other)} == {"2"}


def test_an_index_under_a_write_alias_is_where_documents_were_sent(
    client: OpenSearch, index: str, load: Any
) -> None:
    load(client, index, [line("1")])
    client.indices.put_alias(index=index, name=f"{index}-w", body={"is_write_index": True})
    report = load(client, f"{index}-w", [line("2"), line("3")])
    assert report.ok
    assert {*sources(client, index)} == {"1", "2", "3"}


def test_what_a_pipeline_changes_is_indexed_and_verify_names_it(
    command: Command, client: OpenSearch, index: str, load: Any, pipeline: Pipeline
) -> None:
    load(client, index, [line("1")])
    client.indices.put_settings(index=index, body={"index": {DEFAULT: pipeline(APPEND, STAMP)}})
    done = command(write(ROWS), "--index", index)
    assert "which may change them" in done.stderr
    assert [one["tags"] for one in sources(client, index).values()] == [["seen"]] * 3
    verified = command("verify", "c.jsonl", "--index", index, code=1)
    assert "different: 3" in verified.stdout
    assert "other 'at', 'tags'" in verified.stdout


def test_a_pipeline_that_takes_the_latent_terms_away_is_noticed(
    command: Command,
    client: OpenSearch,
    index: str,
    pipeline: Pipeline,
    template: Callable[..., None],
) -> None:
    """But not one of documents that have none."""
    takes = {"remove": {"if": "ctx.lang == 'xx'", "field": "latent"}}
    template({FINAL: pipeline(takes)})
    command(write([line("1"), line("2", ""), line("3", "")]), "--index", index)
    client.indices.delete(index=index)
    for again in ((), (), ("--restart",)):
        done = command(write(ROWS), "--index", index, *again, code=1)
        assert "1 of the documents have no latent terms in the index" in done.stderr + done.stdout
        assert "takes the field 'latent' away" in done.stderr + done.stdout


def test_an_alias_does_not_move_to_a_version_with_dropped_documents(
    command: Command,
    client: OpenSearch,
    index: str,
    pipeline: Pipeline,
    template: Callable[..., None],
) -> None:
    template({DEFAULT: pipeline(DROP)})
    refused = command(write(ROWS), "--alias", index, code=1)
    assert f"alias {index} is not created: 1 of the lines failed" in refused.stderr
    assert not client.indices.exists_alias(name=index)
    command(write([ROWS[0], ROWS[2]]), "--alias", index, "--restart")
    assert {*sources(client, index)} == {"1", "3"}


def test_an_interrupted_run_counts_each_dropped_document_once(
    client: OpenSearch,
    index: str,
    load: Any,
    encoder: LatentEncoder,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_LINES", 4)
    load(client, index, [line("0")])
    client.indices.put_settings(index=index, body={"index": {DEFAULT: pipeline(DROP, APPEND)}})
    write([line(str(n), lang="xx" if n % 5 == 0 else "en") for n in range(40)])

    def job() -> IngestJob:
        return IngestJob(client, "c.jsonl", index=index, encoder=encoder, concurrency=1)

    first = job()
    cut = first.run(lambda report, _: first.stop() if report.lines >= 12 else None)
    assert cut.report.stopped == "interrupted"
    assert 12 <= cut.report.lines < 40
    report = job().run().report
    assert adds_up(report)
    assert (report.lines, report.indexed, report.failed) == (40, 32, 8)
    assert report.resumed_after == cut.report.lines
    assert len({failure["_id"] for failure in failures(report)}) == len(failures(report)) == 8
    assert job().run().report.failed == 8
    assert len(sources(client, index)) == 33


def test_pipelines_do_not_run_when_an_index_is_enriched_in_place(
    either: OpenSearch, new_index: Any, pipeline: Pipeline, encoder: LatentEncoder
) -> None:
    name = new_index(either)
    make(either, name, HTML, dynamic=True)
    before = sources(either, name)
    settings = {
        DEFAULT: pipeline(STRIP, APPEND, on=either),
        FINAL: pipeline({"drop": {}}, on=either),
    }
    either.indices.put_settings(index=name, body={"index": settings})
    wanted = {"text_fields": ("title", "body")}
    preparation = plan(ExistingIndex.read(either, name), encoder, wanted)
    prepare(preparation, Retry(either))
    assert Enrich(either, preparation, encoder).run().ok
    assert {one: without(source) for one, source in sources(either, name).items()} == before
    assert all_done(either, name, encoder)


@pytest.fixture
def tagged(
    client: OpenSearch, index: str, pipeline: Pipeline
) -> tuple[str, dict[str, dict[str, Any]]]:
    """An index whose default and final pipeline have run once; its documents."""
    make(client, index, [], dynamic=True)
    settings = {DEFAULT: pipeline(STRIP, STAMP), FINAL: pipeline(APPEND)}
    client.indices.put_settings(index=index, body={"index": settings})
    for row in HTML:
        client.index(index=index, id=row["_id"], body=without(row, {"_id"}))
    stored = sources(client, index)
    assert [one["tags"] for one in stored.values()] == [["seen"]] * 2
    assert "<b>" in stored["1"]["body"]
    return index, stored


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "interrupted"])
def test_a_copy_has_the_documents_as_they_are(
    cut: bool,
    command: Command,
    client: OpenSearch,
    tagged: tuple[str, dict[str, dict[str, Any]]],
    pipeline: Pipeline,
    template: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    encoder: LatentEncoder,
) -> None:
    """Neither its own pipelines ran, nor those of a template; once it is in use, its own do."""
    index, stored = tagged
    template({FINAL: pipeline({"drop": {}}), DEFAULT: pipeline({"drop": {}})})
    given = ["enrich", "--index", index, "--alias", f"{index}-a", "--text-fields", "title,body"]
    if cut:

        def interrupt(copy: Copy, retry: Any, ended: threading.Event, _: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            fill(copy, retry, ended)

        fill = Copy.fill
        with monkeypatch.context() as patch:
            patch.setattr(Copy, "fill", interrupt)
            patch.setattr(copying, "ASK_SECONDS", 0)
            command(*given, code=130)
        assert not client.indices.exists_alias(name=f"{index}-a")
        assert Index(client, index).settings()["index.final_pipeline"] == f"{index}-pipeline-1"
    command(*given)
    copy = f"{index}-a-minilm-32k-1"
    assert {one: without(row) for one, row in sources(client, copy).items()} == stored
    assert all_done(client, copy, encoder)

    settings = Index(client, copy).settings()
    assert settings["index.default_pipeline"] == f"{index}-pipeline-0"
    assert settings["index.final_pipeline"] == f"{index}-pipeline-1"
    client.index(index=f"{index}-a", id="3", body={"title": "", "body": "<p>new</p>", "year": 3})
    added = sources(client, copy)["3"]
    assert (added["body"].strip(), added["tags"]) == ("new", ["seen"])


def test_a_copy_of_an_index_without_pipelines_gets_none_of_a_template(
    command: Command,
    client: OpenSearch,
    index: str,
    pipeline: Pipeline,
    template: Callable[..., None],
) -> None:
    make(client, index, HTML)
    stored = sources(client, index)
    template({FINAL: pipeline({"drop": {}}), DEFAULT: pipeline(APPEND)})
    command("enrich", "--index", index, "--alias", f"{index}-a", "--text-fields", "body")
    assert {one: without(row) for one, row in sources(client, f"{index}-a").items()} == stored
    client.index(index=f"{index}-a", id="3", body={"title": "", "body": "new", "year": 3})
    assert "tags" not in sources(client, f"{index}-a")["3"]


@pytest.mark.parametrize("ours", [True, False], ids=["this release", "an earlier one"])
def test_a_copy_that_an_earlier_release_began_is_not_resumed(
    ours: bool,
    command: Command,
    client: OpenSearch,
    tagged: tuple[str, dict[str, dict[str, Any]]],
) -> None:
    """Its pipelines have run; the copy of this release, cut as it takes the alias, is resumed."""
    index, stored = tagged
    given = ["enrich", "--index", index, "--alias", f"{index}-a", "--text-fields", "title,body"]

    def cut(*_: Any, **__: Any) -> None:
        raise TransportError(400, "the power went", {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IndicesClient, "update_aliases", cut)
        command(*given, code=1)
    first = f"{index}-a-minilm-32k-1"
    if not ours:
        meta = Index(client, first).mapping()["_meta"]
        del meta["latent_ingest"]["final_pipeline"]
        client.indices.put_mapping(index=first, body={"_meta": meta})
    command(*given)
    (behind,) = list_indices(client, f"{index}-a")
    assert behind.number == (1 if ours else 2)
    assert {one: without(row) for one, row in sources(client, behind.name).items()} == stored
    final = Index(client, behind.name).settings()["index.final_pipeline"]
    assert final == f"{index}-pipeline-1"


def test_an_index_that_requires_a_routing_refuses_the_file_in_one_line(
    command: Command, client: OpenSearch, index: str
) -> None:
    body = index_body(MappingConfig(), {})
    body["mappings"] |= {"_meta": {}, "_routing": {"required": True}}
    client.indices.create(index=index, body=body)
    done = command(write(ROWS), "--index", index, code=1)
    assert "the index takes only documents with a routing (routing is required for" in done.stderr
    assert "ingest into another index" in done.stderr


@pytest.mark.parametrize("nested", [False, True], ids=["itself", "by another"])
def test_a_pipeline_that_gives_a_routing_is_refused_unless_there_is_one_shard(
    nested: bool,
    command: Command,
    client: OpenSearch,
    index: str,
    pipeline: Pipeline,
    template: Callable[..., None],
) -> None:
    routes = name = pipeline({"set": {"field": "_routing", "value": "{{lang}}"}})
    if nested:
        name = pipeline(APPEND, {"pipeline": {"if": "true", "name": routes}})
    template({DEFAULT: name, "number_of_shards": 3})
    done = command(write(ROWS), "--index", index, code=2)
    assert f"the ingest pipeline {name} of index {index} gives documents a routing" in done.stderr
    assert sources(client, index) == {}
    client.indices.delete(index=index)
    template({DEFAULT: routes, "number_of_shards": 1})
    command("c.jsonl", "--index", index)
    command("verify", "c.jsonl", "--index", index)


def test_a_field_that_a_strict_template_does_not_know_is_named_with_the_fix(
    load: Any, client: OpenSearch, index: str, template: Callable[..., None]
) -> None:
    template({}, {"dynamic": "strict", "properties": {"lang": {"type": "keyword"}}})
    report = load(client, index, [*ROWS, line("4", colour="red")])
    assert (report.indexed, report.failed) == (3, 1)
    reason = failures(report)[0]["_failure"]["reason"]
    assert "dynamic introduction of [colour]" in reason
    assert "add the field to the mapping, or leave it out of the file" in reason


def test_a_data_stream_is_refused_in_one_line(
    command: Command, client: OpenSearch, index: str, template: Callable[..., None]
) -> None:
    """One that exists, and a name for which a template makes only data streams."""
    template({}, data_stream={})
    refused = command(write(ROWS), "--index", index, code=2)
    assert "creates data streams only" in refused.stderr
    client.transport.perform_request("PUT", f"/_data_stream/{index}")
    try:
        refused = command("c.jsonl", "--index", index, code=2)
        assert f"{index} is a data stream" in refused.stderr
        for more in ((), ("--alias", f"other-{index}")):
            refused = command("enrich", "--index", index, "--text-fields", "text", *more, code=2)
            assert f"{index} is a data stream" in refused.stderr
    finally:
        client.transport.perform_request("DELETE", f"/_data_stream/{index}")


def test_a_cluster_that_has_lost_the_pipeline_says_so(
    client: OpenSearch, index: str, load: Any
) -> None:
    load(client, index, [line("1")])
    client.indices.put_settings(index=index, body={"index": {DEFAULT: "nothing"}})
    report = load(client, index, ROWS)
    assert (report.indexed, report.failed) == (0, 3)
    assert "pipeline with id [nothing] does not exist" in failures(report)[0]["_failure"]["reason"]
    with pytest.raises(TransportError):
        client.get(index=index, id="2")
