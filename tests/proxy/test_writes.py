"""Documents written through the proxy: they have the latent terms that `ingest` gives them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from proxy.conftest import Running, Serve
from toys import toy_backbone, toy_model

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.proxy.models import Documents as Encoded

Documents = list[dict[str, str]]


@pytest.fixture
def papers(client: OpenSearch, index: str, encoder: LatentEncoder) -> str:
    """An empty index of latent terms."""
    open_index(client, index, encoder, {})
    return index


def source(client: OpenSearch, index: str, identifier: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(index=index, id=identifier)["_source"]
    return found


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def bulk_of(documents: Documents) -> bytes:
    return b"".join(lines({"index": {"_id": one["_id"]}}, bare(one)) for one in documents)


def bare(document: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in document.items() if name != "_id"}


def ingested(client: OpenSearch, load: Any, name: str, documents: Documents) -> dict[str, Any]:
    """The documents as `ingest` writes them, by id."""
    load(client, name, [json.dumps(one) for one in documents])
    hits = client.search(index=name, body={"size": 1000})["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


def test_a_bulk_gives_documents_the_terms_of_ingest(
    proxy: Running,
    client: OpenSearch,
    papers: str,
    documents: Documents,
    load: Any,
    new_index: Any,
) -> None:
    some = documents[:40]
    expected = ingested(client, load, new_index(), some)
    reply = proxy.ask("POST", f"/{papers}/_bulk?refresh=true", bulk_of(some))
    assert reply.status == 200
    assert reply.latent == "encoded; encoded=40"
    assert [item["index"]["_id"] for item in reply.json["items"]] == [one["_id"] for one in some]
    hits = client.search(index=papers, body={"size": 1000})["hits"]["hits"]
    assert {hit["_id"]: hit["_source"] for hit in hits} == expected


def test_documents_stay_byte_for_byte(proxy: Running, papers: str) -> None:
    line = b'{"text" : "a pattern of names", "price": 1.10, "big": 1234567890123456789 }'
    reply = proxy.ask("PUT", f"/{papers}/_doc/1", line)
    assert reply.status == 201
    assert reply.latent == "encoded; encoded=1"
    stored = proxy.ask("GET", f"/{papers}/_source/1")
    assert stored.data.startswith(line[:-2])
    assert stored.json["latent"]
    assert stored.json["latent_hash"] == text_hash("a pattern of names")


@pytest.mark.parametrize("path", ["_doc", "_doc/7", "_create/7"])
def test_single_documents(proxy: Running, client: OpenSearch, papers: str, path: str) -> None:
    reply = proxy.ask("POST", f"/{papers}/{path}", {"title": "Names", "text": "of files"})
    assert reply.status == 201
    found = source(client, papers, reply.json["_id"])
    assert found["latent_hash"] == text_hash("Names of files")
    assert found["latent"]


def test_updates_of_a_whole_text_are_encoded_and_of_a_part_are_left_for_enrich(
    proxy: Running, client: OpenSearch, papers: str
) -> None:
    proxy.ask("PUT", f"/{papers}/_doc/1", {"title": "a", "text": "names of files"})
    before = source(client, papers, "1")
    whole = {"doc": {"title": "b", "text": "random numbers"}}
    reply = proxy.ask("POST", f"/{papers}/_update/1", whole)
    assert reply.latent == "encoded; encoded=1"
    after = source(client, papers, "1")
    assert after["latent_hash"] == text_hash("b random numbers")
    assert after["latent"] != before["latent"]
    reply = proxy.ask("POST", f"/{papers}/_update/1", {"doc": {"text": "waiting for seconds"}})
    assert reply.latent == "passed through; partial=1"
    assert source(client, papers, "1")["latent_hash"] == text_hash("b random numbers")


def test_upserts(proxy: Running, client: OpenSearch, papers: str) -> None:
    body = {"upsert": {"text": "names é"}, "doc": {"text": "more", "title": "t"}, "z": 0}
    body.pop("z")
    proxy.ask("POST", f"/{papers}/_update/1", body)
    assert source(client, papers, "1")["latent_hash"] == text_hash("names é")
    proxy.ask("POST", f"/{papers}/_update/1", body)
    assert source(client, papers, "1")["latent_hash"] == text_hash("t more")


def test_partial_updates_can_be_completed(serve: Serve, client: OpenSearch, papers: str) -> None:
    with serve(complete_updates=True) as proxy:
        proxy.ask("PUT", f"/{papers}/_doc/1", {"title": "a", "text": "names of files"})
        reply = proxy.ask("POST", f"/{papers}/_update/1", {"doc": {"text": "random numbers"}})
        assert reply.json["result"] == "updated"
        assert reply.latent == "passed through; partial=1; again=1"
        assert source(client, papers, "1")["latent_hash"] == text_hash("a random numbers")
        update = lines({"update": {"_id": "1"}}, {"doc": {"text": "stop waiting"}})
        assert not proxy.ask("POST", f"/{papers}/_bulk", update).json["errors"]
        assert source(client, papers, "1")["latent_hash"] == text_hash("a stop waiting")


def test_a_bulk_of_all_kinds_of_actions(proxy: Running, client: OpenSearch, papers: str) -> None:
    body = lines(
        {"index": {"_id": "1"}},
        {"text": "names of files"},
        {"delete": {"_id": "nobody"}},
        {"create": {"_id": "1"}},
        {"text": "taken"},
        {"update": {"_id": "1"}},
        {"doc": {"title": "t", "text": "random numbers"}},
        {"index": {"_id": "2"}},
        {"number": 5},
    )
    reply = proxy.ask("POST", f"/{papers}/_bulk", body)
    statuses = [next(iter(item.values()))["status"] for item in reply.json["items"]]
    assert statuses == [201, 404, 409, 200, 201]
    assert source(client, papers, "1")["latent_hash"] == text_hash("t random numbers")
    assert source(client, papers, "2") == {"number": 5}


def test_a_gzipped_bulk(proxy: Running, client: OpenSearch, papers: str) -> None:
    body = gzip.compress(lines({"index": {"_id": "1"}}, {"text": "names of files"}))
    reply = proxy.ask("POST", f"/{papers}/_bulk", body, content_encoding="gzip")
    assert reply.status == 200
    assert source(client, papers, "1")["latent_hash"] == text_hash("names of files")


def test_a_broken_line_is_refused_as_by_the_engine(
    proxy: Running, client: OpenSearch, papers: str
) -> None:
    body = lines({"index": {"_id": "1"}}, {"text": "names"}) + b"{broken\n{}\n"
    reply = proxy.ask("POST", f"/{papers}/_bulk", body)
    direct = client.transport.perform_request(
        "POST", f"/{papers}/_bulk", body=body.decode(), params={"ignore": (400,)}
    )
    assert reply.status == 400
    assert reply.json["error"]["type"] == direct["error"]["type"]
    assert client.count(index=papers)["count"] == 0


def test_a_document_that_is_not_json_is_refused_by_the_engine(proxy: Running, papers: str) -> None:
    reply = proxy.ask("PUT", f"/{papers}/_doc/1", b'{"text": ')
    assert reply.status == 400
    assert "error" in reply.json
    body = lines({"index": {"_id": "1"}}) + b'{"text": \n' + lines({"index": {}}, {"text": "b"})
    items = proxy.ask("POST", f"/{papers}/_bulk", body).json["items"]
    assert [item["index"]["status"] for item in items] == [400, 201]


def test_a_long_bulk_goes_in_several_requests(
    proxy: Running,
    client: OpenSearch,
    papers: str,
    documents: Documents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("latent_ingest.connector.proxy.writing.bulk.REQUEST_BYTES", 20_000)
    monkeypatch.setattr("latent_ingest.connector.proxy.writing.bulk.PART_DOCUMENTS", 7)
    reply = proxy.ask("POST", f"/{papers}/_bulk?refresh=true", bulk_of(documents))
    assert reply.latent == "encoded; encoded=90"
    assert reply.json["errors"] is False
    ids = [item["index"]["_id"] for item in reply.json["items"]]
    assert ids == [one["_id"] for one in documents]
    assert client.count(index=papers)["count"] == 90


def test_an_alias_that_moves_while_a_document_comes_mixes_no_models(
    serve: Serve, client: OpenSearch, papers: str, encoder: LatentEncoder, new_index: Any
) -> None:
    """The proxy knows the alias as it was; the engine writes to where it stands now."""
    alias = f"{papers}-alias"
    other = new_index()
    open_index(client, other, encoder, {})
    mapping = client.indices.get_mapping(index=other)[other]["mappings"]["_meta"]
    foreign = {**mapping["latent_ingest"], "fingerprint": "another", "model": "another"}
    client.indices.put_mapping(index=other, body={"_meta": {**mapping, "latent_ingest": foreign}})
    client.indices.put_alias(index=papers, name=alias)
    with serve(renew_seconds=3600) as proxy:
        body = lines({"index": {"_index": alias, "_id": "1"}}, {"text": "names of files"})
        proxy.ask("POST", "/_bulk", body)
        assert source(client, papers, "1")["latent"]
        actions = [
            {"remove": {"index": papers, "alias": alias}},
            {"add": {"index": other, "alias": alias}},
        ]
        client.indices.update_aliases(body={"actions": actions})
        reply = proxy.ask("POST", "/_bulk", body)
        assert reply.json["items"][0]["index"]["_index"] == other
        found = source(client, other, "1")
        assert found["text"] == "names of files"
        assert found["latent"] == ""
        assert found["latent_hash"] != text_hash("names of files")
        again = proxy.ask("PUT", f"/{alias}/_doc/2", {"text": "names of files"})
        assert again.latent == "passed through; without=1; no model here made the index"


@pytest.mark.parametrize("known", [True, False])
def test_an_index_that_is_made_again_mixes_no_models(
    serve: Serve, client: OpenSearch, papers: str, tmp_path: Path, known: bool
) -> None:
    """Not through the proxy, by another model, under the same name: writes look before they end.

    If the other model is here, documents get its terms; else they are left for `enrich`.
    """
    folder = toy_model(tmp_path / "toy", toy_backbone(tmp_path / "backbone"))
    toy = LatentEncoder.load(folder, device="cpu", dtype="float32")
    text = "find files that match"
    models = (None, str(folder)) if known else (None,)
    with serve(renew_seconds=3600, models=models) as proxy:
        proxy.ask("PUT", f"/{papers}/_doc/1", {"text": text})
        before = source(client, papers, "1")["latent"]
        for way in ("one", "bulk", "hidden"):
            client.indices.delete(index=papers)
            open_index(client, papers, toy, {})
            assert proxy.proxy.indices._entries
            if way == "one":
                reply = proxy.ask("PUT", f"/{papers}/_doc/1", {"text": text})
            else:
                hidden = "?filter_path=took" if way == "hidden" else ""
                body = lines({"index": {"_id": "1"}}, {"text": text}, {"delete": {"_id": "9"}})
                reply = proxy.ask("POST", f"/{papers}/_bulk{hidden}", body)
            found = source(client, papers, "1")
            meta = IndexMeta.read(client, papers)
            assert meta
            if way == "hidden":  # the answer does not say which document it is
                assert list(reply.json) == ["took"]
                assert str(reply.latent).endswith("; stale=1")
            elif known:
                assert reply.latent == "encoded; encoded=1; again=1"
                assert [found["latent"]] == Encoded(toy).strings([text], meta)
                assert found["latent_hash"] == text_hash(text)
            else:
                assert found["latent"] == ""
                assert found["latent_hash"] != text_hash(text)
            assert not proxy.proxy.indices._entries  # it is looked up again
            client.indices.delete(index=papers)
            open_index(client, papers, LatentEncoder.shared(device="cpu"), {})
            proxy.ask("PUT", f"/{papers}/_doc/1", {"text": text})
            assert source(client, papers, "1")["latent"] == before


def test_an_index_that_is_made_again_without_latent_terms_is_reported(
    serve: Serve, client: OpenSearch, papers: str
) -> None:
    with serve(renew_seconds=3600) as proxy:
        proxy.ask("PUT", f"/{papers}/_doc/1", {"text": "names of files"})
        client.indices.delete(index=papers)
        client.indices.create(index=papers)
        reply = proxy.ask("PUT", f"/{papers}/_doc/1", {"text": "names of files"})
        assert reply.latent == "encoded; encoded=1; stale=1"
        reply = proxy.ask("PUT", f"/{papers}/_doc/1", {"text": "names of files"})
        assert reply.latent is None
        assert source(client, papers, "1") == {"text": "names of files"}


def test_lines_are_kept_however_they_come(
    proxy: Running,
    client: OpenSearch,
    papers: str,
    documents: Documents,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """In chunks of any length, which end within lines and within letters."""
    monkeypatch.setattr("latent_ingest.connector.proxy.writing.bulk.PART_DOCUMENTS", 3)
    chance = random.Random(seed)
    some = [{**one, "é": "ü"} for one in documents[:20]]
    body = b"".join(
        json.dumps(line, ensure_ascii=False).encode() + b"\n"
        for one in some
        for line in ({"index": {"_id": one["_id"]}}, bare(one))
    )

    def chunks() -> Any:
        at = 0
        while at < len(body):
            size = chance.choice((1, 2, 7, 100, 5000))
            yield body[at : at + size]
            at += size

    reply = proxy.ask("POST", f"/{papers}/_bulk?refresh=true", chunks())
    assert reply.latent == "encoded; encoded=20"
    hits = client.search(index=papers, body={"size": 100, "_source": {"excludes": ["latent*"]}})
    assert {hit["_id"]: hit["_source"] for hit in hits["hits"]["hits"]} == {
        one["_id"]: bare(one) for one in some
    }
