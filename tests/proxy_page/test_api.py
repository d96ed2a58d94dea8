"""The API of the search page: what it answers, and what it does with bad input."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from elastic_proxy import USER, Elastic, ElasticProxy
from opensearchpy import OpenSearch
from proxy.conftest import Reply, Running
from proxy_page.conftest import HUGE, QUESTION, SCRIPT, asking, ids

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.inspection.explain import explain
from latent_ingest.connector.querying.rewriter import QueryRewriter


def ask(proxy: Running, path: str, content: Any = None, **headers: str) -> Reply:
    return proxy.ask(
        "GET" if content is None else "POST", f"/_latent/api/{path}", content, **headers
    )


def found(proxy: Running, path: str, content: Any = None, **headers: str) -> Any:
    reply = ask(proxy, path, content, **headers)
    assert reply.status == 200, reply.json
    return reply.json


def test_columns_have_the_hits_of_the_library(
    proxy: Running, client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    answer = found(proxy, "search", asking(papers))
    rewriter = QueryRewriter.from_index(client, papers, encoder)
    bodies = {
        "words": rewriter.words_only(QUESTION),
        "latent": rewriter.rewrite(QUESTION, form="latent"),
        "hybrid": rewriter.rewrite(QUESTION),
    }
    for name, body in bodies.items():
        hits = client.search(index=papers, body=body)["hits"]["hits"]
        column = answer["columns"][name]
        assert [(hit["_id"], hit["_score"]) for hit in hits] == [
            (hit["id"], hit["score"]) for hit in column["hits"]
        ]
        assert column["body"] == body
        assert hits
    assert ids(answer["columns"]["words"]) != ids(answer["columns"]["latent"])
    assert answer["model"] == encoder.name


def test_documents_are_cut_and_have_no_latent_terms(proxy: Running, papers: str) -> None:
    reply = ask(proxy, "search", asking(papers, size=50))
    hits = reply.json["columns"]["words"]["hits"]
    assert {"huge", "half", "long"} <= {hit["id"] for hit in hits}
    assert len(reply.data) < 500_000
    fields = {
        field["name"]: field for field in next(h for h in hits if h["id"] == "huge")["fields"]
    }
    assert fields["text"]["length"] == HUGE
    assert len(fields["text"]["text"]) == 1200
    assert "latent" not in fields
    assert reply.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_passages_are_pieces_of_plain_text(proxy: Running, papers: str) -> None:
    hits = [{"index": papers, "id": id} for id in ("<b>evil</b>", "huge", "half", "nowhere")]
    answer = found(proxy, "passages", asking(papers, hits=hits))
    by_id = {passage["id"]: passage["fields"] for passage in answer["passages"]}
    assert set(by_id) == {"<b>evil</b>", "huge", "half"}
    (title,) = by_id["<b>evil</b>"]["title"]
    assert "".join(text for text, _ in title) == SCRIPT
    assert {text for text, marked in title if marked} >= {"file", "names", "pattern"}
    text = "".join(text for text, _ in by_id["<b>evil</b>"]["text"][0])
    assert "&amp;" not in text
    assert "<em>not a mark</em>" in "".join(
        text for fragment in by_id["<b>evil</b>"]["text"] for text, _ in fragment
    )
    assert by_id["huge"]["text"][0][0] == ["Files", True]
    assert sum(len(text) for f in by_id["huge"].values() for p in f for text, _ in p) < 2000


@pytest.mark.parametrize("column", ["words", "latent", "hybrid"])
def test_an_explanation_is_that_of_the_library(
    column: str, proxy: Running, client: OpenSearch, papers: str, encoder: LatentEncoder
) -> None:
    hit = found(proxy, "search", asking(papers))["columns"][column]["hits"][0]
    answer = found(proxy, "explain", asking(papers, column=column, hit=hit))
    assert answer["score"] == pytest.approx(hit["score"], rel=1e-5)
    assert sum(answer["shares"].values()) == pytest.approx(1, abs=1e-4)
    assert answer["contributions"]
    if column == "words":
        assert answer["shares"]["latent"] == 0
        return
    rewriter = QueryRewriter.from_index(client, papers, encoder)
    expected = explain(client, rewriter, QUESTION, hit["id"], form=answer["form"])
    shown = [(item["term"], item["score"]) for item in answer["contributions"]]
    assert shown == [(item.term, item.score) for item in expected.contributions][: len(shown)]
    named = [item for item in answer["contributions"] if item["kind"] == "latent"]
    assert named[0]["latent"] == int(named[0]["term"][1:])
    assert any(item["label"] != item["term"] for item in named)


def test_a_model_may_be_given_by_its_name(serve: Any, papers: str) -> None:
    with serve(models=("minilm-32k",)) as proxy:
        card = found(proxy, f"latent?index={papers}&latent=8600")
    assert card["label"] == "patterns, pattern"
    assert card["words"]


def test_a_card_has_label_words_neighbours_and_documents(
    proxy: Running, client: OpenSearch, papers: str
) -> None:
    card = found(proxy, f"latent?index={papers}&latent=8600")
    assert card["label"] == "patterns, pattern"
    assert {"pattern", "patterns"} <= {one["word"] for one in card["words"]}
    assert [one["weight"] for one in card["words"]] == sorted(
        (one["weight"] for one in card["words"]), reverse=True
    )
    assert any("pattern" in one["label"] for one in card["neighbours"])
    assert 8600 not in {one["latent"] for one in card["neighbours"]}
    query = {"query": {"term": {"latent": "f8600"}}}
    assert card["documents"] == client.count(index=papers, body=query)["count"] > 0
    assert card["of"] == client.count(index=papers)["count"]
    assert len(card["hits"]) == min(5, card["documents"])


def test_by_the_table_nothing_needs_the_model(
    serve: Any, papers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the image without torch: marks and names of latents are from the table of words."""

    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    for name in ("load", "shared", "encode_tokens"):
        monkeypatch.setattr(LatentEncoder, name, loaded)
    with serve(questions="table", documents=False) as running:
        answer = found(running, "search", asking(papers))
        assert "table" in answer["questions"]
        hit = answer["columns"]["hybrid"]["hits"][0]
        passages = found(running, "passages", asking(papers, hits=[hit]))
        assert passages["by"] == "table"
        marked = [
            text
            for fragments in passages["passages"][0]["fields"].values()
            for fragment in fragments
            for text, is_marked in fragment
            if is_marked
        ]
        assert marked
        why = found(running, "explain", asking(papers, column="hybrid", hit=hit))
        assert why["score"] == pytest.approx(hit["score"], rel=1e-5)
        assert found(running, f"latent?index={papers}&latent=8600")["words"]


def test_names_of_indices_and_aliases(proxy: Running, client: OpenSearch, papers: str) -> None:
    client.indices.put_alias(index=papers, name=f"{papers}-alias")
    names = {one["name"] for one in found(proxy, "indices")["indices"]}
    assert {papers, f"{papers}-alias"} <= names
    by_alias = found(proxy, "search", asking(f"{papers}-alias"))
    assert by_alias["searched"] == [papers]


def test_an_alias_that_moves(
    proxy: Running, client: OpenSearch, encoder: LatentEncoder, papers: str
) -> None:
    """The page asks again at once, although it keeps what it knows for some seconds."""
    alias, before = f"{papers}-moving", f"{papers}-before"
    open_index(client, before, encoder, {})
    client.indices.put_alias(index=before, name=alias)
    assert found(proxy, "search", asking(alias))["searched"] == [before]
    client.indices.put_alias(index=papers, name=alias)
    client.indices.delete(index=before)
    answer = found(proxy, "search", asking(alias))
    assert answer["searched"] == [papers]
    assert answer["columns"]["words"]["hits"]


def test_an_index_that_is_not_served(serve: Any, client: OpenSearch, papers: str) -> None:
    client.indices.put_alias(index=papers, name="allowed-papers")
    with serve(allow=("allowed-*",)) as running:
        assert {one["name"] for one in found(running, "indices")["indices"]} == {"allowed-papers"}
        reply = ask(running, "search", asking(papers))
        assert reply.status == 400
        assert "does not serve" in reply.json["error"]
        assert found(running, "search", asking("allowed-papers"))["columns"]["words"]["hits"]
        # A document of an index that the name does not stand for.
        client.index(index=f"{papers}-other", id="1", body={"text": "secret"}, refresh=True)
        hit = {"index": f"{papers}-other", "id": "1"}
        content = asking("allowed-papers", column="words", hit=hit, hits=[hit])
        assert ask(running, "explain", content).status == 400
        assert found(running, "passages", content)["passages"] == []
        # Nor one that a filter looks up.
        lookup = {"index": f"{papers}-other", "id": "1", "path": "text"}
        content = asking("allowed-papers", filter={"terms": {"text": lookup}})
        assert ask(running, "search", content).status == 400
        client.indices.delete(index=f"{papers}-other")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"[1]", "JSON object"),
        (b"[" * 60_000, "not JSON"),
        (b" " * 70_000, "more than 65,536 bytes"),
        ({"question": "a"}, "name an index"),
        ({"index": "a"}, "question is missing"),
        ({"index": "a", "question": " "}, "empty"),
        ({"index": "a", "question": "a" * 4001}, "4,000 characters"),
        ({"index": "../a", "question": "a"}, "cannot be the name"),
        ({"index": "a b", "question": "a"}, "cannot be the name"),
        ({"index": "a", "question": "a", "size": 51}, "1 to 50"),
        ({"index": "a", "question": "a", "size": True}, "1 to 50"),
        ({"index": "a", "question": "a", "form": "latent"}, "use one of auto, hybrid"),
        ({"index": "a", "question": "a", "filter": [1]}, "filter must be an object"),
        (b'{"index": "a", "question": "a", "filter": {"term": {"a": "\\ud800"}}}', "surrogate"),
    ],
)
def test_what_cannot_be_asked(content: Any, words: str, proxy: Running) -> None:
    reply = ask(proxy, "search", content)
    assert reply.status == 400
    assert words in reply.json["error"]
    assert "\n" not in reply.json["error"]


def test_what_the_engine_refuses(proxy: Running, client: OpenSearch, papers: str) -> None:
    reply = ask(proxy, "search", asking("nowhere"))
    assert (reply.status, reply.json["error"]) == (404, "no index or alias nowhere")
    reply = ask(proxy, "search", asking(papers, filter={"no_such_clause": {}}))
    assert reply.status == 400
    assert "no_such_clause" in reply.json["error"]
    plain = f"{papers}-plain"
    client.indices.create(index=plain)
    reply = ask(proxy, "search", asking(plain))
    client.indices.delete(index=plain)
    assert reply.status == 409
    assert "has no latent terms" in reply.json["error"]
    for path in ("latent?index=a", f"latent?index={papers}&latent=99999", "latent?latent=1"):
        assert ask(proxy, path).status == 400
    hit = {"index": papers, "id": "huge"}
    reply = ask(proxy, "explain", asking(papers, column="title", hit=hit))
    assert "use words, latent or hybrid" in reply.json["error"]
    assert ask(proxy, "passages", asking(papers, hits=[hit] * 11)).status == 400
    assert ask(proxy, "nothing").status == 404
    assert proxy.ask("POST", "/_latent/", {}).status == 405


def test_other_sites_get_nothing(proxy: Running, papers: str) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        assert ask(proxy, "indices", sec_fetch_site=site).status == status
        assert ask(proxy, "search", asking(papers), sec_fetch_site=site).status == status


def test_an_engine_that_is_away(serve: Any) -> None:
    port = free_port()
    with serve(urls=(f"http://127.0.0.1:{port}",), documents=False, questions="table") as running:
        reply = ask(running, "search", asking("papers"))
        assert reply.status == 502
        assert "cannot be reached" in reply.json["error"]
        assert str(port) not in json.dumps(reply.json)
        assert running.ask("GET", "/_latent/").status == 200


def test_the_login_is_the_callers(serve: Any, opensearch_url: str, papers: str) -> None:
    engine = ElasticProxy(opensearch_url)
    login = "Basic " + base64.b64encode(":".join(USER).encode()).decode()
    with (
        engine.listening(Elastic) as url,
        serve(urls=(url,), connection=Connection(url), questions="table", documents=False) as one,
    ):
        reply = ask(one, "search", asking(papers))
        assert reply.status == 401
        assert "login" in reply.json["error"]
        assert "www-authenticate" not in reply.headers
        assert found(one, "search", asking(papers), authorization=login)["columns"]
        # What one caller may read, another may not.
        assert ask(one, "search", asking(papers)).status == 401
        assert ask(one, "search", asking(papers), authorization="Basic b3RoZXI6").status == 401
        engine.refuse = lambda path: 403 if path.endswith("_search") else None
        reply = ask(one, "search", asking(papers), authorization=login)
        assert reply.status == 403
        assert "this login may not do that: not /" in reply.json["error"]
        engine.refuse = lambda path: 503 if path.endswith("_search") else None
        assert ask(one, "search", asking(papers), authorization=login).status == 503
