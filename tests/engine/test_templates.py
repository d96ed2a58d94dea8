"""Index templates of the engine that change a new index: said, or refused without a trace."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lines import line, logged
from opensearchpy import OpenSearch
from shop import make

from latent_ingest.cli.main import cli
from latent_ingest.connector import EnrichJob, IngestJob
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare

Put = Callable[..., str]


@pytest.fixture
def put(index: str) -> Iterator[Put]:
    """Put a template for the names that begin with that of the index; returns its name."""
    name = f"t-{index}"
    used: list[tuple[OpenSearch, bool]] = []

    def put(on: OpenSearch, template: dict[str, Any], *, legacy: bool = False, **more: Any) -> str:
        used.append((on, legacy))
        patterns = {"index_patterns": [f"{index}*"]}
        if legacy:
            on.indices.put_template(name=name, body={**patterns, **template})
        else:
            body = {**patterns, "template": template, "priority": 7, **more}
            on.indices.put_index_template(name=name, body=body)
        return name

    yield put
    for on, legacy in used:
        if legacy:
            on.indices.delete_template(name=name, ignore=404)
        else:
            on.indices.delete_index_template(name=name, ignore=404)


@pytest.fixture(params=[False, True], ids=["composable", "legacy"])
def legacy(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"mappings": {"_source": {"enabled": False}}}, "a mapping that disables _source"),
    "routing": ({"mappings": {"_routing": {"required": True}}}, "a mapping that requires _routing"),
    "block": ({"settings": {"index.blocks.write": True}}, "index.blocks.write"),
    "read-only": ({"settings": {"index.blocks.read_only": True}}, "index.blocks.read_only"),
    "hidden": ({"settings": {"index.blocks.metadata": True}}, "index.blocks.metadata"),
    "similarity": (
        {"settings": {"index.similarity.latent_bm25": {"type": "BM25", "discount_overlaps": "no"}}},
        "discount_overlaps 'no' instead of None",
    ),
    "analyzer": (
        {
            "settings": {
                "index.analysis.analyzer.latent_terms": {
                    "type": "custom",
                    "tokenizer": "standard",
                    "char_filter": ["html_strip"],
                }
            }
        },
        "index.analysis.analyzer.latent_terms.char_filter ['html_strip'] instead of None",
    ),
    "append only": ({"settings": {"index.append_only.enabled": True}}, "index.append_only.enabled"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_index_that_a_template_makes_useless_is_removed_again(
    client: OpenSearch, index: str, encoder: LatentEncoder, put: Put, legacy: bool, case: str
) -> None:
    template, problem = REFUSED[case]
    if case == "append only" and EngineInfo.read(client).version < (3,):
        pytest.skip("such indices are of OpenSearch 3 and later")
    if case == "similarity":
        template["settings"]["index.similarity.latent_bm25"]["discount_overlaps"] = "false"
        problem = "discount_overlaps 'false' instead of None"
    name = put(client, template, legacy=legacy)
    with pytest.raises(InputError) as raised:
        open_index(client, index, encoder, {})
    said = str(raised.value)
    assert f"index {index} cannot hold latent terms, since index template '{name}' gives" in said
    assert problem in said
    assert not client.indices.exists(index=index)


def test_a_field_that_a_template_changes(
    either: OpenSearch, encoder: LatentEncoder, put: Put, index: str, caplog: Any
) -> None:
    """Old templates are mixed into fields. The latent field is refused, words are warned of."""
    name = f"{index}-1"
    fields = {"title": {"type": "text", "index": False, "fields": {"raw": {"type": "keyword"}}}}
    put(either, {"mappings": {"properties": fields, "dynamic": "strict"}}, legacy=True)
    try:
        open_index(either, name, encoder, {})
    finally:
        either.indices.delete(index=name, ignore=404)
    strict, title = logged(caplog)
    assert "documents with other fields than its mapping has will be refused" in strict
    assert "the field title has index False, so words may be found otherwise" in title
    assert f"(from index template 't-{index}')" in title
    put(
        either,
        {"mappings": {"properties": {"latent": {"type": "text", "norms": False}}}},
        legacy=True,
    )
    with pytest.raises(InputError, match="the field latent with norms False"):
        open_index(either, name, encoder, {})
    assert not either.indices.exists(index=name)


def test_templates_that_change_nothing_of_ours_are_not_spoken_of(
    client: OpenSearch, index: str, encoder: LatentEncoder, put: Put, legacy: bool, caplog: Any
) -> None:
    title = {"type": "text"} if legacy else {"type": "text", "index": False}
    template = {
        "settings": {"index.refresh_interval": "9s", "index.similarity.default.type": "boolean"},
        "mappings": {
            "_meta": {"team": "x"},
            "properties": {"year": {"type": "integer"}, "title": title},
        },
        "aliases": {f"{index}-all": {}},
    }
    put(client, template, legacy=legacy)
    for number, wanted in enumerate([{}, {"analyzer": "standard"}, {"spelling": "delimited"}]):
        name = f"{index}-{number}"
        try:
            open_index(client, name, encoder, {"scale": 3.0, **wanted})
            assert Index(client, name).settings()["index.refresh_interval"] == "9s"
        finally:
            client.indices.delete(index=name, ignore=404)
    assert logged(caplog) == []


def test_a_name_for_data_streams_is_refused_with_the_template(
    client: OpenSearch, index: str, encoder: LatentEncoder, put: Put
) -> None:
    name = put(client, {}, data_stream={})
    with pytest.raises(InputError, match=f"data streams only.*index template '{name}' applies"):
        open_index(client, index, encoder, {})


def test_a_version_does_not_take_its_alias_from_a_template(
    client: OpenSearch, index: str, encoder: LatentEncoder, put: Put, legacy: bool, caplog: Any
) -> None:
    """Neither the first nor the second, nor a copy; they take it when they are complete."""
    alias = f"{index}-alias"
    put(client, {"aliases": {alias: {}}}, legacy=legacy)
    Path("c.jsonl").write_text(line("a"))
    pointed: list[list[str]] = []

    def look(*_: Any) -> None:
        pointed.append([*client.indices.get_alias(name=alias, ignore=404)])

    try:
        for _ in range(2):
            result = IngestJob(client, "c.jsonl", alias=alias, encoder=encoder).run(look)
            assert result.ok
            assert list(client.indices.get_alias(name=alias)) == [result.index]
            Path("c.jsonl").write_text(line("a") + "\n" + line("b"))
        assert pointed[0] != [f"{alias}-minilm-32k-1"]
        assert [f"{alias}-minilm-32k-1", f"{alias}-minilm-32k-2"] not in map(sorted, pointed)
        assert sum("gives" in said and alias in said for said in logged(caplog)) == 2
    finally:
        client.indices.delete(index=f"{alias}-*")


def test_a_copy_is_compared_with_its_source(
    client: OpenSearch, index: str, encoder: LatentEncoder, put: Put
) -> None:
    make(client, index, [{"_id": "a", "title": "bees", "body": "honey"}])
    before = client.indices.get(index=index)
    put(client, {"mappings": {"_source": {"enabled": False}}})
    job = EnrichJob(client, index, alias=f"{index}-v", text_fields=["title"], encoder=encoder)
    with pytest.raises(InputError, match="disables _source"):
        job.run()
    assert client.indices.get(index=f"{index}*") == before


@pytest.fixture
def command(opensearch_url: str, encoder: LatentEncoder, index: str, monkeypatch: Any) -> Any:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda *_: encoder)

    def invoke(name: str, *arguments: str) -> Result:
        done = CliRunner().invoke(cli, [name, *arguments, "--index", index])
        assert not isinstance(done.exception, (KeyError, TypeError, AttributeError)), done.exception
        return done

    return invoke


def test_what_is_left_out_of_source_is_said_and_nothing_fails_with_a_traceback(
    command: Any, client: OpenSearch, put: Put
) -> None:
    put(client, {"mappings": {"_source": {"excludes": ["text"]}}})
    Path("c.jsonl").write_text(line("a", title="Bees"))
    done = command("ingest", "c.jsonl")
    assert done.exit_code == 0, done.output
    assert "keeps only a part of its documents" in done.stderr
    assert "'verify' and 'enrich' refuse it" in done.stderr
    for name, argument, code in ("verify", "c.jsonl", 1), ("enrich", "--yes", 1):
        done = command(name, argument)
        assert done.exit_code == code
        assert "keeps only a part of its documents" in done.stderr.splitlines()[-1]
    for options in [], ["--highlight"], ["--explain"], ["--compare"]:
        done = command("search", "bees", *options)
        assert done.exit_code == 0, (done.output, done.exception)
        assert "Bees" in done.stdout


def test_an_index_that_keeps_no_documents_is_said_in_one_line(
    command: Any, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """As an earlier version made it."""
    open_index(client, index, encoder, {})
    found = client.indices.get(index=index)[index]["mappings"]
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    own = {key: settings[key] for key in ("similarity", "analysis")}
    client.indices.delete(index=index)
    body = {"settings": own, "mappings": {**found, "_source": {"enabled": False}}}
    client.indices.create(index=index, body=body)
    client.index(index=index, id="a", body={"text": "bees", "latent": "L1"}, refresh=True)
    Path("c.jsonl").write_text(line("a", "bees"))
    for name, argument in ("verify", "c.jsonl"), ("search", "bees"), ("enrich", "--yes"):
        done = command(name, argument)
        assert done.exit_code == 1, name
        assert "_source is disabled" in done.stderr.splitlines()[-1]


# An index that has no documents yet takes other settings.


@pytest.mark.parametrize(
    "wanted",
    [
        {"text_fields": ("headline", "content")},
        {"scale": 2.0, "lean": True},
        {"spelling": "delimited", "latent_field": "terms", "analyzer": "standard"},
        {"long": "chunks"},
        {"ids": "engine"},
    ],
    ids=lambda wanted: "-".join(wanted),
)
def test_an_index_without_documents_takes_other_settings(
    client: OpenSearch, index: str, encoder: LatentEncoder, load: Any, wanted: Any, caplog: Any
) -> None:
    """And keeps what somebody else gave it; it is then as if it had been made that way."""
    fresh = f"{index}-fresh"
    open_index(client, index, encoder, {"text_fields": ("title",)})
    client.indices.put_mapping(index=index, body={"properties": {"year": {"type": "integer"}}})
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": "9s"}})
    client.indices.put_alias(index=index, name=f"{index}-a")
    try:
        meta = open_index(client, f"{index}-a", encoder, wanted)
        open_index(client, fresh, encoder, {"text_fields": ("title",), **wanted})
        ours, theirs = (client.indices.get(index=name)[name] for name in (index, fresh))
    finally:
        client.indices.delete(index=fresh, ignore=404)
    assert Index(client, index).meta() == meta
    assert ours["mappings"]["properties"].pop("year") == {"type": "integer"}
    assert ours["mappings"] == theirs["mappings"]
    settings = ours["settings"]["index"]
    assert settings["refresh_interval"] == "9s"
    for part in ("similarity", "analysis"):
        assert settings[part] == theirs["settings"]["index"][part]
    assert "blocks" not in settings
    assert [*ours["aliases"]] == [f"{index}-a"]
    assert f"index {index} had no documents: it was made anew" in caplog.text
    row = {"_id": "a", "headline": "bees", "title": "bees", "text": "bees"}
    assert load(client, index, [json.dumps(row)]).ok
    if wanted != {"long": "chunks"}:
        with pytest.raises(MismatchError, match="was made with"):
            open_index(client, index, encoder, {"text_fields": ("other",)})


def test_an_index_without_documents_takes_another_model(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    other = LatentEncoder.load(device="cpu", dtype="float32", k=8)
    open_index(client, index, encoder, {})
    assert open_index(client, index, other, {}).k == 8
    assert Index(client, index).meta().k == 8
    client.index(index=index, id="a", body={"title": "x"})
    with pytest.raises(MismatchError, match="was made by model"):
        open_index(client, index, encoder, {})
    assert client.count(index=index)["count"] == 1


def test_an_index_that_cannot_be_made_anew_is_as_it_was(
    client: OpenSearch, index: str, encoder: LatentEncoder, put: Put
) -> None:
    open_index(client, index, encoder, {})
    before = client.indices.get(index=index)[index]
    with pytest.raises(InputError, match="klingon"):
        open_index(client, index, encoder, {"analyzer": "klingon"})
    assert client.indices.get(index=index)[index]["mappings"] == before["mappings"]
    put(client, {"mappings": {"_routing": {"required": True}}})
    with pytest.raises(InputError, match="requires _routing"):
        open_index(client, index, encoder, {"scale": 2.0})
    assert Index(client, index).meta().scale == 1.0


def test_an_index_that_is_being_loaded_is_not_made_anew(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    open_index(client, index, encoder, {})
    client.indices.put_alias(index=index, name=f"{index}.loading-1-{uuid.uuid4().hex[:8]}")
    with pytest.raises(MismatchError, match="was made with scale"):
        open_index(client, index, encoder, {"scale": 2.0})


def test_an_empty_index_of_somebody_else_takes_other_fields_in_place(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    make(client, index, [])
    uuid_before = Index(client, index).uuid()
    for wanted in {"text_fields": ("title",)}, {"text_fields": ("body", "title")}:
        prepare(plan(ExistingIndex.read(client, index), encoder, wanted), Retry(client))
        assert Index(client, index).meta().text_fields == list(wanted["text_fields"])
    assert Index(client, index).uuid() == uuid_before
    with pytest.raises(InputError, match="no field 'bodi'"):
        plan(ExistingIndex.read(client, index), encoder, {"text_fields": ("bodi",)})
    client.index(index=index, id="a", body={"title": "x"}, refresh=True)
    again = plan(ExistingIndex.read(client, index), encoder, {"text_fields": ("title",)})
    assert again.warning
    assert "all its documents will be encoded again, from title" in again.warning
