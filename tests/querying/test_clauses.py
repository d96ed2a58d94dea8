"""Text clauses of requests: what they ask for, and why some are left alone."""

from __future__ import annotations

from typing import Any

import pytest

from latent_ingest.connector.querying.body import BodyWalk
from latent_ingest.connector.querying.clauses import TextClause, read_text_clause
from latent_ingest.connector.querying.indices.fields import IndexFields

QUESTION = "does vitamin D prevent falls"

MATCH = {"match": {"text": QUESTION}}

FED = ("title", "text", "words")


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


def test_latents_of_an_application_do_not_hide_its_texts() -> None:
    """Only clauses with our structure are left alone, so that nothing is rewritten twice."""
    own = {"term": {"latent": "f12"}}
    clauses, left = found({"bool": {"should": [MATCH, own, {"bool": {"should": [own, own]}}]}})
    assert list(clauses) == ["bool.should[0].match"]
    assert left == {"bool.should[2].bool": "has latent terms already"}
    clauses, _ = found({"bool": {"must": [MATCH, MATCH], "should": [own]}})
    assert len(clauses) == 2
