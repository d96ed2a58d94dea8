"""Points in time: a body that names one is searched there, for the indices that it shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import EngineError, MismatchError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.querying import searcher as searcher_module
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form
from latent_ingest.connector.querying.searcher import AsyncSearcher, Searcher

QUESTION = "how do bees tell of flowers"
ROWS = {
    "bees": "Honey insects dance to tell their hive where nectar is.",
    "loans": "The bank raised its interest rate on mortgages by half a percent.",
    "rain": "Heavy precipitation flooded the valley after the storm.",
    "chess": "She sacrificed her queen and gave checkmate two moves later.",
    "bread": "Knead the dough, let it rise, and bake until the crust is brown.",
}
MATCH = {"match": {"text": QUESTION}}
SORT = [{"_score": "desc"}, {"n": "asc"}]


@pytest.fixture
def papers(client: OpenSearch, index: str, load: Any) -> str:
    load(client, index, [json.dumps({"_id": i, "text": t, "n": 1}) for i, t in ROWS.items()])
    return index


@pytest.fixture
def points(client: OpenSearch) -> Iterator[Any]:
    """Open points in time, which are closed after the test."""
    opened = []

    def at(index: str) -> dict[str, str]:
        answer = client.create_pit(index=index, params={"keep_alive": "1m"})
        opened.append(answer["pit_id"])
        return {"id": opened[-1], "keep_alive": "1m"}

    yield at
    client.delete_pit(body={"pit_id": opened})


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


@pytest.mark.parametrize("form", list(Form))
def test_a_point_in_time_is_searched_as_the_index_is(
    client: OpenSearch, papers: str, points: Any, encoder: LatentEncoder, form: str
) -> None:
    """And does not see documents that come later. The given body is not changed."""
    searcher = Searcher(client, papers, [encoder])
    body = {"query": MATCH, "pit": points(papers)}
    given = json.dumps(body)
    expected = scores(searcher.search({"query": MATCH}, form=form))
    assert scores(searcher.search(body, form=form)) == pytest.approx(expected)
    assert len(expected) > 1
    later = {"text": ROWS["bees"], "latent": client.get(index=papers, id="bees")["_source"]}
    later["latent"] = later["latent"]["latent"]
    client.index(index=papers, id="later", body=later, refresh=True)
    assert scores(searcher.search(body, form=form)) == pytest.approx(expected)
    assert "later" in scores(searcher.search({"query": MATCH}, form=form))
    assert json.dumps(body) == given


def test_pages_and_slices_of_a_point_in_time(
    client: OpenSearch, papers: str, points: Any, encoder: LatentEncoder
) -> None:
    searcher = Searcher(client, papers, [encoder])
    body: dict[str, Any] = {"query": MATCH, "pit": points(papers), "sort": SORT, "size": 2}
    whole = searcher.search({**body, "size": 10})["hits"]["hits"]
    seen: list[Any] = []
    for form in ("hybrid", "hybrid_two_phase"):
        body.pop("search_after", None)
        seen = []
        while page := searcher.search(body, form=form)["hits"]["hits"]:
            seen += page
            body["search_after"] = page[-1]["sort"]
        assert {hit["_id"] for hit in seen} == {hit["_id"] for hit in whole}
        assert len(seen) == len(whole) > 2
    sliced = [
        scores(searcher.search({"query": MATCH, "pit": body["pit"], "slice": {"id": n, "max": 2}}))
        for n in range(2)
    ]
    assert sliced[0].keys() | sliced[1].keys() == {hit["_id"] for hit in whole}
    assert not sliced[0].keys() & sliced[1].keys()


def test_an_event_loop_searches_it_too(
    opensearch_url: str, client: OpenSearch, papers: str, points: Any, encoder: LatentEncoder
) -> None:
    expected = scores(Searcher(client, papers, [encoder]).search({"query": MATCH}))
    body = {"query": MATCH, "pit": points(papers)}

    async def ask() -> dict[str, Any]:
        async with AsyncOpenSearch(opensearch_url) as loop_client:
            searching = await AsyncSearcher.open(loop_client, papers, [encoder])
            return await searching.search(body)

    assert scores(asyncio.run(ask())) == pytest.approx(expected)


def test_its_indices_are_asked_for_once(
    client: OpenSearch,
    papers: str,
    points: Any,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    indices_at = searcher_module.indices_at
    monkeypatch.setattr(
        searcher_module, "indices_at", lambda *given: asked.append(given) or indices_at(*given)
    )
    searcher = Searcher(client, papers, [encoder])
    body = {"query": MATCH, "pit": points(papers)}
    for _ in range(3):
        searcher.search(body)
    assert len(asked) == 1


def test_an_alias_that_moves_leaves_a_point_in_time_with_its_index(
    client: OpenSearch,
    papers: str,
    points: Any,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
) -> None:
    """Its body is made for the index that it shows, whose latent field may have another name."""
    moved, alias = new_index(), f"{papers}-alias"
    load(client, moved, [json.dumps({"_id": "new", "text": ROWS["bees"]})])
    client.indices.put_alias(index=papers, name=alias)
    searcher = Searcher(client, alias, [encoder], renew_seconds=0)
    body = {"query": MATCH, "pit": points(alias)}
    expected = scores(searcher.search(body))
    client.indices.update_aliases(
        body={
            "actions": [
                {"remove": {"index": papers, "alias": alias}},
                {"add": {"index": moved, "alias": alias}},
            ]
        }
    )
    assert scores(searcher.search({"query": MATCH})).keys() == {"new"}
    again = Searcher(client, alias, [encoder])
    assert again.index == moved
    for one in (searcher, again):
        assert scores(one.search(body)) == pytest.approx(expected)
    Index(client, papers).update_meta(fingerprint="0123456789abcdef")
    with pytest.raises(MismatchError, match=rf"index {papers} was made by model .*0123456789abc"):
        Searcher(client, alias, [encoder]).search(body)


def test_a_point_in_time_of_another_index_is_refused(
    client: OpenSearch, papers: str, points: Any, new_index: Any, encoder: LatentEncoder
) -> None:
    """Also where it is one of several; an index without documents cannot be found in."""
    plain, empty = new_index(), new_index()
    client.index(index=plain, id="1", body={"text": QUESTION}, refresh=True)
    client.indices.create(index=empty)
    searcher = Searcher(client, papers, [encoder])
    for name in (plain, f"{papers},{plain}"):
        with pytest.raises(MismatchError, match=f"index {plain} has no latent terms"):
            searcher.search({"query": MATCH, "pit": points(name)})
    found = searcher.search({"query": MATCH, "pit": points(f"{papers},{empty}")})
    assert "bees" in scores(found)
    assert scores(searcher.search({"query": MATCH, "pit": points(empty)})) == {}


def test_an_expired_point_in_time_is_the_engines_error(
    client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    searcher = Searcher(client, papers, [encoder])
    for first in (True, False):
        answer = client.create_pit(index=papers, params={"keep_alive": "1m"})
        body = {"query": MATCH, "pit": {"id": answer["pit_id"]}}
        if first:
            searcher.search(body)
        client.delete_pit(body={"pit_id": [answer["pit_id"]]})
        with pytest.raises(EngineError) as caught:
            searcher.search(body)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(EngineError):
        searcher.search({"query": MATCH, "pit": {"id": "none"}})


def test_a_rewriter_keeps_the_point_in_time(rewriter: QueryRewriter, points: Any) -> None:
    body = {"query": MATCH, "pit": points(str(rewriter.index)), "slice": {"id": 0, "max": 2}}
    new = rewriter.rewrite_body(body)
    assert (new["pit"], new["slice"]) == (body["pit"], body["slice"])
