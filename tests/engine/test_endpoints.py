"""Bodies for endpoints other than `_search`, on a real node: each takes its body and matches what
the words match."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError
from querying.bodies import BODIES

from latent_ingest.cli.main import cli
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.application.endpoints import ENDPOINTS, MATCHING
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form

MATCH = {"match": {"text": "find files whose names look like a pattern"}}
# Parts of a search of which an endpoint refuses to leave one out.
NARROWED = {"collapse", "search_after"}


def matched(client: OpenSearch, index: str, body: dict[str, Any]) -> set[str]:
    """Return the documents that a request matches as given."""
    parts = {name: body[name] for name in ("query", "post_filter", "min_score") if name in body}
    answer = client.search(index=index, body={**parts, "size": 1000, "_source": False})
    return {hit["_id"] for hit in answer["hits"]["hits"]}


def bodies_for(endpoint: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, (body, _) in BODIES.items():
        if endpoint not in ("_delete_by_query", "_update_by_query") or not body.keys() & NARROWED:
            yield name, body


@pytest.mark.parametrize("form", ["hybrid", "two_phase"])
def test_a_count_is_that_of_the_words(
    client: OpenSearch, rewriter: QueryRewriter, form: str
) -> None:
    counts = {}
    for name, body in bodies_for("_count"):
        given = copy.deepcopy(body)
        new, report = rewriter.rewrite_and_report(body, form=form, endpoint="_count")
        assert body == given
        assert new.keys() <= {"query"}
        assert report.matching == "keep"
        count = client.count(index=rewriter.index, body=new)["count"]
        assert count == len(matched(client, str(rewriter.index), body)), name
        counts[name] = count
        again = rewriter.rewrite_body(new, form=form, endpoint="_count")
        assert again == new, name
    assert len(counts) == len(BODIES)
    assert len(set(counts.values())) > 20


def test_an_update_is_of_what_the_words_match(client: OpenSearch, rewriter: QueryRewriter) -> None:
    totals = set()
    for name, body in bodies_for("_update_by_query"):
        new = rewriter.rewrite_body(body, endpoint="_update_by_query")
        answer = client.update_by_query(index=rewriter.index, body=new, refresh=True)
        expected = len(matched(client, str(rewriter.index), body))
        assert (answer["total"], answer["failures"]) == (expected, []), name
        totals.add(expected)
    assert len(totals) > 20


def test_an_update_keeps_its_own_parts_and_all_fields(
    client: OpenSearch, rewriter: QueryRewriter, clone: str
) -> None:
    """The engine would write back only the fields of a `_source`."""
    update = {"script": {"source": "ctx._source.votes = 77"}, "conflicts": "proceed"}
    body = {"query": MATCH, "_source": ["title"], "size": 3, "max_docs": 5, **update}
    new = rewriter.rewrite_body(body, endpoint="_update_by_query")
    assert new == {"query": MATCH, "max_docs": 5, **update}
    before = {hit["_id"]: hit["_source"] for hit in all_of(client, clone)}
    assert client.update_by_query(index=clone, body=new, refresh=True)["updated"] == 5
    after = {hit["_id"]: hit["_source"] for hit in all_of(client, clone)}
    changed = {name for name in after if after[name] != before[name]}
    assert len(changed) == 5
    assert all(after[name] == {**before[name], "votes": 77} for name in changed)


def all_of(client: OpenSearch, index: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.search(index=index, body={"size": 1000})["hits"]["hits"]
    return found


@pytest.fixture
def clone(client: OpenSearch, rewriter: QueryRewriter, index: str) -> str:
    """A copy of the index of the bodies."""
    source = rewriter.index
    client.indices.put_settings(index=source, body={"index.blocks.write": True})
    client.indices.clone(
        index=source, target=index, body={"settings": {"index.blocks.write": None}}
    )
    client.indices.put_settings(index=source, body={"index.blocks.write": None})
    return index


def test_what_is_deleted_is_what_the_words_match(
    client: OpenSearch, rewriter: QueryRewriter, clone: str
) -> None:
    everything = {hit["_id"] for hit in all_of(client, clone)}
    sizes = set()
    for name, body in list(bodies_for("_delete_by_query"))[::4]:
        expected = matched(client, clone, body)
        new = rewriter.rewrite_body(body, endpoint="_delete_by_query")
        if "query" not in new:
            with pytest.raises(RequestError, match="query is missing"):
                client.delete_by_query(index=clone, body=new)
            continue
        client.delete_by_query(index=clone, body=new, refresh=True)
        left = {hit["_id"] for hit in all_of(client, clone)}
        assert everything - left == expected, name
        sizes.add(len(expected))
        back = {"source": {"index": rewriter.index}, "dest": {"index": clone, "op_type": "create"}}
        client.reindex(body={**back, "conflicts": "proceed"}, refresh=True)
    assert len(sizes) > 8


@pytest.mark.parametrize("form", list(Form))
def test_a_query_is_explained_and_validated_as_it_is_searched(
    client: OpenSearch, rewriter: QueryRewriter, form: str
) -> None:
    compared = 0
    for name, (body, _) in BODIES.items():
        new = rewriter.rewrite_body(body, form=form, endpoint="_validate/query")
        assert list(new) == ["query"] or "query" not in body, name
        if "query" not in new:
            continue
        answer = client.indices.validate_query(index=rewriter.index, body=new)
        assert answer["valid"], name
        new = rewriter.rewrite_body(body, form=form, endpoint="_explain")
        searched = rewriter.rewrite_body(body, form=str(Form(form).one_phase))
        assert new.get("query") == searched.get("query"), name
        hits = client.search(index=rewriter.index, body={**new, "size": 1})["hits"]["hits"]
        if not hits:
            continue
        answer = client.explain(index=rewriter.index, id=hits[0]["_id"], body=new)
        assert answer["matched"], name
        compared += answer["explanation"]["value"] == pytest.approx(hits[0]["_score"], rel=1e-4)
    assert compared > 60


@pytest.mark.parametrize("endpoint", MATCHING)
def test_more_than_the_words_match_is_refused(rewriter: QueryRewriter, endpoint: str) -> None:
    with pytest.raises(InputError, match=f"matching 'expand': {endpoint} would .* leave it out"):
        rewriter.rewrite_body({"query": MATCH}, matching="expand", endpoint=endpoint)
    pit = {"query": MATCH, "pit": {"id": "a"}}
    with pytest.raises(InputError, match=f"pit: {endpoint} does not take it, and would"):
        rewriter.rewrite_body(pit, endpoint=endpoint)
    wide = rewriter.rewrite_body({"query": {"bool": {"must": [MATCH]}}})
    with pytest.raises(InputError, match="has latent terms already"):
        rewriter.rewrite_body(wide, endpoint=endpoint)
    alone = rewriter.rewrite_body({"query": MATCH}, form="latent")
    with pytest.raises(InputError, match="has latent terms already"):
        rewriter.rewrite_body(alone, endpoint=endpoint)
    for form in Form:
        kept = rewriter.rewrite_body({"query": MATCH}, form=form, matching="keep")
        assert rewriter.rewrite_body(kept, endpoint=endpoint) == {"query": kept["query"]}


def test_what_would_delete_other_documents_is_refused(rewriter: QueryRewriter) -> None:
    for name, part in {"collapse": {"field": "year"}, "search_after": [3]}.items():
        for endpoint in ("_delete_by_query", "_update_by_query"):
            with pytest.raises(InputError, match=f"{name}: {endpoint} does not take it"):
                rewriter.rewrite_body({"query": MATCH, name: part}, endpoint=endpoint)
        assert rewriter.rewrite_body({"query": MATCH, name: part}, endpoint="_count") == {
            "query": MATCH
        }


def test_what_is_not_a_part_of_a_search_is_left_to_the_endpoint(
    client: OpenSearch, rewriter: QueryRewriter
) -> None:
    """Without it, the body would count everything."""
    assert rewriter.rewrite_body(MATCH, endpoint="_count") == MATCH
    with pytest.raises(RequestError, match="match"):
        client.count(index=rewriter.index, body=MATCH)


def test_an_endpoint_is_named_as_in_its_address(rewriter: QueryRewriter) -> None:
    with pytest.raises(InputError, match="endpoint 'count': use one of _search, _count, "):
        rewriter.rewrite_body({"query": MATCH}, endpoint="count")
    body = {"query": MATCH, "size": 3}
    assert rewriter.rewrite_body(body, endpoint="_search") == rewriter.rewrite_body(body)
    for endpoint in ENDPOINTS:
        text = json.dumps({"query": MATCH})
        assert rewriter.rewrite_body(text, endpoint=endpoint)


def test_the_command_prints_a_body_for_an_endpoint(
    opensearch_url: str, rewriter: QueryRewriter
) -> None:
    body = {"query": MATCH, "size": 3, "sort": ["year"], "min_score": 0.1, "post_filter": MATCH}

    def run(*arguments: str) -> Any:
        given = ["rewrite", "--index", str(rewriter.index), "--url", opensearch_url, *arguments]
        return CliRunner().invoke(cli, given, input=json.dumps(body))

    done = run("--body", "-", "--endpoint", "_count")
    assert json.loads(done.stdout) == rewriter.rewrite_body(body, endpoint="_count")
    assert done.stderr.splitlines() == [
        "matching: keep (_count scores no hits, so it gets no latent terms)",
        "min_score: moved into the query",
        "post_filter: moved into the query",
        "left out, since _count has no use for it: size, sort",
    ]
    assert done.exit_code == 0
    refused = run("--body", "-", "--endpoint", "_count", "--matching", "expand")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1
    refused = run("a question", "--endpoint", "_count")
    assert "--endpoint are for --body" in refused.stderr
