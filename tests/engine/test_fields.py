"""Text fields: what is encoded and what is rewritten, whatever the mapping makes of a field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opensearchpy import OpenSearch, helpers
from shop import sources

from latent_ingest.cli.main import cli
from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.jobs.enrich_job import EnrichJob
from latent_ingest.connector.querying.rewriter import QueryRewriter

RENT = "The tenant did not pay rent and was evicted"
ROOF = "The landlord must repair the roof"
QUESTION = "thrown out of the flat"

PROPERTIES: dict[str, Any] = {
    "title": {"type": "text", "copy_to": "_all_text"},
    "body": {"type": "text", "copy_to": "_all_text"},
    "_all_text": {"type": "text"},
    "summary": {"type": "text"},
    "year": {"type": "integer"},
}
ROWS = [
    {"_id": "a", "title": "Rent", "body": RENT, "year": 1984},
    {"_id": "b", "title": "Roof", "body": ROOF, "year": 1985},
]

Command = Callable[..., Result]


@pytest.fixture
def command(opensearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, catch_exceptions=False)

    return invoke


Make = Callable[..., str]


@pytest.fixture
def made(client: OpenSearch, new_index: Any) -> Make:
    """An index of another application."""

    def make(properties: dict[str, Any], *rows: dict[str, Any], on: OpenSearch = client) -> str:
        name: str = new_index(on)
        on.indices.create(index=name, body={"mappings": {"properties": properties}})
        helpers.bulk(on, [{"_index": name, **row} for row in rows], refresh=True)
        return name

    return make


def corpus(*rows: dict[str, Any]) -> str:
    Path("corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "corpus.jsonl"


def lines(result: Result) -> list[str]:
    return [line.strip() for line in result.output.splitlines()]


def error_of(result: Result) -> str:
    (line,) = [line for line in lines(result) if line.startswith("Error: ")]
    return line.removeprefix("Error: ")


def found(client: OpenSearch, index: str, body: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in client.search(index=index, body=body)["hits"]["hits"]]


SHAPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "objects": ("title.en,text", {"title": {"en": "Rent", "de": None}, "text": RENT},
                f"Rent {RENT}"),
    "keys with dots": ("title.en,text", {"title.en": "Rent", "text": RENT}, f"Rent {RENT}"),
    "lists of objects": ("body.text", {"body": [{"text": "Rent", "n": 1}, {"text": RENT}]},
                         f"Rent {RENT}"),
    "lists of strings": ("more.text", {"more": {"text": ["Rent", RENT]}}, f"Rent {RENT}"),
    "a name like a metadata field's": ("_all_text", {"_all_text": RENT}, RENT),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("long", ["pool", "chunks"])
def test_ingest_verify_and_enrich_read_the_same_text(
    shape: str, long: str, command: Command, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    names, fields, text = SHAPES[shape]
    file = corpus({"_id": "a", **fields}, {"_id": "b", **fields})
    assert command(file, "--index", index, "--text-fields", names, "--long", long).exit_code == 0
    stored = list(sources(client, index).values())
    assert all(source["latent"] for source in stored)
    if long == "pool":
        assert {source["latent_hash"] for source in stored} == {text_hash(text)}
        result = command("enrich", "--index", index)
        assert "2 documents read = 2 up to date already" in lines(result)
    assert command("verify", file, "--index", index).exit_code == 0
    body = QueryRewriter.from_index(client, index, encoder).rewrite(QUESTION)
    assert found(client, index, body)


def test_long_texts_in_lists_of_objects_are_chunked_and_verified(
    command: Command, client: OpenSearch, index: str
) -> None:
    paragraphs = [{"text": f"{ROOF} in room {n}. " * 20, "n": n} for n in range(6)]
    file = corpus({"_id": "a", "body": paragraphs})
    options = ("--text-fields", "body.text", "--long", "chunks")
    assert command(file, "--index", index, *options).exit_code == 0
    assert command("verify", file, "--index", index).exit_code == 0
    chunks = sorted(sources(client, index).values(), key=lambda chunk: int(chunk["chunk"]))
    assert len(chunks) > 1
    for at, paragraph in enumerate(paragraphs):
        assert "".join(chunk["body"][at]["text"] for chunk in chunks) == paragraph["text"]


def test_an_enriched_index_verifies_documents_as_enrich_read_them(
    command: Command, made: Make
) -> None:
    """Numbers in text fields and documents without any are no errors there."""
    rows = [{"_id": "a", "title": 1984}, {"_id": "b", "year": 3}, {"_id": "c", "title": "Rent"}]
    index = made(PROPERTIES, *rows)
    assert command("enrich", "--index", index, "--text-fields", "title", "--yes").exit_code == 0
    result = command("verify", corpus(*rows), "--index", index)
    assert result.exit_code == 0, result.output
    assert "3 lines = 3 same" in lines(result)


def test_a_field_that_no_document_has_is_warned_of_once(
    command: Command, index: str, made: Make
) -> None:
    rows = [{"_id": str(n), "headline": "Rent", "content": RENT} for n in range(5)]
    result = command(corpus(*rows), "--index", index, "--text-fields", "headline,contents")
    assert result.exit_code == 0
    warnings = [line for line in lines(result) if "contents" in line]
    assert warnings == [
        "warning: corpus.jsonl: none of the first 5 documents has a field 'contents'; did you "
        "mean 'content'?"
    ]
    name = made(PROPERTIES, *ROWS)
    result = command("enrich", "--index", name, "--text-fields", "title,summary", "--yes")
    assert result.exit_code == 0
    warnings = [line for line in lines(result) if "summary" in line]
    assert warnings == [f"warning: no document of index {name} has a field 'summary'"]


def test_an_ingest_without_any_text_fails_and_moves_no_alias(
    command: Command, client: OpenSearch, index: str
) -> None:
    empty = [{"_id": "a", "text": "", "body": RENT}, {"_id": "b", "text": None, "body": ROOF}]
    result = command(corpus(*empty), "--index", index)
    assert result.exit_code == 1
    assert error_of(result) == (
        f"no document of index {index} has text in title, text; name the fields that have text "
        f"with --text-fields"
    )
    assert json.loads(command("corpus.jsonl", "--index", index, "--json").stdout)["no_text"]
    # Beside documents with text, a file may have none.
    assert command(corpus({"_id": "c", "text": RENT}), "--index", index).exit_code == 0
    assert command(corpus(empty[0]), "--index", index).exit_code == 0

    alias = f"{index}-alias"
    try:
        result = command(corpus(*empty), "--alias", alias)
        assert result.exit_code == 1
        assert error_of(result).startswith(f"alias {alias} is not created: no document has text; ")
        assert not client.indices.exists_alias(name=alias)
        result = command("corpus.jsonl", "--alias", alias, "--text-fields", "body")
        assert result.exit_code == 0, result.output
        assert client.count(index=alias)["count"] == 2
    finally:
        client.indices.delete(index=f"{alias}-*")


def test_an_enrich_without_any_text_fails_and_other_fields_can_be_named_then(
    command: Command, client: OpenSearch, made: Make
) -> None:
    index = made(PROPERTIES, *ROWS)
    named = ("enrich", "--index", index, "--text-fields")
    for again in range(2):
        result = command(*named, "summary", *([] if again else ["--yes"]))
        assert result.exit_code == 1
        assert error_of(result).startswith(f"no document of index {index} has text in summary; ")
    result = command(*named, "title,body")
    assert result.exit_code == 2
    assert error_of(result) == (
        f"index {index} is encoded from summary; all its documents will be encoded again, from "
        f"title, body; agree with --yes"
    )
    assert Index(client, index).meta().text_fields == ["summary"]
    result = command(*named, "title,body", "--yes")
    assert result.exit_code == 0
    assert "2 documents read = 2 encoded" in lines(result)
    assert sources(client, index)["a"]["latent_hash"] == text_hash(f"Rent {RENT}")
    for options in ([], ["--text-fields", "title,body"]):
        result = command("enrich", "--index", index, *options)
        assert "2 documents read = 2 up to date already" in lines(result)
    result = command(*named, "latent", "--yes")
    assert result.exit_code == 2
    assert error_of(result).startswith(f"no field 'latent' in index {index}; name others")


def test_a_copy_without_any_text_does_not_take_the_alias(
    command: Command, client: OpenSearch, made: Make
) -> None:
    index = made(PROPERTIES, *ROWS)
    alias = f"{index}-alias"
    try:
        result = command("enrich", "--index", index, "--text-fields", "summary", "--alias", alias)
        assert result.exit_code == 1
        assert error_of(result).startswith(f"alias {alias} is not created: no document has text; ")
        result = command("enrich", "--index", index, "--text-fields", "body", "--alias", alias)
        assert result.exit_code == 0, result.output
        assert client.indices.exists_alias(name=alias)
    finally:
        client.indices.delete(index=f"{alias}-*")


def test_the_target_of_copy_to_stands_for_its_sources(
    command: Command, client: OpenSearch, made: Make, encoder: LatentEncoder
) -> None:
    rows = [*ROWS, {"_id": "c", "_all_text": "Quiet hours"}]
    index = made(PROPERTIES, *rows)
    options = ("--text-fields", "title,_all_text", "--yes")
    result = command("enrich", "--index", index, *options)
    assert result.exit_code == 0, result.output
    assert "without text" not in result.output
    stored = sources(client, index)
    assert stored["a"]["latent_hash"] == text_hash(f"Rent {RENT}")
    assert stored["c"]["latent_hash"] == text_hash("Quiet hours")
    again = command("enrich", "--index", index, *options)
    assert "3 documents read = 3 up to date already" in lines(again)
    meta = Index(client, index).meta()
    assert (meta.text_fields, meta.words_fields) == (
        ["title", "body", "_all_text"],
        ["title", "_all_text"],
    )
    rewriter = QueryRewriter.from_index(client, index, encoder)
    body = {"query": {"match": {"_all_text": {"query": QUESTION}}}}
    for fields in (None, ["_all_text"], ["body", "_all_text"]):
        made_body, report = rewriter.rewrite_and_report(body, fields=fields)
        assert [clause.fields for clause in report.rewritten] == [("_all_text",)]
        assert found(client, index, made_body)[0] == "a"
    Path("body.json").write_text(json.dumps(body))
    result = command("rewrite", "--index", index, "--body", "body.json", "--fields", "_all_txt")
    assert "did you mean '_all_text'" in error_of(result)


KINDS: dict[str, Any] = {
    "short": {"type": "match_only_text", "fields": {"typed": {"type": "search_as_you_type"}}},
    "typed": {"type": "search_as_you_type", "fields": {"short": {"type": "match_only_text"}}},
    "more": {"properties": {"short": {"type": "alias", "path": "short"}}},
    "name": {"type": "keyword", "fields": {"words": {"type": "text"},
                                           "wild": {"type": "wildcard"}}},
    "words": {"type": "alias", "path": "name.words"},
    "pattern": {"type": "wildcard"},
    "flat": {"type": "flat_object"},
    "year": {"type": "integer"},
}  # fmt: skip
KIND_ROWS = [
    {"_id": "a", "short": RENT, "typed": RENT, "name": RENT, "pattern": RENT, "year": 1984},
    {"_id": "b", "short": ROOF, "typed": ROOF, "name": ROOF, "flat": {"text": ROOF}},
]


@pytest.mark.parametrize(
    ("named", "text_field", "searched"),
    [
        ("short", "short", ["short", "short.typed", "short.typed._2gram", "more.short"]),
        ("more.short", "short", ["short", "more.short", "short.typed._3gram"]),
        ("typed", "typed", ["typed", "typed._2gram", "typed._index_prefix", "typed.short"]),
        ("typed.short", "typed", ["typed", "typed.short"]),
        ("name.words", "name", ["name.words", "words"]),
        ("words", "name", ["name.words", "words"]),
        ("name", "name", ["name", "name.words", "words"]),
        ("pattern", "pattern", ["pattern"]),
    ],
)
def test_fields_are_encoded_and_rewritten_as_what_they_are(
    named: str,
    text_field: str,
    searched: list[str],
    command: Command,
    client: OpenSearch,
    made: Make,
    encoder: LatentEncoder,
) -> None:
    index = made(KINDS, *KIND_ROWS)
    result = command("enrich", "--index", index, "--text-fields", named, "--yes")
    assert result.exit_code == 0, result.output
    assert Index(client, index).meta().text_fields == [text_field]
    assert sources(client, index)["a"]["latent_hash"] == text_hash(RENT)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    assert found(client, index, rewriter.rewrite(QUESTION))[0] == "a"
    for field in searched:
        for fields in (None, [field]):
            body = {"query": {"match": {field: QUESTION}}}
            new, report = rewriter.rewrite_and_report(body, fields=fields)
            assert [clause.fields for clause in report.rewritten] == [(field,)], field
            assert found(client, index, new)[0] == "a"
    body = {"query": {"multi_match": {"query": QUESTION, "fields": searched}}}
    _, report = rewriter.rewrite_and_report(body)
    assert [clause.other_fields for clause in report.rewritten] == [()]
    _, report = rewriter.rewrite_and_report({"query": {"match": {"year": "1984"}}})
    assert [clause.reason for clause in report.untouched] == ["year does not feed the latent field"]


def test_both_engines_describe_fields_alike(
    either: OpenSearch, made: Make, encoder: LatentEncoder
) -> None:
    properties = {
        "typed": {"type": "search_as_you_type", "copy_to": "_all_text"},
        "alias": {"type": "alias", "path": "typed"},
        "_all_text": {"type": "text"},
    }
    index = made(
        properties, *({"_id": row["_id"], "typed": row["body"]} for row in ROWS), on=either
    )
    assert EnrichJob(either, index=index, text_fields=["alias"], encoder=encoder).run().ok
    rewriter = QueryRewriter.from_index(either, index, encoder)
    parts = ["typed", "typed._2gram", "typed._3gram"]
    for fields in (parts, ["typed*"], ["alias"], ["_all_text"], ["*"], [*parts, "alias"]):
        asked = {"query": QUESTION, "type": "bool_prefix", "fields": fields}
        new, report = rewriter.rewrite_and_report({"query": {"multi_match": asked}})
        (clause,) = report.rewritten
        others = ("*",) if fields == ["*"] else ()  # among them the hash of the text
        assert clause.other_fields == others
        assert found(either, index, new)[0] == "a"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("name.wild", "is derived from 'name'; name that"),
        ("flat.text", "is inside 'flat' of type flat_object"),
        ("year", "is of type integer, not text"),
        ("_source", "no field '_source' in index"),
    ],
)
def test_what_cannot_be_encoded_changes_nothing(
    named: str, message: str, command: Command, client: OpenSearch, made: Make
) -> None:
    index = made(KINDS, *KIND_ROWS)
    before = client.indices.get(index=index)
    result = command("enrich", "--index", index, "--text-fields", named, "--yes")
    assert result.exit_code == 2
    assert message in error_of(result)
    assert client.indices.get(index=index) == before


def test_metadata_fields_are_no_text_fields(command: Command, index: str) -> None:
    result = command(corpus({"_id": "a", "text": RENT}), "--index", index, "--text-fields", "_id")
    assert result.exit_code == 2
    assert error_of(result) == "field '_id' is the engine's own and holds no text"
