"""The clauses of a query, and how the room that is left is shared."""

from __future__ import annotations

from typing import Any

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.querying.clause_limit import count_clauses, room_for, shares
from latent_ingest.connector.querying.indices.fields import IndexFields
from latent_ingest.connector.querying.rewriter import QueryRewriter

KNOWN = IndexFields({"title": True, "text": True, "tags": True})


@pytest.mark.parametrize(
    ("query", "sure", "possible"),
    [
        ({"match": {"text": "one two three"}}, 3, 0),
        ({"match": {"text": "日本 two"}}, 3, 0),
        ({"match": {"text": {"query": "one two", "fuzziness": "AUTO"}}}, 2, 100),
        ({"multi_match": {"query": "one two", "fields": ["title", "te*"]}}, 4, 0),
        ({"query_string": {"query": "one two"}}, 6, 0),
        ({"term": {"text": {"value": "a"}}}, 1, 0),
        ({"term": {"year": {"value": 3}}}, 2, 0),
        ({"terms_set": {"text": {"terms": ["a"] * 300}}}, 300, 0),
        ({"terms_set": {"year": {"terms": [1] * 300}}}, 600, 0),
        ({"bool": {"should": [{"fuzzy": {"text": {"value": "a"}}}] * 20}}, 20, 1000),
        ({"fuzzy": {"text": {"value": "a", "max_expansions": 7}}}, 1, 7),
        ({"fuzzy": {"text": "a"}}, 1, 50),
        ({"more_like_this": {"like": "a", "max_query_terms": 9}}, 9, 0),
        ({"range": {"year": {"gte": 3}}}, 2, 0),
        ({"bool": {"must": {"match": {"text": "a b"}}, "filter": [{"term": {"a": 1}}] * 3}}, 8, 0),
        ({"constant_score": {"filter": {"bool": {"should": [{"term": {"text": "a"}}] * 4}}}}, 4, 0),
        ({"function_score": {"query": {"match": {"text": "a b c"}}, "weight": 2}}, 3, 0),
    ],
)  # fmt: skip
def test_what_a_query_counts_for(query: Any, sure: int, possible: int) -> None:
    assert count_clauses(query, KNOWN) == (sure, possible)


def test_fuzzy_words_leave_room_for_some() -> None:
    query = {"match": {"text": {"query": "a b c d e f g h", "fuzziness": "AUTO"}}}
    assert room_for([query], [], 1024, KNOWN) == 1024 - 8 - 400
    assert room_for([query, query, query], [], 1024, KNOWN) == 64
    assert room_for([query], [], 20, KNOWN) == 12


@pytest.mark.parametrize(
    ("wanted", "room", "given"),
    [
        ([60, 60], 1000, [60, 60]),
        ([60, 200, 200], 300, [60, 120, 120]),
        ([200, 10], 0, [0, 0]),
        ([5, 5, 5], 2, [0, 1, 1]),
        ([], 10, []),
    ],
)
def test_room_is_shared_alike(wanted: list[int], room: int, given: list[int]) -> None:
    assert shares(wanted, room) == given
    assert sum(given) <= room


def test_several_clauses_share_what_the_engine_takes(encoder: LatentEncoder) -> None:
    """All clauses of the request count."""
    rewriter = QueryRewriter(encoder, text_fields=["text"], max_clauses=140)
    texts = ["find files whose names look like a pattern", "stop waiting after some seconds"]
    years = {"bool": {"should": [{"term": {"year": year}} for year in range(40)]}}
    given = {
        "query": {"bool": {"should": [{"match": {"text": t}} for t in texts], "filter": [years]}}
    }
    _, report = rewriter.rewrite_and_report(given)
    assert sorted(clause.terms for clause in report.rewritten) == [23, 24]
    assert all(0.2 < clause.share < 0.9 for clause in report.rewritten)


def test_no_room_leaves_a_clause_alone(encoder: LatentEncoder) -> None:
    rewriter = QueryRewriter(encoder, text_fields=["text"], max_clauses=20)
    given = {"query": {"match": {"text": "word " * 30}}}
    body, report = rewriter.rewrite_and_report(given)
    assert body["query"] == given["query"]
    (left,) = report.untouched
    assert left.reason.startswith("no room for latent terms")
