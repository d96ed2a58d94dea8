"""The walk over a request, the forms and the report, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.body import BodyWalk
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.text_clause import TextClause, read_text_clause

QUESTION = "does vitamin D prevent falls"
MATCH = {"match": {"text": QUESTION}}
FED = ("title", "text", "words")


@pytest.fixture(scope="module")
def rewriter(encoder: LatentEncoder) -> QueryRewriter:
    return QueryRewriter(encoder, text_fields=["title", "text"])


def read(kind: str, content: Any) -> TextClause:
    clause = read_text_clause(kind, content, FED)
    assert isinstance(clause, TextClause), clause
    return clause


def test_boosts_of_clause_and_fields_are_the_clauses() -> None:
    """A pattern stands for each field it fits; fields that feed nothing do not count."""
    content = {"query": "a", "fields": ["title^3", "w*^2", "author^9"], "boost": "2"}
    clause = read("multi_match", content)
    assert clause.fields == ("title", "words")
    assert clause.others == ("w*", "author^9".partition("^")[0])
    assert clause.boost == 5.0


@pytest.mark.parametrize(
    ("kind", "content", "demands"),
    [
        ("match", {"text": "a b"}, None),
        ("match", {"text": {"query": "a b", "operator": "OR"}}, None),
        ("match", {"text": {"query": "a b", "operator": "AND"}}, "operator and"),
        ("match", {"text": {"query": "a b", "minimum_should_match": 1}}, None),
        ("match", {"text": {"query": "a", "minimum_should_match": 2}}, "minimum_should_match 2"),
        ("query_string", {"query": "a b", "default_operator": "and"}, "default_operator and"),
        ("multi_match", {"query": "a b", "operator": "and"}, "operator and"),
    ],
)  # fmt: skip
def test_what_a_clause_demands(kind: str, content: Any, demands: str | None) -> None:
    assert read(kind, content).demands == demands


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("match", {"year": "2024"}, "year does not feed the latent field"),
        ("match", {"text": 2024}, "its query is not a text"),
        ("match", {"text": {"query": "a", "boost": 0}}, "boost 0: it does not score"),
        ("match", {"text": {"query": "a", "boost": "x"}}, "its boost is not a number"),
        ("match", {"text": "a", "title": "b"}, "not understood"),
        ("match", ["text"], "not understood"),
        ("match_phrase", {"text": "a b"}, "a phrase stays a phrase"),
        ("multi_match", {"query": "a b", "type": "phrase_prefix"}, "a phrase stays a phrase"),
        ("multi_match", {"query": "a b", "fields": [1]}, "its fields are not understood"),
        ("multi_match", {"query": "a b", "fields": ["text^x"]}, "its fields are not understood"),
    ],
)
def test_why_a_clause_is_left_alone(kind: str, content: Any, reason: str) -> None:
    assert read_text_clause(kind, content, FED) == reason


@pytest.mark.parametrize(
    "text",
    [
        "a AND b", "a OR b", "NOT a", "+a b", "a -b", "!a", "(a b)", 'say "a b"', "a~1", "a*", "a?",
        "title:a", "a^2", "a && b", "a || b", "[a TO b]", "/a/", "a\\b", "year:>3",
    ],
)  # fmt: skip
def test_operators_of_query_strings_are_left_to_the_engine(text: str) -> None:
    assert read_text_clause("query_string", {"query": text}, FED) == "its query has operators"


@pytest.mark.parametrize("text", ["plain words", "vitamin-D", "C++", "and or not", "it's 50% off"])
def test_words_of_query_strings_are_no_operators(text: str) -> None:
    assert read("query_string", {"query": text}).text == text


def test_simple_query_strings_have_fewer_operators() -> None:
    for text in ("a + b", "a | b", '"a b"', "a*", "(a)", "a -b", "a~2", "a\\"):
        assert isinstance(read_text_clause("simple_query_string", {"query": text}, FED), str)
        assert read("simple_query_string", {"query": text, "flags": "NONE"})
    assert read("simple_query_string", {"query": "what is AND? title:a"})


def found(query: Any, *, keep: bool = False) -> tuple[dict[str, float | None], dict[str, str]]:
    """Path → factor of the clauses found; path → reason of those left alone."""
    walk = BodyWalk("latent", FED, keep)
    walk.walk({"query": query})
    return (
        {c.name.removeprefix("query."): c.factor for c in walk.found},
        {c.path.removeprefix("query."): c.reason for c in walk.untouched},
    )


def test_only_scores_that_are_added_can_have_a_second_phase() -> None:
    """Not those that hits have on a condition, nor those that something is made of."""
    clauses, _ = found(
        {
            "bool": {
                "boost": 2,
                "must": [MATCH, {"bool": {"must": [MATCH], "filter": [], "boost": 3}}],
                "should": [
                    MATCH,
                    {"bool": {"should": [MATCH], "boost": 5}},
                    {"bool": {"should": [MATCH], "filter": [MATCH]}},
                    {"bool": {"should": [MATCH, MATCH], "minimum_should_match": 2}},
                    {"dis_max": {"queries": [MATCH]}},
                ],
            }
        }
    )
    assert clauses == {
        "bool.must[0].match": 2,
        "bool.must[1].bool.must[0].match": 6,
        "bool.should[0].match": 2,
        "bool.should[1].bool.should[0].match": 10,
        "bool.should[2].bool.should[0].match": None,
        "bool.should[3].bool.should[0].match": None,
        "bool.should[3].bool.should[1].match": None,
        "bool.should[4].dis_max.queries[0].match": None,
    }


def test_clauses_that_no_node_here_knows() -> None:
    """`hybrid` is the neural-search plugin's; what is unknown passes and is said."""
    queries = [MATCH, {"neural": {"embedding": {"query_text": "a"}}}]
    clauses, left = found({"hybrid": {"queries": queries}})
    assert list(clauses) == ["hybrid.queries[0].match"]
    assert left == {"hybrid.queries[1].neural": "no clause known here"}
    pinned = {"pinned": {"ids": ["1"], "organic": MATCH}}
    assert found(pinned) == ({}, {"pinned": "no clause known here"})


def test_nothing_is_added_under_a_min_score_where_words_decide() -> None:
    query = {"function_score": {"query": MATCH, "min_score": 2}}
    assert list(found(query)[0]) == ["function_score.query.match"]
    clauses, left = found(query, keep=True)
    assert clauses == {}
    assert left == {"function_score": "its min_score would let other documents pass"}


def test_nested_text_that_feeds_the_latent_field_is_one_clause(encoder: LatentEncoder) -> None:
    """Latent terms are of the whole document: they stand beside the nested clause, not in it."""
    rewriter = QueryRewriter(encoder, text_fields=["notes.text"])
    inner = {"match": {"notes.text": {"query": QUESTION, "boost": 2}}}
    nested = {"nested": {"path": "notes", "query": inner, "boost": 3}}
    body, report = rewriter.rewrite_and_report({"query": nested})
    words, latent = body["query"]["bool"]["should"]
    assert words == nested
    assert latent["bool"]["boost"] == pytest.approx(6 * rewriter.latent_boost)
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
        ({"size": 0}, "keep"),
        ({"sort": {"year": "desc"}}, "keep"),
        ({"sort": [{"_score": "asc"}]}, "keep"),
    ],
)
def test_the_matching_that_suits_a_request(
    rewriter: QueryRewriter, options: dict[str, Any], matching: str
) -> None:
    body, report = rewriter.rewrite_and_report({"query": MATCH, **options})
    assert report.matching == report.rewritten[0].matching == matching
    assert body["query"]["bool"]["must" if matching == "keep" else "should"][0] == MATCH


@pytest.mark.parametrize(
    "options",
    [
        {"sort": ["year"]}, {"sort": ["_score", "year"]}, {"collapse": {"field": "year"}},
        {"sort": ["_doc"], "search_after": [3]}, {"min_score": 3}, {"size": 0},
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
    given = {"query": MATCH, "rescore": theirs, "from": 300, "size": 50}
    ours, kept = rewriter.rewrite_body(given, form="two_phase")["rescore"]
    assert kept == theirs
    assert ours["window_size"] == 350
    assert "latent" in json.dumps(ours)


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
        f"query.bool.must[0].multi_match: hybrid, 10 latent terms, {clause.share:.0%} of the "
        "weight; by words alone in author",
        "query.bool.should[0].match_phrase: left alone: a phrase stays a phrase",
    ]
    assert json.loads(json.dumps(report.to_json()))["rewritten"][0]["fields"] == ["text"]


@pytest.mark.parametrize("body", [[], "text", None, 3])
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
    with pytest.raises(InputError, match="name them in a list"):
        rewriter.rewrite_body(body, fields="text")


def test_fields_that_are_asked_for_are_the_only_ones(rewriter: QueryRewriter) -> None:
    given = {"query": {"bool": {"should": [MATCH, {"match": {"title": QUESTION}}]}}}
    for fields in ({"title": "latent"}, ["title"]):
        _, report = rewriter.rewrite_and_report(given, fields=fields)
        assert [clause.fields for clause in report.rewritten] == [("title",)]


def test_a_boost_of_0_around_a_clause_holds_in_the_second_phase(rewriter: QueryRewriter) -> None:
    given = {"query": {"bool": {"must": [MATCH], "boost": 0}}}
    rest = rewriter.rewrite_body(given, form="two_phase")["rescore"]["query"]["rescore_query"]
    assert rest["bool"]["boost"] == 0
