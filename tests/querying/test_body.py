"""Request bodies: their forms, their matching and their reports, without a server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.indices.fields import IndexFields
from latent_ingest.connector.querying.indices.source import Source
from latent_ingest.connector.querying.rewriter import QueryRewriter

QUESTION = "does vitamin D prevent falls"

MATCH = {"match": {"text": QUESTION}}

VOTES = {"source": "doc['votes'].value"}


@pytest.fixture(scope="module")
def rewriter(encoder: LatentEncoder) -> QueryRewriter:
    return QueryRewriter(encoder, text_fields=["title", "text"])


def test_the_words_of_operators_decide_in_every_form(rewriter: QueryRewriter) -> None:
    clause = {"query_string": {"query": "(vitamin AND D) -falls", "fields": ["text"]}}
    for matching in (None, "keep", "expand"):
        for form, where in (("hybrid", "must"), ("latent", "filter"), ("two_phase", "filter")):
            made, report = rewriter.rewrite_and_report(
                {"query": clause}, form=form, matching=matching
            )
            assert made["query"]["bool"][where] == [clause]
            note = "its query has operators: its words decide what it matches"
            assert [c.notes for c in report.rewritten] == [(note,)]
    terms = [item.term for item in rewriter.terms("vitamin D")]
    assert sorted(re.findall(r"f\d+", json.dumps(rewriter.rewrite_body({"query": clause})))) == (
        sorted(terms)
    )


def rescored(query: Any) -> Any:
    return {"window_size": 5, "query": {"rescore_query": query}}


def scored(**functions: Any) -> Any:
    return {"function_score": {"query": MATCH, **functions}}


def by_script(field: str) -> Any:
    return {"terms_set": {field: {"terms": ["a"], "minimum_should_match_script": VOTES}}}


def test_nested_text_that_feeds_the_latent_field_is_one_clause(encoder: LatentEncoder) -> None:
    """Latent terms are of the whole document: they stand beside the nested clause, not in it."""
    rewriter = QueryRewriter(encoder, text_fields=["notes.text"])
    inner = {"match": {"notes.text": {"query": QUESTION, "boost": 2}}}
    nested = {"nested": {"path": "notes", "query": inner, "boost": 3}}
    body, report = rewriter.rewrite_and_report({"query": nested})
    words, latent = body["query"]["bool"]["should"]
    assert words == nested
    heaviest = latent["bool"]["should"][0]["term"]["latent"]["boost"]
    weight = rewriter.terms(QUESTION)[0].weight
    assert heaviest == pytest.approx(6 * rewriter.latent_boost * weight, rel=1e-5)
    assert [clause.path for clause in report.rewritten] == ["query.nested"]


def test_demands_on_words_hold_in_every_form(rewriter: QueryRewriter) -> None:
    """They decide what matches, unless the caller says "expand", and then in no other form."""
    clause = {"match": {"text": {"query": QUESTION, "operator": "and", "_name": "all"}}}
    kept = rewriter.rewrite_body({"query": clause})["query"]["bool"]
    assert kept["must"] == [clause]
    alone = rewriter.rewrite_body({"query": clause}, form="latent")["query"]["bool"]
    assert alone["filter"] == [clause]
    wide = rewriter.rewrite_body({"query": clause}, matching="expand")["query"]["bool"]
    assert wide["should"][0] == clause
    alone = rewriter.rewrite_body({"query": clause}, form="latent", matching="expand")
    assert alone["query"]["bool"]["filter"] == [clause]


def test_a_name_stays_where_words_are_replaced(rewriter: QueryRewriter) -> None:
    clause = {"match": {"text": {"query": QUESTION, "_name": "asked"}}}
    assert rewriter.rewrite_body({"query": clause}, form="latent")["query"]["bool"]["_name"] == (
        "asked"
    )


@pytest.mark.parametrize(
    ("options", "matching"),
    [
        ({}, "expand"),
        ({"size": 5, "from": 10, "track_total_hits": False}, "expand"),
        ({"sort": ["_score", "year"]}, "expand"),
        ({"track_total_hits": 100}, "expand"),
        ({"aggs": {"years": {"terms": {"field": "year"}}}}, "keep"),
        ({"track_total_hits": True}, "keep"),
        ({"track_total_hits": 1_000_000}, "keep"),
        ({"track_total_hits": "true"}, "keep"),
        ({"track_total_hits": "20000"}, "keep"),
        ({"track_total_hits": "false"}, "expand"),
        ({"size": "0"}, "keep"),
        ({"size": 0}, "keep"),
        ({"sort": {"year": "desc"}}, "keep"),
        ({"sort": [{"_score": "asc"}]}, "keep"),
        ({"sort": {"_score": {"order": "ASC"}}}, "keep"),
        ({"sort": {"_score": "desc", "year": "asc"}}, "expand"),
        ({"sort": {"year": "desc", "_score": "desc"}}, "keep"),
    ],
)
def test_the_matching_that_suits_a_request(
    rewriter: QueryRewriter, options: dict[str, Any], matching: str
) -> None:
    body, report = rewriter.rewrite_and_report({"query": MATCH, **options})
    assert report.matching == report.rewritten[0].matching == matching
    assert body["query"]["bool"]["must" if matching == "keep" else "should"][0] == MATCH


@pytest.mark.parametrize(
    ("body", "matching"),
    [
        ({"query": {"script_score": {"query": MATCH, "script": VOTES}}}, "keep"),
        ({"query": scored(functions=[{"script_score": {"script": VOTES}}])}, "keep"),
        ({"query": scored(script_score={"script": "doc['votes'].value"})}, "keep"),
        ({"query": {"bool": {"should": [scored(script_score={"script": VOTES})]}}}, "keep"),
        ({"query": scored(field_value_factor={"field": "votes"})}, "keep"),
        ({"query": scored(field_value_factor={"field": "votes", "missing": 1})}, "expand"),
        ({"query": scored(functions=[{"gauss": {"year": {"origin": 1, "scale": 1}}}])}, "expand"),
        ({"query": {"bool": {"must": MATCH, "filter": {"script": {"script": VOTES}}}}}, "keep"),
        ({"query": MATCH, "post_filter": {"script": {"script": VOTES}}}, "keep"),
        ({"query": MATCH, "script_fields": {"twice": {"script": VOTES}}}, "keep"),
        ({"query": MATCH, "rescore": rescored(scored(script_score={"script": VOTES}))}, "keep"),
        ({"query": {"bool": {"must": [MATCH], "should": [by_script("tags")]}}}, "keep"),
        ({"query": MATCH, "sort": {"_script": {"type": "number", "script": VOTES}}}, "keep"),
        ({"query": {"bool": {"must": MATCH, "filter": {"term": {"script": "a"}}}}}, "expand"),
        ({"query": {"bool": {"must": MATCH, "should": [{"match": {"script": "a"}}]}}}, "expand"),
        ({"query": {"bool": {"should": [MATCH, {"rank_feature": {"field": "pr"}}]}}}, "expand"),
        ({"query": MATCH, "highlight": {"fields": {"script": {}}}}, "expand"),
    ],
)
def test_words_decide_where_a_script_would_see_other_documents(
    rewriter: QueryRewriter, body: dict[str, Any], matching: str
) -> None:
    """It fails on one that lacks a field that it reads."""
    _, report = rewriter.rewrite_and_report(body)
    assert report.matching == matching
    assert len(report.rewritten) >= 1
    _, report = rewriter.rewrite_and_report(body, matching="expand")
    assert report.matching == "expand"


@pytest.mark.parametrize(
    "options",
    [
        {"sort": ["year"]}, {"sort": ["_score", "year"]}, {"collapse": {"field": "year"}},
        {"sort": ["_doc"], "search_after": [3]}, {"min_score": 3}, {"size": 0},
        {"sort": {"_score": "desc", "year": "asc"}}, {"sort": [{"_score": "desc", "year": "asc"}]},
        {"indices_boost": [{"papers": 2}]},
    ],
)  # fmt: skip
def test_one_phase_where_hits_cannot_be_rescored(
    rewriter: QueryRewriter, options: dict[str, Any]
) -> None:
    given = {"query": MATCH, **options}
    body, report = rewriter.rewrite_and_report(given, form="hybrid_two_phase")
    assert body == rewriter.rewrite_body(given, form="hybrid")
    assert report.notes[0].startswith("hybrid instead of hybrid_two_phase: ")


def test_the_second_phase_comes_before_what_rescores_already(rewriter: QueryRewriter) -> None:
    theirs = {"window_size": 20, "query": {"rescore_query": {"match_phrase": {"text": "a b"}}}}
    given = {"query": MATCH, "rescore": theirs, "from": 50, "size": 300}
    *ours, kept = rewriter.rewrite_body(given, form="two_phase", head_terms=5)["rescore"]
    assert kept == theirs
    assert [phase["window_size"] for phase in ours] == [300, 300]
    assert all("latent" in json.dumps(phase) for phase in ours)


def test_each_text_is_encoded_once(
    rewriter: QueryRewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    weigh = rewriter._weigh
    monkeypatch.setattr(rewriter, "_weigh", lambda texts: asked.extend(texts) or weigh(texts))
    again = {"match": {"title": QUESTION}}
    rewriter.rewrite_body({"query": {"bool": {"should": [MATCH, again], "must": [MATCH]}}})
    assert asked == [QUESTION]


def test_a_report_says_what_was_pruned(encoder: LatentEncoder) -> None:
    rewriter = QueryRewriter(encoder, text_fields=["text"], max_query_terms=10)
    given = {
        "query": {
            "bool": {
                "must": [{"multi_match": {"query": QUESTION, "fields": ["text", "author"]}}],
                "should": [{"match_phrase": {"text": "vitamin D"}}],
            }
        }
    }
    _, report = rewriter.rewrite_and_report(given)
    (clause,) = report.rewritten
    every = rewriter._weigh([QUESTION])[0]
    gains = [item.weight * item.idf for item in every]
    assert len(gains) > 10
    assert clause.terms == 10
    assert clause.share == pytest.approx(sum(gains[:10]) / sum(gains))
    assert list(report.lines()) == [
        "matching: expand (the request neither aggregates, nor sorts, nor asks for exact totals)",
        "form: hybrid (auto: document frequencies are unknown)",
        f"query.bool.must[0].multi_match: hybrid, 10 latent terms, {clause.share:.0%} of the "
        "weight; by words alone in author",
        "query.bool.should[0].match_phrase: left alone: a phrase stays a phrase",
    ]
    assert json.loads(json.dumps(report.to_json()))["rewritten"][0]["fields"] == ["text"]


@pytest.mark.parametrize("body", [[], '"text"', None, 3])
def test_a_body_that_is_no_object_is_refused(rewriter: QueryRewriter, body: Any) -> None:
    with pytest.raises(InputError, match=r"the request body is of type .* must be an object like"):
        rewriter.rewrite_body(body)


def test_what_cannot_be_is_refused(rewriter: QueryRewriter) -> None:
    body = {"query": MATCH}
    with pytest.raises(InputError, match="matching 'all': use expand or keep"):
        rewriter.rewrite_body(body, matching="all")
    with pytest.raises(InputError, match="form 'dense': use one of"):
        rewriter.rewrite_body(body, form="dense")
    with pytest.raises(InputError, match="window 0: must be at least 1"):
        rewriter.rewrite_body(body, window=0)
    with pytest.raises(InputError, match=r"field text: no latent field other; .* has latent"):
        rewriter.rewrite_body(body, fields={"text": "other"})
    with pytest.raises(InputError, match="give a list of names"):
        rewriter.rewrite_body(body, fields="text")


def test_fields_that_are_asked_for_are_the_only_ones(rewriter: QueryRewriter) -> None:
    given = {"query": {"bool": {"should": [MATCH, {"match": {"title": QUESTION}}]}}}
    for fields in ({"title": "latent"}, ["title"]):
        _, report = rewriter.rewrite_and_report(given, fields=fields)
        assert [clause.fields for clause in report.rewritten] == [("title",)]


A, B, PLAIN = MATCH, {"match": {"title": QUESTION}}, {"term": {"year": 2024}}


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ({"must": [A]}, 0),
        ({"must": A, "filter": [PLAIN], "must_not": [PLAIN]}, 0),
        ({"must": [A, PLAIN]}, 0),
        ({"must": [A], "should": [B]}, 0),
        ({"should": [A, B, PLAIN]}, 0),
        ({"should": [A, B, PLAIN], "minimum_should_match": 1}, 0),
        ({"should": [A, PLAIN], "minimum_should_match": "1", "filter": [PLAIN]}, 0),
        ({"must": [A], "should": [B], "minimum_should_match": 0}, 0),
        ({"must": [A, B]}, 2),
        ({"must": [A, B], "should": [A]}, 2),
        ({"must": [A], "should": [A, B], "minimum_should_match": 2}, 2),
        ({"must": [A, {"dis_max": {"queries": [A, B]}}]}, 3),
        ({"must": [{"bool": {"should": [A, B]}}]}, 0),
        ({"must": [{"bool": {"must": [A, B]}}]}, 2),
        ({"must": [PLAIN], "should": [A, {"bool": {"must": [A, B]}}]}, 2),
        ({"should": [A, B, PLAIN], "minimum_should_match": 2}, 2),
        ({"should": [A, PLAIN, PLAIN], "minimum_should_match": "75%"}, 1),
        ({"must": [A], "should": [B, PLAIN], "minimum_should_match": 1}, 2),
        ({"must": [PLAIN, PLAIN], "should": [B, PLAIN], "minimum_should_match": 1}, 0),
    ],
)
def test_a_bool_that_asks_for_several_texts_still_asks(
    rewriter: QueryRewriter, content: dict[str, Any], kept: int
) -> None:
    """Nearly every document has some latent of each: the words decide then, unless "expand" is
    asked for."""
    for form in ("hybrid", "latent"):
        _, report = rewriter.rewrite_and_report({"query": {"bool": content}}, form=form)
        notes = [clause.notes for clause in report.rewritten if clause.matching == "keep"]
        asks = "its bool asks for several clauses: its words decide what it matches"
        assert (report.matching, notes) == ("expand", [(asks,)] * kept)
        _, report = rewriter.rewrite_and_report(
            {"query": {"bool": content}}, form=form, matching="expand"
        )
        assert {clause.matching for clause in report.rewritten} == {"expand"}


def test_fields_that_the_latents_do_not_have_are_said(rewriter: QueryRewriter) -> None:
    """The report says whether they are still searched, and still score."""
    several = {"multi_match": {"query": QUESTION, "fields": ["text", "author", "t*"]}}
    known = IndexFields({"title": True, "text": True, "author": True, "tags": True})
    rewriter = rewriter.with_settings(source=Source(fields=known))
    said = {
        (form, matching): list(
            rewriter.rewrite_and_report({"query": several}, form=form, matching=matching)[1].lines()
        )[1].partition("; ")[2]
        for form in ("hybrid", "latent")
        for matching in ("expand", "keep")
    }
    assert said == {
        ("hybrid", "expand"): "by words alone in author, the rest of t*",
        ("hybrid", "keep"): "by words alone in author, the rest of t*",
        ("latent", "expand"): "no longer searched: author, the rest of t*",
        ("latent", "keep"): "no longer scored by author, the rest of t*",
    }


def test_fields_of_an_index_are_looked_through_once(encoder: LatentEncoder) -> None:
    """An index may have thousands; rewriting takes less than a millisecond."""
    looked = []

    class Watched(IndexFields):
        def __iter__(self) -> Any:
            looked.append("names")
            return super().__iter__()

        def items(self) -> Any:
            looked.append("items")
            return super().items()

    known = Source(fields=Watched({"title": True, "text": True, "author": True}))
    rewriter = QueryRewriter(encoder, text_fields=["title", "text"], source=known)
    given = {"query": {"multi_match": {"query": QUESTION, "fields": ["t*", "a*"]}}}
    rewriter.rewrite_body(given)
    assert sorted(looked) == ["items", "names", "names"]
    rewriter.rewrite_body(given)
    assert len(looked) == 3


def test_words_that_left_the_query_are_highlighted_all_the_same(rewriter: QueryRewriter) -> None:
    own = {"fields": {"text": {}}, "highlight_query": {"match": {"text": "falls"}}}
    plain = {"fields": {"text": {}}, "encoder": "html"}
    for form, matching, changed in (
        ("latent", "expand", True), ("two_phase", "expand", True), ("hybrid", "expand", False),
        ("latent", "keep", False),
    ):  # fmt: skip
        given = {"query": MATCH, "highlight": plain, "rescore": rescored(A)}
        new = rewriter.rewrite_body(given, form=form, matching=matching)
        assert new["highlight"] == (plain | {"highlight_query": MATCH} if changed else plain)
        given["highlight"] = own
        assert rewriter.rewrite_body(given, form=form, matching=matching)["highlight"] == own
    alone = {"rescore": rescored(A), "highlight": plain}
    assert rewriter.rewrite_body(alone, form="latent")["highlight"] == plain


def test_a_hybrid_query_is_not_put_under_a_filter(rewriter: QueryRewriter) -> None:
    """The neural-search plugin accepts `hybrid` only at the top."""
    given = {"query": {"hybrid": {"queries": [MATCH]}}, "min_score": 2}
    new, report = rewriter.rewrite_and_report(given, matching="keep")
    assert (new["query"], new["min_score"]) == (given["query"], 2)
    assert list(report.lines())[2:] == [
        "query.hybrid: left alone: its min_score would let other documents pass"
    ]
    assert "latent" in json.dumps(rewriter.rewrite_body(given)["query"])


def test_a_body_that_is_nested_too_deeply_comes_back(rewriter: QueryRewriter) -> None:
    """Engines accept some 300 nested clauses; a hundred are rewritten."""
    query: dict[str, Any] = MATCH
    for _ in range(100):
        query = {"bool": {"must": [query]}}
    assert len(rewriter.rewrite_and_report({"query": query})[1].rewritten) == 1
    for _ in range(400):
        query = {"bool": {"must": [query]}}
    new, report = rewriter.rewrite_and_report({"query": query, "size": 3})
    assert new["query"] is query
    assert list(report.lines())[1:] == ["query: left alone: nested too deeply to be looked into"]


def test_searches_beside_the_query_are_reported(rewriter: QueryRewriter) -> None:
    body = {
        "query": A,
        "knn": {"field": "v"},
        "retriever": {"standard": {"query": A}},
        "sub_searches": [{"query": A}],
    }
    made, report = rewriter.rewrite_and_report(body)
    assert [clause.path for clause in report.rewritten] == ["query.match"]
    assert {clause.path: clause.reason for clause in report.untouched} == {
        "knn": "no clause known here",
        "retriever": "no clause known here",
        "sub_searches": "no clause known here",
    }
    assert made["retriever"] == body["retriever"]


def test_a_clause_outside_query_is_reported(rewriter: QueryRewriter) -> None:
    made, report = rewriter.rewrite_and_report(A)
    assert {name: made[name] for name in A} == A
    assert [(c.path, c.reason) for c in report.untouched] == [
        ("match", 'it stands outside "query"')
    ]
    _, report = rewriter.rewrite_and_report({"bool": {"must": [A]}})
    assert [clause.path for clause in report.untouched] == ["bool"]


@pytest.mark.parametrize(
    "template", [{"source": {"query": A}, "params": {"q": "x"}}, {"id": "stored", "params": {}}]
)
def test_a_search_template_is_refused(rewriter: QueryRewriter, template: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a search template; render it first"):
        rewriter.rewrite_body(template)


def test_a_placeholder_is_not_encoded(rewriter: QueryRewriter) -> None:
    body = {"query": {"match": {"text": "{{question}}"}}}
    _, report = rewriter.rewrite_and_report(body)
    assert not report.rewritten
    assert [c.reason for c in report.untouched] == ["its query has a placeholder of a template"]


def test_json_is_read_as_engines_read_it(rewriter: QueryRewriter) -> None:
    """With a byte order mark and comments; slashes in strings are no comments."""
    body = {"query": {"match": {"text": 'find // "files" /* that */ match'}}}
    plain = json.dumps(body)
    noted = f"\ufeff// what we ask\n{plain} /* that\n is all */"
    assert rewriter.rewrite_body(noted) == rewriter.rewrite_body(plain)
    assert rewriter.rewrite_body(plain) == rewriter.rewrite_body(body)
    with pytest.raises(InputError, match="the request body is not JSON: Expecting"):
        rewriter.rewrite_body('{"query": ')


def test_a_request_with_the_boost_on_its_bool_is_recognised(rewriter: QueryRewriter) -> None:
    """Version 0.2.0 made such requests."""
    body = rewriter.rewrite_body({"query": {"match": {"text": QUESTION}}})
    body["query"]["bool"]["should"][1]["bool"]["boost"] = 0.15
    again, report = rewriter.rewrite_and_report(body)
    assert again == body
    assert [clause.reason for clause in report.untouched] == ["has latent terms already"]


@pytest.mark.parametrize("more", [{}, {"min_score": 2}, {"highlight": {"fields": {"text": {}}}}])
def test_words_that_decide_retrieve_and_latent_terms_rescore(
    rewriter: QueryRewriter, more: dict[str, Any]
) -> None:
    """In two phases, so that the engine need not score all that match by latent terms."""
    match = {"match": {"text": QUESTION}}
    query = {"bool": {"must": [match], "filter": [{"term": {"year": 2020}}]}}
    given = {"query": query, "aggs": {"years": {"terms": {"field": "year"}}}, **more}
    body, report = rewriter.rewrite_and_report(given, form="hybrid_two_phase", head_terms=5)
    assert query in (body["query"], body["query"]["bool"].get("must", [None])[0])
    phases = body["rescore"]
    assert [phase["window_size"] for phase in phases] == [4 * rewriter.window, rewriter.window // 4]
    added = [phase["query"]["rescore_query"]["bool"] for phase in phases]
    assert all(part["filter"] == [match] for part in added)
    terms = [len(part["should"]) for part in added]
    assert terms == [15, len(rewriter.terms(QUESTION)) - 15]
    assert [clause.terms for clause in report.rewritten] == [len(rewriter.terms(QUESTION))]
    again, report = rewriter.rewrite_and_report(body, form="hybrid_two_phase")
    assert again == body
    assert {clause.reason for clause in report.untouched} == {"has latent terms already"}
    assert rewriter.rewrite_body(body) == body
