"""The engine can skip documents: what Lucene makes of our clauses, as its profile shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch
from querying.bodies import QUESTION

from latent_ingest.connector.querying.clauses import any_of
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.term_weights import WeightedTerm

Body = dict[str, Any]

MATCH = {"match": {"text": QUESTION}}
BOOSTED = {"match": {"text": {"query": QUESTION, "boost": 3}}}
TITLE = {"match": {"title": QUESTION}}
RECENT = {"range": {"year": {"gte": 2000}}}
NESTED = {"query": {"bool": {"should": [{"bool": {"should": [BOOSTED]}}, TITLE]}}}
COUNTED = {"track_total_hits": True, "query": MATCH}


def kinds_above(query: Body, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield, of each latent term in a profiled query, the kinds of queries above it."""
    if "children" not in query and "latent:" in query["description"]:
        yield above
    for child in query.get("children", []):
        yield from kinds_above(child, (*above, query["type"]))


def wrappers(client: OpenSearch, index: str | None, body: Body) -> set[str]:
    """Return the kinds of queries above latent terms that are no `bool` without a boost."""
    answer = client.search(index=index, body={**body, "profile": True})
    (shard,) = answer["profile"]["shards"]
    (search,) = shard["searches"]
    found = [kinds for query in search["query"] for kinds in kinds_above(query)]
    assert len(found) > 20
    return {kind for kinds in found for kind in kinds} - {"BooleanQuery"}


@pytest.mark.parametrize("form", ["hybrid", "latent", "hybrid_two_phase", "two_phase"])
def test_latent_terms_of_a_question_are_not_wrapped(
    client: OpenSearch, rewriter: QueryRewriter, form: str
) -> None:
    bodies = [
        rewriter.rewrite(QUESTION, form=form),
        rewriter.rewrite(QUESTION, form=form, filter=RECENT),
        rewriter.rewrite_body({"query": BOOSTED}, form=form),
        rewriter.rewrite_body({"query": {"bool": {"should": [BOOSTED, TITLE]}}}, form=form),
        rewriter.rewrite_body(NESTED, form=form),
        rewriter.rewrite_body({"query": {"bool": {"must": [BOOSTED], "filter": [RECENT]}}}),
        rewriter.rewrite_body(COUNTED, form=form),
    ]
    for body in bodies:
        assert wrappers(client, rewriter.index, body) == set()


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ({"bool": {"should": [MATCH, TITLE], "boost": 2}}, "BoostQuery"),
        ({"dis_max": {"queries": [MATCH, BOOSTED]}}, "DisjunctionMaxQuery"),
        ({"function_score": {"query": MATCH, "weight": 2}}, "FunctionScoreQuery"),
    ],
)
def test_what_an_application_wraps_stays_wrapped(
    client: OpenSearch, rewriter: QueryRewriter, query: Body, kind: str
) -> None:
    """Lucene scores every document that matches; docs/rewriting.md says so."""
    body = rewriter.rewrite_body({"query": query})
    assert wrappers(client, rewriter.index, body) == {kind}


@pytest.fixture
def merging(client: OpenSearch) -> Iterator[None]:
    """`search.query_rewriting` is switched on."""
    name = "search.query_rewriting.enabled"
    client.cluster.put_settings(body={"transient": {name: True}})
    yield
    client.cluster.put_settings(body={"transient": {name: None}})


def scores(client: OpenSearch, index: str | None, body: Body) -> list[tuple[str, float]]:
    answer = client.search(index=index, body={**body, "size": 50})
    return [(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]]


def test_scores_survive_an_engine_that_merges_terms_of_equal_boost(
    client: OpenSearch, rewriter: QueryRewriter, request: pytest.FixtureRequest
) -> None:
    names = [item.term for item in rewriter.terms(QUESTION)[:40]]
    assert len(names) == 40
    equal = any_of([WeightedTerm(name, 1.5) for name in names], rewriter.field, 0.2)
    merged = {"bool": {"should": [{"term": {rewriter.field: {"value": n}}} for n in names]}}
    bodies = [
        {"query": equal},
        *(rewriter.rewrite(QUESTION, form=form) for form in ("hybrid", "latent", "two_phase")),
        rewriter.rewrite_body(COUNTED),
    ]
    before = [scores(client, rewriter.index, body) for body in [*bodies, {"query": merged}]]
    request.getfixturevalue("merging")
    *after, lost = [scores(client, rewriter.index, body) for body in [*bodies, {"query": merged}]]
    assert after == before[:-1]
    assert min(map(len, after)) > 10
    # The setting is on: terms of equal boost give all documents one score.
    assert len({score for _, score in lost}) == 1 < len({score for _, score in before[-1]})
