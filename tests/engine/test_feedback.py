"""Feedback: a question takes over latent terms of its first hits, through a real engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.inspection.explain import explain_hits
from latent_ingest.connector.querying.feedback.expansion import (
    FEEDBACK_HITS,
    FEEDBACK_TERMS,
    Expansion,
)
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import AsyncSearcher, Searcher

QUESTION = "read a file"
MATCH = {"match": {"text": QUESTION}}

Lines = list[str]


@pytest.fixture
def lines(documents: list[dict[str, str]]) -> Lines:
    return [
        json.dumps({**document, "_id": f"d{n}", "n": n, "kind": "ab"[n % 2]})
        for n, document in enumerate(documents)
    ]


@pytest.fixture
def papers(client: OpenSearch, index: str, load: Any, lines: Lines) -> str:
    assert load(client, index, lines).indexed == len(lines)
    return index


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


def counts_of(client: OpenSearch, index: str, id: str) -> dict[int, int]:
    return dict(terms.parse(client.get(index=index, id=id)["_source"]["latent"], "delimited"))


@pytest.mark.parametrize("asked", [QUESTION, {"query": MATCH, "size": 10}])
def test_the_question_takes_over_terms_of_its_first_hits(
    client: OpenSearch, papers: str, encoder: LatentEncoder, asked: Any
) -> None:
    searcher = Searcher(client, papers, [encoder])
    plain = searcher.search(asked)
    assert "feedback" not in plain
    answer = searcher.search(asked, feedback=True)
    found = answer["feedback"]
    assert found["documents"] == ids(plain)[:FEEDBACK_HITS]
    assert found["notes"] == []
    assert sum(found["terms"].values()) == pytest.approx(1, abs=1e-3)
    counts = [counts_of(client, papers, id) for id in found["documents"]]
    for term in found["terms"]:
        assert any(terms.latent_of(term) in one for one in counts)
    # Every hit that has a term by feedback has a higher score than without.
    before, after = scores(plain), scores(answer)
    both = before.keys() & after.keys()
    assert len(both) >= FEEDBACK_HITS
    assert all(after[id] >= before[id] for id in both)
    assert any(after[id] > before[id] for id in both)


def test_expand_gives_the_request_that_the_searcher_sends(
    either: OpenSearch, new_index: Any, load: Any, lines: Lines, encoder: LatentEncoder
) -> None:
    """On both engines."""
    index = new_index(either)
    load(either, index, lines)
    rewriter = QueryRewriter.from_index(either, index, encoder)
    for asked in (QUESTION, {"query": {"bool": {"must": [MATCH]}}}):
        first = either.search(index=index, body=rewriter.first_hits_request(asked))
        hits = first["hits"]["hits"]
        assert len(hits) == FEEDBACK_HITS
        assert all(hit["_source"].keys() == {"latent"} for hit in hits)
        body = rewriter.expand(asked, hits)
        answer = either.search(index=index, body=body)
        sent = Searcher(either, index, [encoder]).search(asked, feedback=True)
        assert scores(answer) == pytest.approx(scores(sent))
        expansion = rewriter.expansion_of(hits)
        again, report = rewriter.rewrite_and_report(asked, expansion=expansion.token)
        assert again == body
        assert report.feedback is not None
        assert report.feedback.shares == pytest.approx(expansion.shares, abs=1e-6)
        assert f"feedback: latent terms of {hits[0]['_id']}" in " ".join(report.lines())
        json.dumps(report.to_json())


def test_an_event_loop_asks_the_same(
    client: OpenSearch, opensearch_url: str, papers: str, encoder: LatentEncoder
) -> None:
    expected = Searcher(client, papers, [encoder]).search(QUESTION, feedback=True)

    async def ask() -> Any:
        async with AsyncOpenSearch(opensearch_url) as asynchronous:
            searcher = await AsyncSearcher.open(asynchronous, papers, [encoder])
            answer = await searcher.search(QUESTION, feedback=True)
            token = answer["feedback"]["token"]
            return answer, await searcher.search({"query": MATCH, "from": 10}, feedback=token)

    answer, following = asyncio.run(ask())
    assert scores(answer) == pytest.approx(scores(expected))
    assert answer["feedback"] == expected["feedback"]
    assert following["feedback"]["token"] == expected["feedback"]["token"]


@pytest.mark.parametrize("with_token", [True, False])
def test_three_pages_show_no_hit_twice(
    client: OpenSearch, papers: str, encoder: LatentEncoder, with_token: bool
) -> None:
    searcher = Searcher(client, papers, [encoder])
    whole = ids(searcher.search({"query": MATCH, "size": 30}, feedback=True))
    seen: list[str] = []
    feedback: Any = True
    for page in range(3):
        body = {"query": MATCH, "size": 10, "from": 10 * page}
        answer = searcher.search(body, feedback=feedback)
        seen += ids(answer)
        if with_token:
            feedback = answer["feedback"]["token"]
    assert len(set(seen)) == 30
    assert seen == whole


def test_search_after_and_a_token_show_all_hits_once(
    client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    searcher = Searcher(client, papers, [encoder])
    body: dict[str, Any] = {
        "query": MATCH,
        "size": 20,
        "sort": [{"_score": "desc"}, {"n": "asc"}],
        "_source": False,
    }
    feedback: Any = True
    seen: list[Any] = []
    for _ in range(3):
        answer = searcher.search(body, feedback=feedback)
        seen += answer["hits"]["hits"]
        feedback = answer["feedback"]["token"]
        body["search_after"] = seen[-1]["sort"]
    assert len({hit["_id"] for hit in seen}) == 60
    assert all(one["_score"] >= other["_score"] for one, other in pairwise(seen))


def test_a_token_keeps_the_terms_though_other_documents_come(
    client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    searcher = Searcher(client, papers, [encoder])
    found = searcher.search(QUESTION, feedback=True)["feedback"]
    first = client.get(index=papers, id=found["documents"][0])["_source"]
    client.index(index=papers, id="new", body=first, refresh=True)
    kept = searcher.search({"query": MATCH, "from": 10}, feedback=found["token"])["feedback"]
    anew = searcher.search({"query": MATCH, "from": 10}, feedback=True)["feedback"]
    assert kept == found
    assert "new" in anew["documents"]


def test_a_point_in_time(client: OpenSearch, papers: str, encoder: LatentEncoder) -> None:
    searcher = Searcher(client, papers, [encoder])
    pit = client.create_pit(index=papers, params={"keep_alive": "1m"})["pit_id"]
    body = {"query": MATCH, "pit": {"id": pit}}
    try:
        answer = searcher.search(body, feedback=True)
        expected = searcher.search({"query": MATCH}, feedback=True)
        assert scores(answer) == pytest.approx(scores(expected))
        assert answer["feedback"] == expected["feedback"]
        judged = searcher.search(body, relevant=["d3"])
        assert judged["feedback"]["documents"] == ["d3"]
    finally:
        client.delete_pit(body={"pit_id": [pit]})


def test_filters_aggregations_collapse_and_highlight_work(
    client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    searcher = Searcher(client, papers, [encoder])
    filtered = searcher.search(QUESTION, feedback=True, filter={"term": {"kind.keyword": "a"}})
    found = [int(id[1:]) for id in [*ids(filtered), *filtered["feedback"]["documents"]]]
    assert {n % 2 for n in found} == {0}
    assert len(filtered["feedback"]["documents"]) == FEEDBACK_HITS
    body = {
        "query": MATCH,
        "aggs": {"kinds": {"terms": {"field": "kind.keyword"}}},
        "highlight": {"fields": {"text": {}}},
        "track_total_hits": True,
    }
    plain, answer = (searcher.search(body, feedback=feedback) for feedback in (False, True))
    assert answer["feedback"]["terms"]
    assert answer["aggregations"] == plain["aggregations"]
    assert answer["hits"]["total"] == plain["hits"]["total"]
    assert "highlight" in answer["hits"]["hits"][0]
    collapsed = {"query": MATCH, "collapse": {"field": "kind.keyword"}}
    answer = searcher.search(collapsed, feedback=True)
    assert len(answer["hits"]["hits"]) == 2
    assert len(answer["feedback"]["documents"]) == 2


def test_explanations_name_the_hits_that_terms_came_from(
    client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    rewriter = QueryRewriter.from_index(client, papers, encoder)
    first = client.search(index=papers, body=rewriter.first_hits_request(QUESTION))["hits"]["hits"]
    expansion = rewriter.expansion_of(first)
    body = rewriter.rewrite(QUESTION, expansion=expansion)
    hits = client.search(index=papers, body=body)["hits"]["hits"]
    (found, *_) = explain_hits(client, rewriter, QUESTION, body, hits[:1], expansion=expansion)
    assert found.score == pytest.approx(hits[0]["_score"], rel=1e-4)
    own = {item.term for item in rewriter.terms(QUESTION)}
    marked = {item.term: item.feedback for item in found.contributions if item.feedback}
    assert marked
    assert not marked.keys() & own
    for term, sources in marked.items():
        assert sources == tuple(
            hit["_id"]
            for hit in first
            if terms.latent_of(term) in counts_of(client, papers, hit["_id"])
        )


def same_as_without(searcher: Searcher, asked: Any, note: str, **options: Any) -> dict[str, Any]:
    """Ask with feedback that cannot be given: the answer is that without, and says why."""
    plain = searcher.search(asked, **options)
    answer = searcher.search(asked, feedback=True, **options)
    assert scores(answer) == scores(plain)
    assert ids(answer) == ids(plain)
    assert answer["feedback"]["terms"] == {}
    assert note in " ".join(answer["feedback"]["notes"])
    again = searcher.search(asked, feedback=answer["feedback"]["token"], **options)
    assert ids(again) == ids(plain)
    return answer


def test_no_hits_at_first(client: OpenSearch, papers: str, encoder: LatentEncoder) -> None:
    searcher = Searcher(client, papers, [encoder])
    none = {"term": {"kind.keyword": "c"}}
    assert ids(same_as_without(searcher, QUESTION, "there are no hits", filter=none)) == []


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ({"query": MATCH, "sort": [{"n": "desc"}]}, "not sorted by score"),
        ({"query": MATCH, "size": 0, "aggs": {"n": {"max": {"field": "n"}}}}, "no hits are asked"),
        ({"query": {"match_all": {}}}, "no clause has latent terms"),
        ({"size": 3}, "no query"),
    ],
)
def test_requests_that_feedback_would_not_change(
    client: OpenSearch,
    papers: str,
    encoder: LatentEncoder,
    body: dict[str, Any],
    note: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are sent once."""
    searcher = Searcher(client, papers, [encoder])
    same_as_without(searcher, body, note)
    sent: list[Any] = []
    search = client.search
    monkeypatch.setattr(client, "search", lambda **all: sent.append(all) or search(**all))
    searcher.search(body, feedback=True)
    assert len(sent) == 1


def test_a_lean_index_says_that_it_keeps_no_terms(
    client: OpenSearch, index: str, load: Any, lines: Lines, encoder: LatentEncoder
) -> None:
    load(client, index, lines, wanted={"lean": True})
    searcher = Searcher(client, index, [encoder])
    same_as_without(searcher, QUESTION, "no hit holds latent terms that can be read")


@pytest.mark.parametrize("spelling", ["repeat", "delimited"])
def test_a_lean_index_with_term_vectors(
    client: OpenSearch,
    new_index: Any,
    load: Any,
    lines: Lines,
    encoder: LatentEncoder,
    spelling: str,
) -> None:
    """Gives the terms that an index with terms in `_source` gives."""
    plain, lean = new_index(), new_index()
    load(client, plain, lines, wanted={"spelling": spelling})
    open_index(client, lean, encoder, {"lean": True, "spelling": spelling})
    made = client.indices.get(index=lean)[lean]
    made["mappings"]["properties"]["latent"]["term_vector"] = "yes"
    settings = {name: made["settings"]["index"][name] for name in ("analysis", "similarity")}
    client.indices.delete(index=lean)
    client.indices.create(index=lean, body={"settings": settings, "mappings": made["mappings"]})
    load(client, lean, lines, wanted={"lean": True, "spelling": spelling})
    found = [
        Searcher(client, name, [encoder]).search(QUESTION, feedback=True) for name in (plain, lean)
    ]
    assert found[1]["feedback"]["terms"] == pytest.approx(found[0]["feedback"]["terms"])
    assert found[1]["feedback"]["documents"] == found[0]["feedback"]["documents"]
    assert scores(found[1]) == pytest.approx(scores(found[0]))


def test_hits_without_latent_terms_are_named(
    client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    """Those of the other hits are taken over."""
    searcher = Searcher(client, papers, [encoder])
    best = {"text": f"{QUESTION} " * 3, "title": QUESTION, "n": 1000}
    client.index(index=papers, id="bare", body=best, refresh=True)
    client.index(index=papers, id="odd", body={**best, "latent": "no term"}, refresh=True)
    found = searcher.search({"query": MATCH}, form="hybrid", feedback=True)["feedback"]
    if not {"bare", "odd"} <= set(ids(searcher.search({"query": MATCH}))[:FEEDBACK_HITS]):
        only = {"ids": {"values": ["bare", "odd", *found["documents"][:1]]}}
        found = searcher.search(QUESTION, filter=only, feedback=True)["feedback"]
    assert not {"bare", "odd"} & set(found["documents"])
    assert found["terms"]
    assert "without latent terms" in found["notes"][0]
    assert "bare" in found["notes"][0]
    assert "odd" in found["notes"][0]
    same_as_without(searcher, QUESTION, "no hit holds", filter={"ids": {"values": ["bare", "odd"]}})


def test_hits_of_another_index_are_left_out(
    client: OpenSearch, new_index: Any, load: Any, lines: Lines, papers: str, encoder: LatentEncoder
) -> None:
    """It may be of another model, as when an alias has moved."""
    other = new_index()
    load(client, other, lines)
    rewriter = QueryRewriter.from_index(client, papers, encoder)
    request = {**rewriter.first_hits_request(QUESTION), "size": 6}
    hits = client.search(index=f"{papers},{other}", body=request)["hits"]["hits"]
    assert {hit["_index"] for hit in hits} == {papers, other}
    expansion = rewriter.expansion_of(hits)
    own = [hit["_id"] for hit in hits if hit["_index"] == papers]
    assert list(expansion.documents) == own
    assert "may be of another model" in expansion.notes[-1]
    foreign = [hit for hit in hits if hit["_index"] == other]
    assert rewriter.expand(QUESTION, foreign) == rewriter.rewrite(QUESTION)


def test_a_token_of_another_model(client: OpenSearch, papers: str, encoder: LatentEncoder) -> None:
    """A rewriter refuses it, a searcher asks for the first hits again."""
    searcher = Searcher(client, papers, [encoder])
    other = Expansion({"f1": 1.0}, fingerprint="another").token
    with pytest.raises(MismatchError, match="ask for the first hits again"):
        searcher.rewriter.rewrite(QUESTION, expansion=other)
    answer = searcher.search(QUESTION, feedback=other)
    assert answer["feedback"] == searcher.search(QUESTION, feedback=True)["feedback"]


@pytest.mark.parametrize("token", ["", "abc", "x" * 30_000, "eJwDAAAAAAE", "ä"])
def test_what_is_no_token(
    client: OpenSearch, papers: str, encoder: LatentEncoder, token: str
) -> None:
    with pytest.raises(InputError, match="not a token"):
        Searcher(client, papers, [encoder]).search(QUESTION, feedback=token)


def test_a_first_hit_with_ten_thousand_terms(
    client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    searcher = Searcher(client, papers, [encoder])
    latent = " ".join(f"f{n} f{n} f{n}" for n in range(10_000))
    body = {"text": QUESTION, "title": QUESTION, "latent": latent}
    client.index(index=papers, id="long", body=body, refresh=True)
    only = {"ids": {"values": ["long"]}}
    answer = searcher.search(QUESTION, filter=only, feedback=True)
    assert answer["feedback"]["documents"] == ["long"]
    assert len(answer["feedback"]["terms"]) == FEEDBACK_TERMS
    assert len(answer["feedback"]["token"]) < 2000
    sent = searcher.rewriter.rewrite(QUESTION, expansion=answer["feedback"]["token"])
    assert json.dumps(sent).count('"term"') <= searcher.rewriter.max_query_terms


def test_documents_deleted_between_the_two_requests(
    client: OpenSearch, papers: str, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their terms are used, and they are not among the hits."""
    searcher = Searcher(client, papers, [encoder])
    search: Callable[..., Any] = client.search
    deleted: list[str] = []

    def search_and_delete(**request: Any) -> Any:
        answer = search(**request)
        if not deleted:
            deleted.extend(ids(answer))
            for id in deleted:
                client.delete(index=papers, id=id, refresh=True)
        return answer

    monkeypatch.setattr(client, "search", search_and_delete)
    answer = searcher.search(QUESTION, feedback=True)
    assert answer["feedback"]["documents"] == deleted
    assert len(ids(answer)) == 10
    assert not set(ids(answer)) & set(deleted)


def test_documents_like_others(client: OpenSearch, papers: str, encoder: LatentEncoder) -> None:
    searcher = Searcher(client, papers, [encoder])
    answer = searcher.search(relevant=["d3", "d7"], size=5, filter={"term": {"kind.keyword": "a"}})
    assert answer["feedback"]["documents"] == ["d3", "d7"]
    assert len(ids(answer)) == 5
    assert {int(id[1:]) % 2 for id in ids(answer)} == {0}
    # A copy of the document is most like it.
    copy = client.get(index=papers, id="d3")["_source"]
    client.index(index=papers, id="copy", body=copy, refresh=True)
    found = ids(searcher.search(relevant=["d3"]))
    assert found[0] == "copy"
    assert "d3" not in found
    asked = searcher.search(QUESTION, relevant=["d3"], not_relevant=["d7"])
    assert asked["feedback"]["documents"] == ["d3"]
    plain = scores(searcher.search(QUESTION, size=80))
    after = scores(searcher.search(QUESTION, size=80, relevant=["d3"], not_relevant=["d7"]))
    assert after["d3"] - plain["d3"] > after["d7"] - plain["d7"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"relevant": ["nobody"]}, "no document 'nobody'"),
        ({"not_relevant": ["d1"]}, "give ids of relevant documents too"),
        ({"relevant": ["d1"], "feedback": True}, "use one of them"),
        ({"relevant": ["d1"], "form": "latent"}, "only size and filter"),
        ({}, "the question is empty"),
    ],
)
def test_what_cannot_be_asked(
    client: OpenSearch, papers: str, encoder: LatentEncoder, options: Any, error: str
) -> None:
    with pytest.raises(InputError, match=error):
        Searcher(client, papers, [encoder]).search(**options)


def test_chunks_of_documents(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    """Hits are documents, and their best chunks give the terms."""
    texts = {
        "files": "Files are read line by line. " * 120 + "Closing a file frees it.",
        "bees": "Bees dance to tell where nectar is. " * 100,
        "loans": "The bank raised its interest rate on mortgages.",
    }
    rows = [json.dumps({"_id": id, "text": text}) for id, text in texts.items()]
    load(client, index, rows, wanted={"long": "chunks"})
    searcher = Searcher(client, index, [encoder])
    answer = searcher.search(QUESTION, feedback=True)
    assert answer["feedback"]["documents"][0].startswith("files#")
    assert answer["feedback"]["terms"]
    parents = [hit["_source"]["parent_id"] for hit in answer["hits"]["hits"]]
    assert parents[0] == "files"
    assert len(set(parents)) == len(parents)
    like = searcher.search(relevant=["files"])
    assert all(hit["_source"]["parent_id"] != "files" for hit in like["hits"]["hits"])
