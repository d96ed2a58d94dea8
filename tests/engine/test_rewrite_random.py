"""Random requests: the engine accepts the rewritten request if it accepts the original."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError, TransportError
from querying.bodies import OTHER, QUESTION

from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form

TEXTS = st.sampled_from(
    [
        QUESTION,
        OTHER,
        "file",
        "the of",
        "",
        " ",
        "a AND b",
        "c++ 'x' (y)",
        "naïve Ω 日本語",
        "\x00\x01",
    ]
)
FIELDS = st.sampled_from(
    ["text", "text", "title", "title.plain", "words", "tags", "nowhere", "year"]
)
SPECS = st.sampled_from(["text", "title^3", "t*", "*", "tags^0.5", "nowhere", "words"])
BOOSTS = st.sampled_from([0, 0.5, 1, 2, "3"])


def some(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """At most two options, since many exclude each other."""
    names = st.lists(st.sampled_from(sorted(options)), max_size=2, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries({name: options[name] for name in chosen})
    )


LENIENCE = {
    "boost": BOOSTS,
    "operator": st.sampled_from(["and", "OR"]),
    "minimum_should_match": st.sampled_from([0, 1, 2, "75%", "-1", "2<50%"]),
    "fuzziness": st.sampled_from(["AUTO", 1]),
    "analyzer": st.sampled_from(["simple", "english"]),
    "_name": st.sampled_from(["one", "two"]),
    "lenient": st.booleans(),
}
ONE = st.builds(
    lambda kind, field, text, options: {kind: {field: {"query": text, **options}}},
    st.sampled_from(["match", "match", "match_bool_prefix", "match_phrase"]),
    FIELDS, TEXTS, some(**LENIENCE),
)  # fmt: skip
SHORT = st.builds(lambda field, text: {"match": {field: text}}, FIELDS, TEXTS)
ASKED = {name: LENIENCE[name] for name in ("boost", "minimum_should_match", "_name")}
STRINGS = {**ASKED, "lenient": st.booleans(), "default_operator": st.sampled_from(["and", "OR"])}
KINDS = {
    "multi_match": {
        **ASKED,
        "type": st.sampled_from(["best_fields", "most_fields", "cross_fields", "phrase"]),
        "tie_breaker": st.sampled_from([0.0, 0.3]),
        "operator": LENIENCE["operator"],
    },
    "combined_fields": {"operator": LENIENCE["operator"], "boost": BOOSTS},
    "query_string": STRINGS,
    "simple_query_string": {**STRINGS, "flags": st.sampled_from(["NONE", "ALL"])},
}
MANY = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.builds(
        lambda text, fields, options: {kind: {"query": text, "fields": fields, **options}},
        TEXTS,
        st.lists(SPECS, min_size=kind == "combined_fields", max_size=3),
        some(**KINDS[kind]),
    )
)
PLAIN = st.sampled_from(
    [
        {"term": {"year": 2003}},
        {"range": {"votes": {"gte": 3}}},
        {"match_all": {}},
        {"match_none": {}},
        {"exists": {"field": "place"}},
        {"term": {"latent": "f12"}},
        {"bool": {}},
        {"more_like_this": {"fields": ["text"], "like": "file", "min_doc_freq": 1}},
    ]
)


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=3)
    return st.one_of(
        some(
            must=st.one_of(inner, several),
            should=st.one_of(inner, several),
            filter=several,
            must_not=st.one_of(inner, several),
            minimum_should_match=st.sampled_from([0, 1, 2, "50%"]),
            boost=BOOSTS,
            _name=st.just("bool"),
        ).map(lambda content: {"bool": content}),
        st.lists(inner, min_size=1, max_size=3).map(lambda part: {"dis_max": {"queries": part}}),
        st.builds(
            lambda a, b: {"boosting": {"positive": a, "negative": b, "negative_boost": 0.5}},
            inner, inner,
        ),
        inner.map(lambda query: {"constant_score": {"filter": query}}),
        st.builds(
            lambda query, options: {"function_score": {"query": query, **options}},
            inner,
            some(
                boost=BOOSTS,
                min_score=st.sampled_from([0.1, 1]),
                boost_mode=st.sampled_from(["sum", "replace", "avg"]),
                weight=st.just(2),
            ),
        ),
        inner.map(lambda q: {"script_score": {"query": q, "script": {"source": "_score + 1"}}}),
        inner.map(lambda query: {"nested": {"path": "comments", "query": query}}),
    )  # fmt: skip


QUERIES = st.recursive(st.one_of(ONE, SHORT, MANY, PLAIN), compound, max_leaves=6)
OPTIONS = some(
    post_filter=QUERIES,
    size=st.sampled_from([0, 3, 100]),
    min_score=st.sampled_from([0.5, 2]),
    sort=st.sampled_from(["_score", ["year", "_score"], [{"_score": "asc"}], []]),
    track_total_hits=st.sampled_from([True, False, 3]),
    aggs=st.just({"years": {"terms": {"field": "year", "size": 50}}}),
    collapse=st.just({"field": "year"}),
    rescore=st.one_of(
        QUERIES.map(lambda query: {"window_size": 5, "query": {"rescore_query": query}}),
        st.lists(QUERIES.map(lambda q: {"query": {"rescore_query": q}}), max_size=2),
    ),
    _source=st.sampled_from([True, False, "title"]),
)
TEXT = st.builds(
    lambda text, options: {"match": {"text": {"query": text, **options}}},
    st.sampled_from([QUESTION, OTHER, "file"]), some(**LENIENCE),
)  # fmt: skip
BESIDE_TEXT = st.one_of(
    *(
        st.builds(
            lambda one, other, name=name: {"bool": {"must": [one], name: [other]}}, TEXT, QUERIES
        )
        for name in ("should", "filter", "must_not")
    ),
    st.builds(lambda one, other: {"bool": {"should": [one, other]}}, TEXT, QUERIES),
    st.builds(lambda one, other: {"dis_max": {"queries": [one, other]}}, TEXT, QUERIES),
    QUERIES,
)
BODIES = st.builds(lambda query, options: {"query": query, **options}, BESIDE_TEXT, OPTIONS)


def answer(client: OpenSearch, rewriter: QueryRewriter, body: Any) -> Any:
    """Send the request as it is, which the engine may refuse, then for all of its hits."""
    client.search(index=rewriter.index, body=body)
    whole = {**body, "size": 1000, "track_total_hits": True}
    return client.search(index=rewriter.index, body=whole)


def found_by(answer: Any) -> list[Any]:
    """Return the hits, or their groups if collapsed, since scores choose the hit of a group."""
    hits = answer["hits"]["hits"]
    return sorted(hit["fields"]["year"] if "fields" in hit else hit["_id"] for hit in hits)


@dataclass
class Counts:
    """Requests that the engine took, by what they prove."""

    taken: int = 0
    rewritten: int = 0
    kept: int = 0
    """Rewritten, with hits, and only the words decide what matches."""


@settings(
    max_examples=250, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    body=BODIES,
    form=st.sampled_from(list(Form)),
    matching=st.sampled_from([None, "expand", "keep"]),
)
def check(
    counts: Counts,
    client: OpenSearch,
    rewriter: QueryRewriter,
    body: Any,
    form: str,
    matching: str | None,
) -> None:
    """If words decide what matches, hits, totals and aggregations stay the same."""
    given = copy.deepcopy(body)
    new, report = rewriter.rewrite_and_report(body, form=form, matching=matching)
    assert body == given
    assert rewriter.rewrite_body(new, form=form, matching=matching) == new
    try:
        before = answer(client, rewriter, body)
    except (RequestError, TransportError):
        return
    after = answer(client, rewriter, new)
    counts.taken += 1
    counts.rewritten += len(report.rewritten) > 0
    if report.matching == "keep":
        assert found_by(after) == found_by(before)
        assert after["hits"]["total"] == before["hits"]["total"]
        assert after.get("aggregations") == before.get("aggregations")
        counts.kept += len(report.rewritten) * len(found_by(before)) > 0


@pytest.mark.slow
def test_what_the_engine_takes_it_takes_rewritten(
    client: OpenSearch, rewriter: QueryRewriter
) -> None:
    """With matching "keep", hits, totals and aggregations stay as the words decide them.

    Many requests are taken and rewritten, so that the comparison means something.
    """
    counts = Counts()
    check(counts, client, rewriter)
    assert counts.taken > 120
    assert counts.rewritten > 80
    assert counts.kept > 30
