"""Searches through the proxy: rewritten, or passed through with the reason."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from indexed import PREFIX, indexed
from opensearchpy import OpenSearch
from proxy.conftest import Running, Serve

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.querying.rewriter import QueryRewriter

QUESTION = "find files whose names look like a pattern"
MATCH = {"query": {"match": {"text": QUESTION}}}


@pytest.fixture(scope="module")
def papers(client: OpenSearch, encoder: LatentEncoder, corpus: Path) -> Iterator[str]:
    """An index of 90 docstrings."""
    with indexed(client, encoder, corpus) as name:
        yield name


def ids(answer: Any) -> list[tuple[str, float]]:
    return [(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]]


def test_a_search_is_answered_as_the_library_answers_it(
    proxy: Running, client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    reply = proxy.ask("POST", f"/{papers}/_search", MATCH)
    assert reply.status == 200
    assert reply.latent == "rewritten; form=hybrid; clauses=1"
    rewriter = QueryRewriter.from_index(client, papers, encoder)
    expected = client.search(index=papers, body=rewriter.rewrite_body(MATCH))
    assert ids(reply.json) == ids(expected)
    assert ids(reply.json) != ids(client.search(index=papers, body=MATCH))


def test_off_passes_a_search_through(proxy: Running, client: OpenSearch, papers: str) -> None:
    reply = proxy.ask("POST", f"/{papers}/_search", MATCH, x_latent="off")
    assert reply.latent == "passed through; X-Latent: off"
    assert ids(reply.json) == ids(client.search(index=papers, body=MATCH))


def test_a_search_in_the_url_is_that_of_its_body(proxy: Running, papers: str) -> None:
    reply = proxy.ask("GET", f"/{papers}/_search?q=names+pattern&df=text&size=3")
    assert reply.latent == "rewritten; form=hybrid; clauses=1"
    query = {"query_string": {"query": "names pattern", "default_field": "text"}}
    body = proxy.ask("POST", f"/{papers}/_search", {"query": query, "size": 3})
    assert ids(reply.json) == ids(body.json)
    assert len(ids(reply.json)) == 3


def test_an_index_without_latent_terms_is_searched_as_ever(
    proxy: Running, client: OpenSearch, index: str
) -> None:
    client.index(index=index, body={"text": "a b"}, refresh=True)
    reply = proxy.ask("POST", f"/{index}/_search", {"query": {"match": {"text": "a"}}})
    assert str(reply.latent).startswith("passed through; ")
    assert len(ids(reply.json)) == 1


def test_everything_else_passes(proxy: Running, client: OpenSearch) -> None:
    assert proxy.ask("GET", "/").json == client.info()
    assert proxy.ask("HEAD", "/").status == 200
    missing = proxy.ask("GET", "/no-such-index-here/_doc/1")
    assert missing.status == 404
    assert missing.json["error"]["type"] == "index_not_found_exception"
    broken = proxy.ask("POST", "/_search", b"{broken")
    assert broken.status == 400
    assert "parse" in json.dumps(broken.json)


def test_headers_choose_form_and_matching(proxy: Running, papers: str) -> None:
    path = f"/{papers}/_search"
    form = proxy.ask("POST", path, MATCH, x_latent_form="two_phase")
    assert str(form.latent).startswith("rewritten; form=two_phase")
    keep = proxy.ask("POST", path, MATCH, x_latent_matching="keep")
    off = proxy.ask("POST", path, MATCH, x_latent="off")
    assert keep.json["hits"]["total"] == off.json["hits"]["total"]
    assert ids(keep.json) != ids(off.json)
    wrong = proxy.ask("POST", path, MATCH, x_latent_form="better")
    assert wrong.status == 400
    assert "use one of auto, " in wrong.json["error"]["reason"]


def test_parameters_of_the_url_count(proxy: Running, papers: str) -> None:
    """`sort` beside a rescoring body would be an error of the engine."""
    path = f"/{papers}/_search?sort=_doc&size=3&track_total_hits=true"
    reply = proxy.ask("POST", path, MATCH, x_latent_form="hybrid_two_phase")
    assert reply.status == 200
    assert len(reply.json["hits"]["hits"]) == 3
    fields = proxy.ask("POST", f"/{papers}/_search?stored_fields=_none_", MATCH)
    assert fields.status == 200
    assert "_source" not in fields.json["hits"]["hits"][0]


def test_scrolls(proxy: Running, papers: str) -> None:
    body = {**MATCH, "size": 40}
    page = proxy.ask("POST", f"/{papers}/_search?scroll=1m", body, x_latent_form="hybrid_two_phase")
    assert str(page.latent).startswith("rewritten; form=hybrid;")
    seen = [hit["_id"] for hit in page.json["hits"]["hits"]]
    while page.json["hits"]["hits"]:
        scroll = {"scroll_id": page.json["_scroll_id"], "scroll": "1m"}
        page = proxy.ask("POST", "/_search/scroll", scroll)
        seen += [hit["_id"] for hit in page.json["hits"]["hits"]]
    assert len(seen) == len(set(seen)) > 40
    gone = proxy.ask("DELETE", "/_search/scroll", {"scroll_id": page.json["_scroll_id"]})
    assert gone.status == 200


def test_points_in_time(proxy: Running, papers: str) -> None:
    point = proxy.ask("POST", f"/{papers}/_search/point_in_time?keep_alive=1m").json["pit_id"]
    body = {**MATCH, "pit": {"id": point}}
    reply = proxy.ask("POST", "/_search", body)
    assert str(reply.latent).startswith("rewritten; ")
    assert ids(reply.json) == ids(proxy.ask("POST", f"/{papers}/_search", MATCH).json)
    assert proxy.ask("DELETE", "/_search/point_in_time", {"pit_id": [point]}).status == 200


def test_several_searches(proxy: Running, client: OpenSearch, papers: str, index: str) -> None:
    client.index(index=index, body={"text": "a pattern"}, refresh=True)
    lines = [{"index": papers}, MATCH, {"index": [index]}, MATCH, {}, {"size": 0}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    reply = proxy.ask("POST", f"/{papers}/_msearch", body, content_type="application/x-ndjson")
    assert reply.latent == "rewritten; form=hybrid; clauses=1; searches=1 of 3"
    first, second, third = reply.json["responses"]
    assert ids(first) == ids(proxy.ask("POST", f"/{papers}/_search", MATCH).json)
    assert len(ids(second)) == 1
    assert third["hits"]["total"]["value"] == 90
    broken = proxy.ask("POST", f"/{papers}/_msearch", body.replace('{"size": 0}', "{broken"))
    assert broken.status in (200, 400)


def test_templates(proxy: Running, client: OpenSearch, papers: str) -> None:
    script = {"lang": "mustache", "source": {"query": {"match": {"text": "{{words}}"}}}}
    client.put_script(id="proxied", body={"script": script})
    try:
        body = {"id": "proxied", "params": {"words": QUESTION}}
        reply = proxy.ask("POST", f"/{papers}/_search/template", body)
        assert str(reply.latent).startswith("rewritten; ")
        expected = ids(proxy.ask("POST", f"/{papers}/_search", MATCH).json)
        assert ids(reply.json) == expected
        lines = f"{{}}\n{json.dumps(body)}\n"
        several = proxy.ask("POST", f"/{papers}/_msearch/template", lines)
        assert ids(several.json["responses"][0]) == expected
        missing = proxy.ask("POST", f"/{papers}/_search/template", {"id": "none"})
        assert missing.status == 404
        assert str(missing.latent).startswith("passed through; the engine did not render")
    finally:
        client.delete_script(id="proxied")


def test_names_by_date_and_with_signs_reach_the_engine(
    proxy: Running, client: OpenSearch, index: str
) -> None:
    client.index(index=index, body={"text": "a"}, refresh=True)
    name = f"<{index}{{now/d}}>".replace("{now/d}", "*")
    encoded = name.replace("<", "%3C").replace(">", "%3E")
    assert proxy.ask("GET", f"/{encoded}/_search").status in (200, 404)
    dated = "%3C" + index + "-%7Bnow%2Fd%7D%3E"
    assert proxy.ask("PUT", f"/{dated}/_doc/1", {"text": "b"}).status == 201
    made = proxy.ask("GET", f"/{dated}/_doc/1").json["_index"]
    assert made.startswith(f"{index}-2")
    assert proxy.ask("GET", f"/{dated}/_search").json["hits"]["hits"] == []
    client.indices.delete(index=made)


def test_strict_refuses_what_it_cannot_rewrite(serve: Serve, papers: str) -> None:
    with serve(strict=True, questions="table", documents=False) as proxy:
        refused = proxy.ask("POST", f"/{papers}/_search", {"query": {"match_all": {}}})
        assert refused.status == 400
        assert refused.json["error"]["reason"].startswith("not rewritten: ")
        assert proxy.ask("POST", f"/{papers}/_search", MATCH).status == 200
        off = proxy.ask("POST", f"/{papers}/_search", {}, x_latent="off")
        assert off.status == 200


def test_a_table_needs_no_model(serve: Serve, papers: str) -> None:
    with serve(questions="table", documents=False) as proxy:
        assert proxy.ask("GET", "/_latent/ready").json == {"status": "ready"}
        reply = proxy.ask("POST", f"/{papers}/_search", MATCH)
        assert str(reply.latent).startswith("rewritten; ")
        assert not any(encoder.loaded for encoder in proxy.proxy.models.encoders)


def test_an_alias_that_moves_to_another_model_under_load(
    serve: Serve,
    client: OpenSearch,
    papers: str,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    new_index: Any,
) -> None:
    """Each answer is right for the index that its hits are of."""
    other, alias = new_index(), f"{PREFIX}moving"
    open_index(client, other, encoder, {})
    mapping = client.indices.get_mapping(index=other)[other]["mappings"]["_meta"]
    meta = {**mapping["latent_ingest"], "fingerprint": "another", "model": "another"}
    client.indices.put_mapping(index=other, body={"_meta": {**mapping, "latent_ingest": meta}})
    for number, document in enumerate(documents):
        client.index(index=other, id=str(number), body={"text": document["text"]})
    client.indices.refresh(index=other)
    client.indices.put_alias(index=papers, name=alias)
    words = {name: ids(client.search(index=name, body=MATCH)) for name in (other, papers)}
    rewritten = 0
    with serve(renew_seconds=0.2) as proxy:
        by_meaning = ids(proxy.ask("POST", f"/{alias}/_search", MATCH).json)
        assert by_meaning != words[papers]
        for place, old in ((other, papers), (papers, other)) * 4:
            actions = [
                {"remove": {"index": old, "alias": alias}},
                {"add": {"index": place, "alias": alias}},
            ]
            client.indices.update_aliases(body={"actions": actions})
            for _ in range(20):
                reply = proxy.ask("POST", f"/{alias}/_search", MATCH)
                assert reply.status == 200
                (name,) = {hit["_index"] for hit in reply.json["hits"]["hits"]}
                if str(reply.latent).startswith("rewritten"):
                    assert (name, ids(reply.json)) == (papers, by_meaning)
                    rewritten += 1
                else:
                    assert ids(reply.json) == words[name]
                time.sleep(0.02)
        assert 40 < rewritten < 120
        client.indices.delete(index=other)
        assert proxy.ask("POST", f"/{alias}/_search", MATCH).status == 200
    client.indices.delete_alias(index=papers, name=alias)


def test_concurrent_questions_are_encoded_together(serve: Serve, papers: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with serve() as proxy:
        sizes = []
        (encoder,) = proxy.proxy.models.encoders
        encoder.batcher.on_batch = lambda items, seconds: sizes.append(items)

        def ask(number: int) -> str | None:
            body = {"query": {"match": {"text": f"question number {number} of many"}}}
            return str(proxy.ask("POST", f"/{papers}/_search", body).latent)

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask, range(48)))
        assert all(answer.startswith("rewritten; ") for answer in answers)
        assert sum(sizes) == 48
        assert max(sizes) > 1


def test_metrics_and_health(proxy: Running, papers: str) -> None:
    proxy.ask("POST", f"/{papers}/_search", MATCH)
    text = proxy.ask("GET", "/_latent/metrics").data.decode()
    name = 'latent_proxy_requests_total{kind="search",outcome="rewritten",status="200"}'
    assert float(text.split(name)[1].split()[0]) >= 1
    assert proxy.ask("GET", "/_latent/health").json == {"status": "alive"}
    assert proxy.ask("GET", "/_latent/nothing").status == 404


def test_a_filtered_alias_keeps_its_filter_and_its_model(
    serve: Serve, client: OpenSearch, papers: str, new_index: Any
) -> None:
    """It is searched by its own name, so the answer shows where it stood."""
    other, alias = new_index(), f"{PREFIX}filtered"
    client.index(index=other, id="1", body={"text": QUESTION}, refresh=True)
    first = client.search(index=papers, body=MATCH)["hits"]["hits"][0]["_id"]
    body = {"filter": {"ids": {"values": [first, "1"]}}}
    client.indices.put_alias(index=papers, name=alias, body=body)
    lines = f"{json.dumps({'index': other})}\n{json.dumps(MATCH)}\n"
    lines += f"{json.dumps({'index': alias})}\n{json.dumps(MATCH)}\n"
    with serve(renew_seconds=3600) as proxy:
        reply = proxy.ask("POST", f"/{alias}/_search", MATCH)
        assert str(reply.latent).startswith("rewritten; ")
        assert [hit["_id"] for hit in reply.json["hits"]["hits"]] == [first]
        several = proxy.ask("POST", "/_msearch", lines)
        assert several.latent == "rewritten; form=hybrid; clauses=1; searches=1 of 2"
        hidden = proxy.ask("POST", f"/{alias}/_search?filter_path=took", MATCH)
        assert str(hidden.latent).startswith("passed through; the alias may move")
        actions = [
            {"remove": {"index": papers, "alias": alias}},
            {"add": {"index": other, "alias": alias, **body}},
        ]
        client.indices.update_aliases(body={"actions": actions})
        moved = proxy.ask("POST", "/_msearch", lines)
        assert str(moved.latent).startswith("passed through; ")
        reply = proxy.ask("POST", f"/{alias}/_search", MATCH)
        assert str(reply.latent).startswith("passed through; ")
        assert [hit["_index"] for hit in reply.json["hits"]["hits"]] == [other]
