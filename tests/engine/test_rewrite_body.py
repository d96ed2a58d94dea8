"""Rewritten requests of applications on a real node: what changes and what must not."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError
from querying.bodies import BODIES, BOOSTS

from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.querying.body import value_at
from latent_ingest.connector.querying.clauses import TextClause, read_text_clause
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form

Bodies = dict[str, dict[str, Any]]

NOT_ELSEWHERE = {"combined_fields"}


def ask(client: OpenSearch, rewriter: QueryRewriter, bodies: Bodies) -> Bodies:
    """Return the answer to each request."""
    lines = [line for body in bodies.values() for line in ({}, body)]
    answers = client.msearch(body=lines, index=rewriter.index)["responses"]
    for name, answer in zip(bodies, answers, strict=True):
        assert answer.get("status") == 200, (name, answer)
        assert answer["_shards"]["failed"] == 0, name
    return dict(zip(bodies, answers, strict=True))


def all_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the request for all of its hits and their exact number."""
    whole = {name: value for name, value in body.items() if name not in ("from", "search_after")}
    return {**whole, "size": 1000, "track_total_hits": True}


def found_by(answer: dict[str, Any]) -> set[Any]:
    """Return the hits, or their groups if collapsed, since scores choose the hit of a group."""
    hits = answer["hits"]["hits"]
    return {
        hit["fields"]["year"][0] if "same" in hit.get("inner_hits", {}) else hit["_id"]
        for hit in hits
    }


def steps(path: str) -> tuple[str | int, ...]:
    """Return the steps of a clause's path, without its kind."""
    found = re.findall(r"\w+|\[\d+\]", path)
    return tuple(int(step[1:-1]) if step.startswith("[") else step for step in found[:-1])


def test_there_are_requests_of_all_kinds() -> None:
    assert len(BODIES) >= 60
    assert sum(not rewrites for _, rewrites in BODIES.values()) >= 15


@pytest.mark.parametrize("matching", [None, "expand", "keep"])
@pytest.mark.parametrize("form", list(Form))
def test_the_engine_takes_them_and_nothing_else_changes(
    client: OpenSearch, rewriter: QueryRewriter, form: str, matching: str | None
) -> None:
    """The input is not changed, rewriting twice changes nothing, and only clauses change."""
    rewritten = {}
    for name, (body, expected) in BODIES.items():
        before = copy.deepcopy(body)
        new, report = rewriter.rewrite_and_report(body, form=form, matching=matching)
        assert body == before, name
        assert [clause.path for clause in report.rewritten] == expected, name
        assert rewriter.rewrite_body(new, form=form, matching=matching) == new, name
        assert restored(name, body, new, report.rewritten, rewriter) == body, name
        rewritten[name] = new
    ask(client, rewriter, rewritten)


def restored(
    name: str, body: dict[str, Any], new: dict[str, Any], rewritten: Any, rewriter: QueryRewriter
) -> dict[str, Any]:
    """The new body with all documented changes reverted; other changes stay in it."""
    new = copy.deepcopy(new)
    if "_source" not in body and "_source" in new:
        assert new.pop("_source") == {"excludes": ["latent", "latent_hash"]}
    if "min_score" in body and "min_score" not in new:
        wrapped = new["query"].pop("bool")
        assert not new["query"]
        assert wrapped.keys() == {"must", "filter"}
        ((new["query"],), (filtered,)) = wrapped["must"], wrapped["filter"]
        scored = {"query": without_inner_hits(body["query"]), "min_score": body["min_score"]}
        assert filtered == {"function_score": scored}
        new["min_score"] = body["min_score"]
    if "highlight" in body and new["highlight"] != body["highlight"]:
        assert new["highlight"].pop("highlight_query") == body["query"]
        assert any(not c.form.startswith("hybrid") and c.matching == "expand" for c in rewritten)
    phases = [new["rescore"]] if isinstance(new.get("rescore"), dict) else new.get("rescore", [])
    theirs = [body["rescore"]] if isinstance(body.get("rescore"), dict) else body.get("rescore", [])
    boosts = BOOSTS.get(name, [1] * len(rewritten))
    while len(phases) > len(theirs):
        ours = phases.pop(0)
        second = [c for c in rewritten if c.form.endswith("two_phase")]
        assert ours.keys() == {"window_size", "query"}
        assert ours["query"].keys() == {"rescore_query"}
        parts = [ours["query"]["rescore_query"]]
        if all("bool" in part for part in parts[0]["bool"]["should"]):  # of several clauses
            parts = parts[0]["bool"]["should"]
        assert 1 <= len(parts) <= len(second)
        for part in parts:
            words = part["bool"].pop("filter", [])
            assert len(words) == any(c.matching == "keep" for c in second)
            assert all(word in [value_at(body, steps(c.path)) for c in second] for word in words)
            latent_alone(part)
    if "rescore" in new:
        new["rescore"] = phases[0] if isinstance(body.get("rescore"), dict) else phases
        if "rescore" not in body:
            assert new.pop("rescore") == []
    for clause, boost in zip(rewritten, boosts, strict=True):
        path = steps(clause.path)
        old, now = value_at(body, path), value_at(new, path)
        hybrid = clause.form.startswith("hybrid")
        if clause.matching == "keep" and clause.form == "hybrid_two_phase":
            assert now == old  # its words retrieve
            continue
        if clause.matching == "keep" or hybrid:
            where = "should" if clause.matching == "expand" else "must" if hybrid else "filter"
            assert len(now) == 1
            parts = now["bool"]
            assert parts.keys() == {where, "should"}
            assert parts[where][0] == old
            assert sum(map(len, parts.values())) == 2
            now = parts["should"][-1]
        elif "_name" in json.dumps(old):
            assert now["bool"].pop("_name") in json.dumps(old)
        boosts_of = latent_alone(now)
        weights = {item.term: item.weight for item in rewriter.terms(text_in(old, rewriter))}
        boost *= 0.15 if hybrid else 1
        assert boosts_of == pytest.approx({t: boost * weights[t] for t in boosts_of}, rel=1e-5)
        value_at(new, path[:-1])[path[-1]] = old
    return new


def latent_alone(clause: dict[str, Any]) -> dict[str, float]:
    """Return term → boost of a clause that has only weighted latent terms, and no own boost."""
    assert clause.keys() == {"bool"}
    assert clause["bool"].keys() == {"should"}
    found = {}
    for part in clause["bool"]["should"]:
        assert part.keys() == {"term"}
        assert part["term"].keys() == {"latent"}
        assert part["term"]["latent"].keys() == {"value", "boost"}
        found[part["term"]["latent"]["value"]] = part["term"]["latent"]["boost"]
    assert len(found) == len(clause["bool"]["should"]) > 0
    assert min(found.values()) > 0
    return found


def text_in(clause: dict[str, Any], rewriter: QueryRewriter) -> str:
    """Return what a text clause searches for, as tests/querying/test_body.py checks it."""
    ((kind, content),) = clause.items()
    if kind == "nested":
        return text_in(content["query"], rewriter)
    target = rewriter._target
    read = read_text_clause(kind, content, target.fed, target.known_fields)
    assert isinstance(read, TextClause)
    return read.text


def without_inner_hits(query: Any) -> Any:
    if isinstance(query, list):
        return [without_inner_hits(part) for part in query]
    if not isinstance(query, dict):
        return query
    return {k: without_inner_hits(v) for k, v in query.items() if k != "inner_hits"}


def of_hits(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of each hit except its score and source."""
    return {
        hit["_id"]: (
            hit.get("highlight"),
            sorted(hit.get("matched_queries", [])),
            {
                name: [inner["_source"] for inner in found["hits"]["hits"]]
                for name, found in hit.get("inner_hits", {}).items()
            },
        )
        for hit in answer["hits"]["hits"]
    }


@pytest.fixture(scope="module")
def words(client: OpenSearch, rewriter: QueryRewriter) -> Bodies:
    """Answers to the requests as given."""
    return ask(client, rewriter, {name: all_of(body) for name, (body, _) in BODIES.items()})


@pytest.mark.parametrize("form", list(Form))
def test_keep_has_the_same_hits_totals_and_aggregations(
    client: OpenSearch, rewriter: QueryRewriter, words: Bodies, form: str
) -> None:
    new = {
        name: all_of(rewriter.rewrite_body(body, form=form, matching="keep"))
        for name, (body, _) in BODIES.items()
    }
    for name, kept in ask(client, rewriter, new).items():
        assert found_by(kept) == found_by(words[name]), name
        assert kept["hits"]["total"] == words[name]["hits"]["total"], name
        for part in ("aggregations", "suggest"):
            assert kept.get(part) == words[name].get(part), name
        if "collapse" not in BODIES[name][0]:
            assert of_hits(kept) == of_hits(words[name]), name
    said = [of for answer in words.values() for of in of_hits(answer).values()]
    assert all(sum(bool(of[place]) for of in said) > 10 for place in range(3))
    assert sum(len(found_by(answer)) for answer in words.values()) > 1000
    assert sum("aggregations" in answer for answer in words.values()) >= 3


@pytest.mark.parametrize("form", list(Form))
def test_expand_finds_more_among_the_documents_that_pass_the_filters(
    client: OpenSearch, rewriter: QueryRewriter, words: Bodies, form: str
) -> None:
    new, frames = {}, {}
    for name, (body, _) in BODIES.items():
        if "collapse" in body:
            continue
        outer = body.get("query", {}).get("bool", {})
        filters = {part: outer[part] for part in ("filter", "must_not") if part in outer}
        frames[name] = {
            "query": {"bool": filters},
            "post_filter": body.get("post_filter", {"match_all": {}}),
            "size": 1000,
        }
        new[name] = all_of(rewriter.rewrite_body(body, form=form, matching="expand"))
    passing = ask(client, rewriter, frames)
    more = 0
    for name, answer in ask(client, rewriter, new).items():
        found = found_by(answer)
        assert found <= found_by(passing[name]), name
        if form.startswith("hybrid"):
            assert found_by(words[name]) <= found, name
        more += len(found - found_by(words[name])) > 0
    assert sum(len(found_by(answer)) < 90 for answer in passing.values()) >= 10
    assert more >= 20


@pytest.mark.parametrize("form", list(Form))
def test_what_a_bool_asks_for_together_it_still_asks_for(
    client: OpenSearch, rewriter: QueryRewriter, words: Bodies, form: str
) -> None:
    """By default; with "expand" asked for, each of its texts may match by latent terms."""
    names = (
        "bool, at least two",
        "bool, two that must match",
        "bool, one that must and one of two",
    )
    for matching in (None, "expand"):
        new = {
            name: all_of(rewriter.rewrite_body(BODIES[name][0], form=form, matching=matching))
            for name in names
        }
        for name, answer in ask(client, rewriter, new).items():
            as_before = found_by(answer) == found_by(words[name])
            assert as_before == (matching is None), name
            assert len(found_by(answer)) > 1, name


@pytest.mark.parametrize("form", ["latent", "two_phase"])
def test_words_are_highlighted_though_they_left_the_query(
    client: OpenSearch, rewriter: QueryRewriter, words: Bodies, form: str
) -> None:
    name = "highlight of the query's words"
    body = all_of(rewriter.rewrite_body(BODIES[name][0], form=form))
    said = of_hits(ask(client, rewriter, {name: body})[name])
    before = {hit: of for hit, of in of_hits(words[name]).items() if hit in said}
    assert {hit: said[hit] for hit in before} == before
    assert sum(bool(of[0]) for of in before.values()) > 5


def test_every_engine_takes_what_it_took_before_and_keeps_its_hits(
    rewriter_elsewhere: tuple[OpenSearch, QueryRewriter],
) -> None:
    """Version 7.10 lacks `combined_fields` and the additions of OpenSearch."""
    engine, rewriter = rewriter_elsewhere
    version = EngineInfo.read(engine).version[0]
    known = {name: all_of(body) for name, (body, _) in BODIES.items() if name not in NOT_ELSEWHERE}
    if version > 7:  # without its modules
        known = {name: body for name, body in known.items() if taken(engine, rewriter, body)}
    words = ask(engine, rewriter, known)
    for form in Form:
        kept, expanded = (
            {
                name: rewriter.rewrite_body(body, form=form, matching=matching)
                for name, body in known.items()
            }
            for matching in ("keep", "expand")
        )
        ask(engine, rewriter, expanded)
        for name, answer in ask(engine, rewriter, kept).items():
            assert found_by(answer) == found_by(words[name]), name
            assert answer["hits"]["total"] == words[name]["hits"]["total"], name
            assert answer.get("aggregations") == words[name].get("aggregations"), name
    assert len(known) >= 90


def taken(engine: OpenSearch, rewriter: QueryRewriter, body: dict[str, Any]) -> bool:
    """Whether the engine takes a request as it is given."""
    try:
        engine.search(index=rewriter.index, body=body)
    except RequestError:
        return False
    return True
