"""The requests of docs/plain-queries.md, sent as they stand to an index with a question table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from indexed import indexed
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable

ROWS = {
    "42": "Cholecalciferol lowers the risk of tumbling among older adults.",
    "bees": "Honey insects dance to tell their hive where nectar is.",
    "car": "The engine of a car needs oil.",
    "bank": "Interest rates rose again.",
    "dog": "Puppies chew shoes.",
}
PAGE = Path(__file__).parents[2] / "docs" / "plain-queries.md"
BLOCKS = [
    (path, json.loads(body))
    for path, body in re.findall(r"```json\nPOST (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
]
SEARCHES = [body for path, body in BLOCKS if path.endswith("/_search")]


@pytest.fixture(scope="module", params=["opensearch", "elasticsearch"])
def papers(
    request: pytest.FixtureRequest,
    encoder: LatentEncoder,
) -> Iterator[tuple[OpenSearch, str]]:
    """An index of five documents, as what the page calls `papers`."""
    engine = "client" if request.param == "opensearch" else "elasticsearch"
    client, index = request.getfixturevalue(engine), "latent-ingest-test-papers"
    table = StoredTable.of(QuestionTable.load(), 20_000)
    assert table is not None
    assert {"vitamin", "prevent", "falls"} <= table.rules.keys()
    rows = [{"_id": name, "title": "", "text": text} for name, text in ROWS.items()]
    with indexed(client, encoder, rows, name=index, table=table):
        yield client, index


def test_every_request_finds_by_meaning(papers: tuple[OpenSearch, str]) -> None:
    """The first hit has no word of the question."""
    client, index = papers
    assert len(BLOCKS) == 9
    for path, body in BLOCKS:
        url = path.replace("papers", index)
        answer: Any = client.transport.perform_request("POST", url, body=body)
        if path.endswith("_analyze"):
            assert len(answer["tokens"]) > 20
            continue
        assert answer["hits"]["hits"][0]["_id"] == "42", (path, body)
        assert answer["_shards"]["failed"] == 0


def test_words_alone_do_not_find_it(papers: tuple[OpenSearch, str]) -> None:
    client, index = papers
    body = {"query": {"match": {"words": "does vitamin D prevent falls"}}}
    assert client.search(index=index, body=body)["hits"]["hits"] == []


def test_words_are_marked_and_latents_explained(papers: tuple[OpenSearch, str]) -> None:
    client, index = papers
    (marked,) = [body for body in SEARCHES if "highlight" in body]
    hit = client.search(index=index, body=marked)["hits"]["hits"][0]
    assert "<em>risk</em>" in hit["highlight"]["text"][0]
    assert "latent" not in hit["_source"]
    (explained,) = [body for body in SEARCHES if "explain" in body]
    hit = client.search(index=index, body=explained)["hits"]["hits"][0]
    assert re.search(r"weight\(latent:f\d+ in \d+\)", json.dumps(hit["_explanation"]))


def test_most_fields_scores_as_the_bool_does(papers: tuple[OpenSearch, str]) -> None:
    client, index = papers

    def scores(kind: str) -> dict[str, float]:
        (body,) = [b for b in SEARCHES if kind in b["query"] and "highlight" not in b]
        hits = client.search(index=index, body=body)["hits"]["hits"]
        return {hit["_id"]: hit["_score"] for hit in hits}

    assert scores("multi_match") == pytest.approx(scores("bool"), rel=1e-5)


def test_types_that_need_positions_fail_and_lenient_helps(papers: tuple[OpenSearch, str]) -> None:
    client, index = papers
    fields = ["words^7", "latent"]
    for kind in ("phrase", "phrase_prefix"):
        asked = {"query": "the risk", "type": kind, "fields": fields}
        with pytest.raises(RequestError):
            client.search(index=index, body={"query": {"multi_match": asked}})
    for kind in ("best_fields", "cross_fields", "bool_prefix"):
        asked = {"query": "does vitamin D prevent falls", "type": kind, "fields": fields}
        answer = client.search(index=index, body={"query": {"multi_match": asked}})
        assert answer["hits"]["hits"][0]["_id"] == "42"
    quoted = {"query": '"the risk"', "fields": ["words^7", "latent"], "lenient": True}
    body = {"query": {"query_string": quoted}}
    assert [h["_id"] for h in client.search(index=index, body=body)["hits"]["hits"]] == ["42"]


def test_and_finds_nothing(papers: tuple[OpenSearch, str]) -> None:
    client, index = papers
    asked = {"query": "does vitamin D prevent falls", "operator": "and"}
    body = {"query": {"match": {"latent": asked}}}
    assert client.search(index=index, body=body)["hits"]["hits"] == []


def test_a_long_text_is_cut_and_no_error(papers: tuple[OpenSearch, str]) -> None:
    client, index = papers
    body = {"query": {"match": {"latent": " ".join(ROWS.values()) * 50}}}
    assert client.search(index=index, body=body)["hits"]["hits"]
