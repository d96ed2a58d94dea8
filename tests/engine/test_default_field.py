"""The setting `index.query.default_field`: the fields of clauses that name none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.querying.asked_indices import read_fields
from latent_ingest.connector.querying.rewriter import QueryRewriter

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
