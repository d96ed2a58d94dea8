"""The walk over a request, the forms and the report, without a server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.body import BodyWalk
from latent_ingest.connector.querying.clauses import TextClause, read_text_clause
from latent_ingest.connector.querying.indices.fields import IndexFields
from latent_ingest.connector.querying.indices.source import Source
from latent_ingest.connector.querying.rewriter import QueryRewriter

QUESTION = "does vitamin D prevent falls"
MATCH = {"match": {"text": QUESTION}}
VOTES = {"source": "doc['votes'].value"}
FED = ("title", "text", "words")


@pytest.fixture(scope="module")
def rewriter(encoder: LatentEncoder) -> QueryRewriter:
    return QueryRewriter(encoder, text_fields=["title", "text"])


def read(kind: str, content: Any) -> TextClause:
    clause = read_text_clause(kind, content, FED)
    assert isinstance(clause, TextClause), clause
    return clause


def test_boosts_of_clause_and_fields_are_the_clauses() -> None:
    """A pattern matches several fields; fields that feed nothing do not count."""
    content = {"query": "a", "fields": ["title^3", "w*^2", "author^9"], "boost": "2"}
    clause = read("multi_match", content)
    assert clause.fields == ("title", "words")
    assert clause.others == ("author",)
    assert clause.boost == 5.0


def test_a_pattern_is_of_other_fields_too_where_the_index_has_such() -> None:
    known = IndexFields({"words": True, "written": True, "title": True, "latent": True})
    content = {"query": "a", "fields": ["w*", "ti*", "nothing*"]}
    assert read_text_clause("multi_match", content, FED, known).others == ("w*",)  # type: ignore[union-attr]
    assert known.matching("w*") is known.matching("w*")


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
    ("text", "words"),
    [
        ("(vitamin AND D AND deficiency)", "vitamin D deficiency"),
        ("a OR b", "a b"),
        ("NOT a b", "b"),
        ("+a b", "a b"),
        ("a -b", "a"),
        ("!a b", "b"),
        ("a - b ! c", "a b c"),
        ("a AND NOT (b OR c) AND !(d e)", "a"),
        ("a && b || c", "a b c"),
        ("AT&T R||D a", "AT&T R||D a"),
        ('say "a ! b" now', "say a ! b now"),
        ('"a b"~3 c', "a b c"),
        ("what is vitamin D?", "what is vitamin D"),
        ("why?? wh?t a* b", "why b"),
        ("TCP/IP or\\/and", "TCP/IP or/and"),
        (r"a\:b c\? \-d \(e\) \AND", "a:b c? -d (e) AND"),
        ("'a b' AND don't", "a b' don't"),
        ("title:a author:b year:2005", "a"),
        ("author:(a OR b) c", "c"),
        ("ti\\*:(a b) *:c", "a b c"),
        ("a^0 b", "b"),
        ("a TO b", "a TO b"),
        ("a\u3000AND\u3000b", "a b"),
    ],
)
def test_words_of_query_strings_are_read_beside_their_operators(text: str, words: str) -> None:
    """The engine reads the text itself: words decide, also where "expand" is asked for."""
    clause = read("query_string", {"query": text, "fields": ["text"]})
    assert clause.text == words
    assert (clause.demands, clause.strict) == ("its query has operators", True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a~1 b", "its query has operators: a~1"),
        ("[a TO b] c", "its query has operators: [a TO b]"),
        ("a year:>3", "its query has operators: >3"),
        ("/a.b/ c", "its query has operators: /a.b/"),
        ("a AND", "its query has operators that cannot be parsed"),
        ("(a b", "its query has operators that cannot be parsed"),
        ("hello world!", "its query has operators that cannot be parsed"),
        ("a^1.2.3", "its query has operators that cannot be parsed"),
        ('"a b"~1.5', "its query has operators that cannot be parsed"),
        ("(" * 3000 + "a" + ")" * 3000, "its query has operators"),
        ('"a b"', "a phrase stays a phrase"),
        ('+"a b" -c', "a phrase stays a phrase"),
        ("NOT a", "its query has no plain words"),
        ("a*", "its query has no plain words"),
        ("*:*", "its query has no plain words"),
        ("year:2005", "year does not feed the latent field"),
        ("_exists_:title", "_exists_ does not feed the latent field"),
    ],
)
def test_query_strings_in_doubt_are_left_to_the_engine(text: str, reason: str) -> None:
    assert read_text_clause("query_string", {"query": text}, FED) == reason


def test_query_strings_name_fields_and_boosts() -> None:
    """Fields of the clause and their boosts hold for words that the text gives none."""
    content = {"query": "title:(a b)^4 AND c author:d", "fields": ["text^2", "year"], "boost": 3}
    clause = read("query_string", content)
    assert clause.text == "a b c"
    assert clause.fields == ("title", "text")
    assert clause.others == ("year", "author")
    assert clause.boost == pytest.approx(3 * (4 + 4 + 2) / 3)
    named = read("query_string", {"query": "title:a", "default_field": "year"})
    assert (named.fields, named.others) == (("title",), ())


def test_words_without_a_field_are_searched_in_the_default_fields() -> None:
    known = IndexFields({"text": True, "title": True, "sku": False}, ["sku", "text^2"])
    content = {"query": "a AND title:b"}
    clause = read_text_clause("query_string", content, FED, known)
    assert isinstance(clause, TextClause)
    assert (clause.fields, clause.others, clause.boost) == (("text", "title"), ("sku",), 1.5)
    known = IndexFields({"text": True, "sku": False}, ["sku"])
    assert read_text_clause("query_string", {"query": "a AND b"}, FED, known) == (
        "sku does not feed the latent field"
    )


def test_a_query_string_may_be_escaped_by_the_engine() -> None:
    content = {"query": "is (a/b) AND c: d? [e", "escape": True}
    assert read("query_string", content).text == "is (a/b) c: d? [e"


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


@pytest.mark.parametrize("text", ["plain words", "vitamin-D", "C++", "and or not", "it's 50% off"])
def test_words_of_query_strings_are_no_operators(text: str) -> None:
    assert read("query_string", {"query": text}).text == text


def test_simple_query_strings_have_fewer_operators() -> None:
    for text in ("a*", "(a)", "a -b", "a~2", "a\\", '"a b"', '"a b" | "c d"'):
        assert isinstance(read_text_clause("simple_query_string", {"query": text}, FED), str)
        assert read("simple_query_string", {"query": text, "flags": "NONE"}).text == text
    assert not read("simple_query_string", {"query": "what is AND? title:a"}).strict
    for text, words in {
        "a + b": "a b",
        "+a |b": "a b",
        '"a b" c': "a b c",
        'open "a b': "open a b",
    }.items():
        clause = read("simple_query_string", {"query": text})
        assert (clause.text, clause.strict) == (words, True)


def rescored(query: Any) -> Any:
    return {"window_size": 5, "query": {"rescore_query": query}}


def scored(**functions: Any) -> Any:
    return {"function_score": {"query": MATCH, **functions}}


def by_script(field: str) -> Any:
    return {"terms_set": {field: {"terms": ["a"], "minimum_should_match_script": VOTES}}}


def found(query: Any, *, keep: bool = False) -> tuple[dict[str, float | None], dict[str, str]]:
    """Path → factor of the clauses found; path → reason of those left alone."""
    walk = BodyWalk("latent", FED, keep)
    walk.walk({"query": query})
    return (
        {c.name.removeprefix("query."): c.factor for c in walk.found},
        {c.path.removeprefix("query."): c.reason for c in walk.untouched},
    )


def test_only_scores_that_are_added_can_have_a_second_phase() -> None:
    """Conditional scores, and scores from which another is made, cannot."""
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
    """`hybrid` is from the neural-search plugin; unknown clauses stay and are reported."""
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


@pytest.mark.parametrize("boost", [0, 0.0, "0"])
@pytest.mark.parametrize(
    "query",
    [
        {"bool": {"must": [MATCH]}},
        {"dis_max": {"queries": [MATCH]}},
        {"nested": {"path": "text", "query": MATCH}},
        {"function_score": {"query": MATCH}},
    ],
)
def test_nothing_scores_under_a_boost_of_0(query: Any, boost: object) -> None:
    ((kind, content),) = query.items()
    clauses, left = found({kind: {**content, "boost": boost}})
    assert (clauses, left) == ({}, {kind: "boost 0: it does not score"})


def test_null_is_no_minimum_and_letters_may_be_large() -> None:
    clauses, _ = found({"bool": {"should": [{"bool": {"should": [MATCH]}}]}})
    nulls = {"should": [MATCH], "minimum_should_match": None}
    assert found({"bool": {"should": [{"bool": nulls}]}})[0] == clauses
    assert list(clauses.values()) == [1.0]
    assert read("match", {"text": {"query": "a", "minimum_should_match": None}}).demands is None
    replaced = {"function_score": {"query": MATCH, "boost_mode": "REPLACE"}}
    assert found(replaced)[1] == {"function_score": "boost_mode replace: its text does not score"}


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


def test_latents_of_an_application_do_not_hide_its_texts() -> None:
    """Only clauses with our structure are left alone, so that nothing is rewritten twice."""
    own = {"term": {"latent": "f12"}}
    clauses, left = found({"bool": {"should": [A, own, {"bool": {"should": [own, own]}}]}})
    assert list(clauses) == ["bool.should[0].match"]
    assert left == {"bool.should[2].bool": "has latent terms already"}
    clauses, _ = found({"bool": {"must": [A, B], "should": [own]}})
    assert len(clauses) == 2


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
