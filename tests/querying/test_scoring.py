"""Forms, settings, and rewriters that do not change."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.body import FoundClause
from latent_ingest.connector.querying.clauses import TextClause, distinct
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.rewriting import Plan, cost, postings_of, rewritten
from latent_ingest.connector.querying.scoring import WORTH_TWO_PHASES, Form, Scoring
from latent_ingest.connector.querying.term_weights import WeightedTerm

QUESTION = "does vitamin D prevent falls"


class Toy:
    """A model of four latents per word, which needs no file."""

    def encode(self, texts: list[str], k: int | None = None, **options: Any) -> list[Any]:
        assert options == {"kind": "query"}
        found = []
        for text in texts:
            latents = np.arange((k or 4) * len(text.split()), dtype=np.int32)
            found.append((latents, (1 + latents[::-1]).astype(np.float32)))
        return found

    def idf(self) -> Any:
        return np.ones(10_000, dtype=np.float32)


@pytest.fixture
def rewriter() -> QueryRewriter:
    return QueryRewriter(Toy(), text_fields=["title", "text"])  # type: ignore[arg-type]


def test_forms_are_their_spelling() -> None:
    assert [str(form) for form in Form] == ["hybrid", "latent", "two_phase", "hybrid_two_phase"]
    assert f"{Form.TWO_PHASE:>10}" == " two_phase"
    assert Form("latent") == "latent" in {Form.LATENT: 1}
    assert json.dumps([Form.HYBRID_TWO_PHASE]) == '["hybrid_two_phase"]'
    with pytest.raises(InputError, match="form 'dense': use one of auto, hybrid, "):
        Form("dense")


def test_a_form_in_one_phase_in_two_and_without_words() -> None:
    others = {form: [form.one_phase, form.two_phase, form.latent_only] for form in Form}
    assert others == {
        "hybrid": ["hybrid", "hybrid_two_phase", "latent"],
        "latent": ["latent", "two_phase", "latent"],
        "two_phase": ["latent", "two_phase", "two_phase"],
        "hybrid_two_phase": ["hybrid", "hybrid_two_phase", "two_phase"],
    }
    assert [form for form in Form if form.words_score] == ["hybrid", "hybrid_two_phase"]
    assert [form for form in Form if form.two_phases] == ["two_phase", "hybrid_two_phase"]


@pytest.mark.parametrize("form", list(Form))
def test_a_question_is_rewritten_as_the_body_of_its_words(
    rewriter: QueryRewriter, form: Form
) -> None:
    """Whether it is built directly or its words are rewritten, request and report are the same."""
    filters: list[Any] = [None, {"term": {"year": 2024}}, [{"match": {"title": "a word"}}]]
    variants = [
        rewriter,
        rewriter.with_settings(words_fields=["title^3", "text"]),
        rewriter.with_settings(max_query_terms=5, head_terms=3, window=7),
        rewriter.with_settings(max_clauses=18, latent_boost=1.0, query_k=2),
    ]
    for some in variants:
        for clause in filters:
            for size in (0, 3, 300):
                asked = some.rewrite_and_report(QUESTION, form=form, size=size, filter=clause)
                words = some.words_only(QUESTION, size=size, filter=clause)
                assert asked == some.rewrite_and_report(words, form=form, matching="expand")
                assert json.dumps(asked[0]) == json.dumps(some.rewrite(
                    QUESTION, form=form.value, size=size, filter=clause
                ))  # fmt: skip


def test_a_rewriter_does_not_change(rewriter: QueryRewriter) -> None:
    """Another one has other settings, and shares the model and its cache."""
    before = rewriter.rewrite(QUESTION, form="two_phase")
    names = [name for name in vars(rewriter) if not name.startswith("_")]
    assert {"field", "index", "indices", "latent_boost", "max_clauses", "scoring"} <= {*names}
    for name in names:
        with pytest.raises(AttributeError, match=f"{name} is read-only"):
            setattr(rewriter, name, None)
    other = rewriter.with_settings(head_terms=2, latent_boost=0.5, query_k=3, field="f")
    assert other.scoring == Scoring(latent_boost=0.5, head_terms=2, query_k=3)
    assert (other.field, other.text_fields) == ("f", ["title", "text"])
    assert len(other.rewrite(QUESTION, form="two_phase")["query"]["bool"]["should"]) == 2
    assert len(other.terms(QUESTION)) == 3 * len(QUESTION.split())
    assert rewriter.rewrite(QUESTION, form="two_phase") == before
    assert rewriter.cache_info() == other.cache_info()
    assert rewriter.cache_info().currsize == 2


@pytest.mark.parametrize("name", ["head_terms", "window", "max_query_terms"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(InputError, match=f"{name} 0: must be"):
        QueryRewriter(QueryEncoder(), **settings)
    with pytest.raises(InputError, match=r"words_fields title\^x, text: .*'x'"):
        QueryRewriter(Toy(), words_fields=["title^x", "text"]).rewrite("a")  # type: ignore[arg-type]


def test_a_request_does_not_share_the_filter(rewriter: QueryRewriter) -> None:
    """Nor do the requests of several questions; a filter too deep to be copied is accepted."""
    clause: dict[str, Any] = {"terms": {"year": (2023, 2024)}}
    one, other = rewriter.rewrite_many(["bees", "storms"], filter=clause)
    one["query"]["bool"]["filter"][0]["terms"]["year"].append(2025)
    assert other["query"]["bool"]["filter"] == [{"terms": {"year": [2023, 2024]}}]
    assert clause == {"terms": {"year": (2023, 2024)}}
    for _ in range(200):
        clause = {"bool": {"must": [clause]}}
    body, report = rewriter.rewrite_and_report("bees", filter=clause)
    assert body["query"]["bool"]["filter"][0] is clause
    assert len(report.rewritten) == 1


def planned(n_heads: int, n_tail: int, *, keep: bool, idf: float) -> Plan:
    clause = TextClause("match", "a", ("text",), (), 1.0, None)
    found = FoundClause(("query",), "query.match", clause, ("query",), 1.0)
    terms = [WeightedTerm(f"f{n}", 1.0, idf) for n in range(n_heads + n_tail)]
    wide = min(n_tail, max(0, 64 - n_heads))
    return Plan(found, Form.HYBRID, keep, [], terms, n_heads, wide, n_tail - wide)


def test_two_phases_cost_less_in_large_indices_and_sooner_where_words_decide() -> None:
    """160 terms, each in every tenth document; of these, 32 retrieve, or none."""

    def costs(n_documents: int, *, keep: bool) -> tuple[float, float]:
        one = planned(160, 0, keep=keep, idf=math.log(10))
        two = planned(0 if keep else 32, 160 if keep else 128, keep=keep, idf=math.log(10))
        postings = {"a": [n_documents / 10] * 160}
        return cost([one], postings, (200, 50)), cost([two], postings, (200, 50))

    in_two: dict[bool, list[bool]] = {}
    for keep in (False, True):
        of_sizes = [costs(10**n, keep=keep) for n in range(1, 9)]
        in_two[keep] = [two < one * WORTH_TWO_PHASES for one, two in of_sizes]
        assert in_two[keep] == sorted(in_two[keep])
    assert 0 < sum(in_two[False]) < sum(in_two[True]) < 8


def test_postings_are_those_of_the_idf() -> None:
    """Also of a term that no document has."""
    counts = np.array([1, 70, 1_000])
    idf = inverse_document_frequency(1_000, counts)
    found = [WeightedTerm(f"f{n}", 1.0, float(value)) for n, value in enumerate([*idf, 0.0])]
    assert postings_of(found, 1_000) == pytest.approx([1.5, 70.5, 1_000.5, 0])


@pytest.mark.parametrize("matching", ["expand", "keep"])
def test_auto_is_the_cheaper_form_and_the_report_says_why(matching: str) -> None:
    text = " ".join(f"word{n}" for n in range(30))
    rewriter = QueryRewriter(QueryEncoder.of(Toy()), text_fields=["text"])  # type: ignore[arg-type]
    target = rewriter._target.asked("auto", matching, None, None)

    def asked(n_documents: int, **more: Any) -> tuple[dict[str, Any], Any]:
        body = {"query": {"match": {"text": text}}, **more}
        return rewritten(body, replace(target, n_documents=n_documents), rewriter._weigh)

    def outright(form: str, **options: Any) -> dict[str, Any]:
        return rewriter.rewrite_body(body, form=form, matching=matching, **options)

    body = {"query": {"match": {"text": text}}}
    small, report = asked(100)
    assert small == outright("hybrid") == rewriter.rewrite_body(body, matching=matching)
    assert (report.form, report.form_why) == ("hybrid", "auto: one phase costs less")
    unknown, report = asked(0)
    assert (unknown, report.form) == (small, "hybrid")
    assert report.form_why == "auto: document frequencies are unknown"
    large, report = asked(10_000_000)
    assert large == outright("hybrid_two_phase") != small
    assert report.form == "hybrid_two_phase"
    assert "in an index of 10,000,000 documents" in report.form_why
    own = replace(target, scoring=Scoring(window=300))
    body = {"query": {"match": {"text": text}}}
    large, report = rewritten(body, replace(own, n_documents=10_000_000), rewriter._weigh)
    assert large == outright("hybrid_two_phase", window=300)
    assert any("10,000,000" in line for line in report.lines())
    _, report = asked(10_000_000, collapse={"field": "year"})
    assert report.form == "hybrid"
    assert report.form_why == "auto: engines do not rescore hits with collapse"
    assert report.notes == ()


def test_equal_boosts_are_told_apart() -> None:
    """As those of a question by table, whose weights are whole numbers."""
    boosts = [0.15, 0.3] * 300
    found = list(distinct(boosts))
    assert found[:2] == boosts[:2]
    assert len(set(found)) == len(boosts)
    assert found == pytest.approx(boosts, rel=1e-3)
