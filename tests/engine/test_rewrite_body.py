"""Requests of applications, rewritten, on a real node: what changes and what must not."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from opensearchpy import OpenSearch
from querying.bodies import BODIES

from latent_ingest.connector.querying.body import value_at
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.rewriting import FORMS

Bodies = dict[str, dict[str, Any]]

NOT_IN_ELASTICSEARCH = {"combined_fields"}


def ask(client: OpenSearch, rewriter: QueryRewriter, bodies: Bodies) -> Bodies:
    """The answer to each of the requests."""
    lines = [line for body in bodies.values() for line in ({}, body)]
    answers = client.msearch(body=lines, index=rewriter.index)["responses"]
    for name, answer in zip(bodies, answers, strict=True):
        assert answer.get("status") == 200, (name, answer)
        assert answer["_shards"]["failed"] == 0, name
    return dict(zip(bodies, answers, strict=True))


def all_of(body: dict[str, Any]) -> dict[str, Any]:
    """The request for all of its hits, with their number."""
    whole = {name: value for name, value in body.items() if name not in ("from", "search_after")}
    return {**whole, "size": 1000, "track_total_hits": True}


def found_by(answer: dict[str, Any]) -> set[Any]:
    """Hits, or the groups that they are collapsed to: which one stands for a group is by score."""
    hits = answer["hits"]["hits"]
    return {
        hit["fields"]["year"][0] if "same" in hit.get("inner_hits", {}) else hit["_id"]
        for hit in hits
    }


def steps(path: str) -> tuple[str | int, ...]:
    """Of the path of a clause, without its kind."""
    found = re.findall(r"\w+|\[\d+\]", path)
    return tuple(int(step[1:-1]) if step.startswith("[") else step for step in found[:-1])


def test_there_are_requests_of_all_kinds() -> None:
    assert len(BODIES) >= 60
    assert sum(not rewrites for _, rewrites in BODIES.values()) >= 15


@pytest.mark.parametrize("matching", [None, "expand", "keep"])
@pytest.mark.parametrize("form", FORMS)
def test_the_engine_takes_them_and_nothing_else_changes(
    client: OpenSearch, rewriter: QueryRewriter, form: str, matching: str | None
) -> None:
    """The input stays, a second rewriting changes nothing, and all but the clauses is as before."""
    rewritten = {}
    for name, (body, expected) in BODIES.items():
        before = copy.deepcopy(body)
        new, report = rewriter.rewrite_and_report(body, form=form, matching=matching)
        assert body == before, name
        assert [clause.path for clause in report.rewritten] == expected, name
        assert rewriter.rewrite_body(new, form=form, matching=matching) == new, name
        assert restored(body, new, report.rewritten) == body, name
        rewritten[name] = new
    ask(client, rewriter, rewritten)


def restored(body: dict[str, Any], new: dict[str, Any], rewritten: Any) -> dict[str, Any]:
    """The new body with all that we changed put back, as far as it is what we say that it is."""
    new = copy.deepcopy(new)
    if "_source" not in body and "_source" in new:
        assert new.pop("_source") == {"excludes": ["latent", "latent_hash"]}
    if "min_score" in body and "min_score" not in new:
        (filtered,) = new["query"]["bool"]["filter"]
        assert filtered["function_score"]["query"] == body["query"]
        new["min_score"] = filtered["function_score"]["min_score"]
        (new["query"],) = new["query"]["bool"]["must"]
    phases = [new["rescore"]] if isinstance(new.get("rescore"), dict) else new.get("rescore", [])
    theirs = [body["rescore"]] if isinstance(body.get("rescore"), dict) else body.get("rescore", [])
    if len(phases) > len(theirs):
        assert "latent" in json.dumps(phases[0])
        new["rescore"] = phases[1] if isinstance(body.get("rescore"), dict) else phases[1:]
        if "rescore" not in body:
            assert new.pop("rescore") == []
    for clause in rewritten:
        path = steps(clause.path)
        old, now = value_at(body, path), value_at(new, path)
        words = [c for c in all_parts(now["bool"]) if "f" not in json.dumps(c) or c == old]
        assert (old in words) == (clause.form.startswith("hybrid") or clause.matching == "keep")
        value_at(new, path[:-1])[path[-1]] = old
    return new


def all_parts(content: dict[str, Any]) -> list[Any]:
    return [clause for name in ("must", "should", "filter") for clause in content.get(name, [])]


@pytest.fixture(scope="module")
def words(client: OpenSearch, rewriter: QueryRewriter) -> Bodies:
    """Answers to the requests as they were."""
    return ask(client, rewriter, {name: all_of(body) for name, (body, _) in BODIES.items()})


@pytest.mark.parametrize("form", FORMS)
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
    assert sum(len(found_by(answer)) for answer in words.values()) > 1000
    assert sum("aggregations" in answer for answer in words.values()) >= 3


@pytest.mark.parametrize("form", FORMS)
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


def test_elasticsearch_takes_what_it_took_before_and_keeps_its_hits(
    elasticsearch: OpenSearch, elasticsearch_rewriter: QueryRewriter
) -> None:
    """Version 7.10 lacks `combined_fields` and what OpenSearch has added since."""
    known = {
        name: all_of(body) for name, (body, _) in BODIES.items() if name not in NOT_IN_ELASTICSEARCH
    }
    words = ask(elasticsearch, elasticsearch_rewriter, known)
    for form in FORMS:
        kept, expanded = (
            {
                name: elasticsearch_rewriter.rewrite_body(body, form=form, matching=matching)
                for name, body in known.items()
            }
            for matching in ("keep", "expand")
        )
        ask(elasticsearch, elasticsearch_rewriter, expanded)
        for name, answer in ask(elasticsearch, elasticsearch_rewriter, kept).items():
            assert found_by(answer) == found_by(words[name]), name
            assert answer["hits"]["total"] == words[name]["hits"]["total"], name
            assert answer.get("aggregations") == words[name].get("aggregations"), name
    assert len(known) >= 70
