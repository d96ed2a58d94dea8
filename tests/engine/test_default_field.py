"""The setting `index.query.default_field`: the fields of clauses that name none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.querying.indices.fields import read_fields
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable

ROWS = {
    "bees": {"text": "Honey insects dance to tell their hive where nectar is.", "sku": "A 17"},
    "hive": {"text": "A wooden box for a swarm.", "sku": "bees 4"},
}
CLAUSES = ["multi_match", "query_string", "simple_query_string"]


def set_default(client: OpenSearch, index: str, fields: list[str]) -> None:
    client.indices.put_settings(index=index, body={"index.query.default_field": fields})


def found(client: OpenSearch, index: str, body: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in client.search(index=index, body=body)["hits"]["hits"]]


@pytest.mark.parametrize("kind", CLAUSES)
def test_a_clause_without_fields_searches_the_default_fields(
    kind: str, either: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    index = new_index(either)
    load(either, index, [json.dumps({"_id": name, **row}) for name, row in ROWS.items()])
    assert read_fields(either, index).default == ("*",)  # type: ignore[union-attr]
    body = {"query": {kind: {"query": "bees"}}}

    _, report = QueryRewriter.from_index(either, index, encoder).rewrite_and_report(body)
    assert len(report.rewritten) == 1

    set_default(either, index, ["sku^2"])
    rewriter = QueryRewriter.from_index(either, index, encoder)
    made, report = rewriter.rewrite_and_report(body)
    assert not report.rewritten
    assert [clause.reason for clause in report.untouched] == ["sku does not feed the latent field"]
    assert found(either, index, made) == found(either, index, body) == ["hive"]

    set_default(either, index, ["sku", "text"])
    rewriter = QueryRewriter.from_index(either, index, encoder)
    made, report = rewriter.rewrite_and_report(body)
    assert [clause.fields for clause in report.rewritten] == [("text",)]
    assert set(found(either, index, made)) == {"bees", "hive"}


def test_indices_that_search_different_fields_by_default_are_left_alone(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    names = [new_index(), new_index()]
    for index in names:
        load(client, index, [json.dumps({"_id": name, **row}) for name, row in ROWS.items()])
    set_default(client, names[0], ["sku"])
    rewriter = QueryRewriter.from_index(client, ",".join(names), encoder)
    _, report = rewriter.rewrite_and_report({"query": {"multi_match": {"query": "bees"}}})
    assert not report.rewritten
    (clause,) = report.untouched
    assert clause.reason == "its indices search different fields by default"


@pytest.mark.question_tables
@pytest.mark.parametrize("kind", CLAUSES)
@pytest.mark.parametrize("fields", [None, ["*"], ["*nt", "text", "label^2"]])
def test_words_do_not_search_the_latent_field_where_that_finds_by_meaning(
    kind: str, fields: list[str] | None, either: OpenSearch, new_index: Any, encoder: LatentEncoder
) -> None:
    """A clause on all fields searches the latent field, too, which has a question table here."""
    index = new_index(either)
    table = StoredTable.of(QuestionTable.load(), 2000)
    assert table is not None
    meta = open_index(either, index, encoder, {}, None, table)
    others = {
        "place": {"type": "geo_point"}, "year": {"type": "integer"}, "day": {"type": "date"},
        "parts": {"type": "nested", "properties": {"name": {"type": "text"}}},
        "label": {"type": "keyword"}, "range": {"type": "integer_range"},
    }  # fmt: skip
    either.indices.put_mapping(index=index, body={"properties": others})
    rows = [
        {"_id": "words", "text": "music and water", "year": 2024, "place": "1,1"},
        {"_id": "meaning", "text": "songs of the river", "label": "x", "parts": [{"name": "y"}]},
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Ingest(either, index, encoder, meta, "rows.jsonl").run().ok
    clause: dict[str, Any] = {"query": "music"}
    if fields:
        clause["fields"] = fields
    plain = {"query": {kind: clause}}
    assert "meaning" in found(either, index, plain)
    rewriter = QueryRewriter.from_index(either, index, encoder)
    kept, report = rewriter.rewrite_and_report(plain, matching="keep", form="hybrid")
    assert len(report.rewritten) == 1
    assert found(either, index, kept) == ["words"]
    again, report = rewriter.rewrite_and_report(kept)
    assert again == kept
    expanded = rewriter.rewrite_body(plain, matching="expand", form="hybrid")
    assert found(either, index, expanded) == ["words", "meaning"]
