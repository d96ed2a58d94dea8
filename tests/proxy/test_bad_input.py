"""Bad input: the answer is clear and in the engine's error shape, and the process lives."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
import urllib3
from opensearchpy import OpenSearch
from proxy.conftest import Reply, Running, Serve
from proxy.gate import Gate, Guarded
from toys import toy_backbone, toy_model

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.proxy.models import Documents as Encoded

MATCH = {"query": {"match": {"text": "names of files"}}}
NDJSON = "application/x-ndjson"
PROGRAM = "from latent_ingest.cli.main import cli; cli()"

Documents = list[dict[str, str]]


@pytest.fixture
def papers(client: OpenSearch, index: str, encoder: LatentEncoder) -> str:
    """An empty index of latent terms."""
    open_index(client, index, encoder, {})
    return index


@pytest.fixture
def direct(proxy: Running, opensearch_url: str) -> Running:
    """The engine, asked as the proxy is."""
    return Running(opensearch_url, proxy.proxy)


def gist(reply: Reply) -> Any:
    """What the proxy and the engine must answer alike."""
    try:
        answer = reply.json
    except ValueError:  # in another format
        return reply.status, reply.data
    if "items" in answer:
        return reply.status, [kind_of(next(iter(item.values()))) for item in answer["items"]]
    if "responses" in answer:
        return reply.status, [kind_of(one) for one in answer["responses"]]
    return reply.status, kind_of(answer)


def kind_of(answer: Any) -> Any:
    """Status and kind of error, if it is one."""
    error = answer.get("error")
    return answer.get("status"), error["type"] if isinstance(error, dict) else error


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("_search", b'{"query": {"match": {"text": "a"'),
        ("_search", b'{"query": \xff\xfe}'),
        ("_search", b"[1, 2]"),
        ("_search", b'{"query": {"match": {"text": NaN}}}'),
        ("_search", b'{"query": {"match": {"text": "a"}}, "query": {"match_all": {}}}'),
        ("_search", b'{"query": {"bool": {"must": ' * 3000),
        ("_search/template", b'{"source": "{{#broken"}'),
        ("_search/template", b"{broken"),
        ("_msearch", b'{}\n{"query": {broken}\n'),
        ("_msearch", b'{broken\n{"query": {"match": {"text": "a"}}}\n'),
        ("_msearch", b'{}\n{"query": {"match": {"text": "a"}}}'),
        ("_msearch", b"{}\n"),
        ("_msearch", b"\n"),
        ("_bulk", b'{"index":{}}\n{"text": broken}\n'),
        ("_bulk", b'{"index":{}}\n{"text": "a", "text": "b"}\n'),
        ("_bulk", b'{"index":{}}\n{"text": "no end of the line"}'),
        ("_bulk", b'{"index":{}}\n'),
        ("_bulk", b'{"nonsense":{}}\n{}\n'),
        ("_bulk", b"[]\n{}\n"),
        ("_bulk", b"\xff\n\xff\n"),
        ("_bulk", b""),
        ("_doc", b'{"text": "a"'),
        ("_doc", b'{"text": "\xff"}'),
        ("_doc", b'["text"]'),
        ("_doc", b"{" * 50_000),
        ("_doc", b""),
        ("_update/1", b'{"doc": {"text": '),
        ("_update/1", b'{"text": "a"}'),
    ],
)
def test_broken_bodies_are_answered_as_by_the_engine(
    proxy: Running, direct: Running, papers: str, path: str, body: bytes
) -> None:
    kind = NDJSON if path in ("_bulk", "_msearch") else "application/json"
    expected = direct.ask("POST", f"/{papers}/{path}", body, content_type=kind)
    reply = proxy.ask("POST", f"/{papers}/{path}", body, content_type=kind)
    assert gist(reply) == gist(expected)
    assert proxy.ask("GET", "/_latent/health").status == 200


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "image/png",
        "application/jsonx",
        "nonsense",
        'a/b/c; q="',
        "application/cbor",
        "application/json; charset=utf-16",
    ],
)
@pytest.mark.parametrize("path", ["_search", "_msearch", "_bulk", "_doc", "_update/1", "_count"])
def test_unknown_content_types_are_answered_as_by_the_engine(
    proxy: Running, direct: Running, papers: str, path: str, kind: str
) -> None:
    body: Any = json.dumps({"doc": {"text": "a"}} if "_update" in path else {})
    if path in ("_bulk", "_msearch"):
        body = '{"index":{}}\n{"text":"a"}\n' if path == "_bulk" else "{}\n{}\n"
    expected = direct.ask("POST", f"/{papers}/{path}", body, content_type=kind)
    reply = proxy.ask("POST", f"/{papers}/{path}", body, content_type=kind)
    assert gist(reply) == gist(expected)


def lying(body: bytes, way: str) -> bytes:
    """A gzip body whose trailer lies of its size or checksum, or that is cut short."""
    packed = gzip.compress(body)
    if way == "size":
        return packed[:-4] + struct.pack("<I", len(body) + 1)
    if way == "checksum":
        return packed[:-8] + b"\0\0\0\0" + packed[-4:]
    return packed[: len(packed) // 2]


@pytest.mark.parametrize("way", ["size", "checksum", "cut"])
def test_gzip_that_lies(
    proxy: Running,
    client: OpenSearch,
    papers: str,
    documents: Documents,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when the engine has got the beginning of the body: it forgets that."""
    monkeypatch.setattr("latent_ingest.connector.proxy.writing.bulk.PART_DOCUMENTS", 3)
    several = "".join(f'{{"index":{{}}}}\n{json.dumps({"text": d["text"]})}\n' for d in documents)
    for path, body in (
        ("_search", json.dumps(MATCH)),
        ("_msearch", f"{{}}\n{json.dumps(MATCH)}\n"),
        ("_doc", '{"text": "names of files"}'),
        ("_bulk", '{"index":{}}\n{"text":"names of files"}\n'),
        ("_bulk", several),
    ):
        packed = lying(body.encode(), way)
        reply = proxy.ask("POST", f"/{papers}/{path}", packed, content_encoding="gzip")
        assert (reply.status, reply.json["error"]["type"]) == (400, "parse_exception"), path
        assert reply.json["status"] == 400
    passed = proxy.ask(
        "POST", f"/{papers}/_count", lying(b'{"query": 1}', way), content_encoding="gzip"
    )
    assert passed.status >= 400
    client.indices.refresh(index=papers)
    assert client.count(index=papers)["count"] == 0


@pytest.mark.parametrize("end", ["closed", "half closed", "reset"])
def test_chunked_bodies_that_are_cut_short(
    proxy: Running,
    client: OpenSearch,
    papers: str,
    documents: Documents,
    end: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of them is written, and no connection to the engine stays open."""
    monkeypatch.setattr("latent_ingest.connector.proxy.writing.bulk.PART_DOCUMENTS", 3)
    several = "".join(f'{{"index":{{}}}}\n{json.dumps({"text": d["text"]})}\n' for d in documents)
    place = urlsplit(proxy.url)
    for path, body in (
        ("_bulk", several),
        ("_bulk", '{"index":{}}\n{"text":"names of files"}\n'),
        ("_doc", '{"text": "names of files"}'),
        ("_search", json.dumps(MATCH)),
        ("_count", json.dumps(MATCH)),
    ):
        with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
            head = f"POST /{papers}/{path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
            connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode())
            connection.sendall(f"{len(body):x}\r\n{body}\r\n".encode())  # and no last chunk
            time.sleep(0.2)
            if end == "half closed":
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1000) == b""
            elif end == "reset":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    deadline = time.monotonic() + 10
    while proxy.proxy.in_progress and time.monotonic() < deadline:
        time.sleep(0.05)
    assert proxy.proxy.in_progress == 0
    session: Any = proxy.proxy.upstream._session
    assert not session.connector._acquired
    assert proxy.ask("POST", f"/{papers}/_refresh").status == 200
    assert client.count(index=papers)["count"] == 0


@pytest.fixture
def gate(opensearch_url: str) -> Iterator[tuple[Gate, str]]:
    one = Gate(opensearch_url)
    with one.listening(Guarded) as url:
        yield one, url


@pytest.mark.parametrize("number", [101, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_pattern_of_very_many_indices(
    gate: tuple[Gate, str],
    serve: Serve,
    client: OpenSearch,
    papers: str,
    number: int,
) -> None:
    """They are read about in one request, and not for each search; all are searched by words."""
    mapping = client.indices.get_mapping(index=papers)[papers]["mappings"]
    properties = {"latent": {"type": "text"}, "text": {"type": "text"}}
    body = {
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"_meta": mapping["_meta"], "properties": properties},
    }
    names = [f"{papers}-many-{place}" for place in range(number)]
    limit = {"persistent": {"cluster.max_shards_per_node": 3 * number}}
    client.cluster.put_settings(body=limit)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda name: client.indices.create(index=name, body=body), names))
        client.index(index=names[-1], id="1", body={"text": "names of files"}, refresh=True)
        actions = [{"add": {"index": f"{papers}-many-*", "alias": f"{papers}-all"}}]
        actions += [{"add": {"index": names[0], "alias": f"{papers}-all", "is_write_index": True}}]
        client.indices.update_aliases(body={"actions": actions})
        seen, url = gate
        with serve(urls=(url,), renew_seconds=3600) as proxy:
            for _ in range(3):
                reply = proxy.ask("POST", f"/{papers}-many-*/_search", MATCH)
                assert reply.status == 200
                assert [hit["_id"] for hit in reply.json["hits"]["hits"]] == ["1"]
                reason = f"passed through; {number} indices; name at most 100"
                assert reply.latent == reason
            lookups = [path.split("?")[0].split("/")[-1] for _, path, _ in seen.seen]
            assert sorted(lookups) == ["_alias", "_mapping", *["_search"] * 3]
            written = proxy.ask("PUT", f"/{papers}-all/_doc/2", {"text": "names"})
            assert written.status == 201
            wanted = f"passed through; without=1; {number} indices; name at most 100"
            assert written.latent == wanted
    finally:
        for start in range(0, number, 50):
            some = ",".join(names[start : start + 50])
            client.indices.delete(index=some, ignore_unavailable=True)
        client.cluster.put_settings(body={"persistent": {"cluster.max_shards_per_node": None}})


def test_mappings_that_are_too_long_to_be_read(
    gate: tuple[Gate, str], serve: Serve, papers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not read again for each request; documents without terms are counted."""
    monkeypatch.setattr("latent_ingest.connector.proxy.caller.MOST_BYTES", 300)
    seen, url = gate
    reason = "what the engine says of the indices is too long to be read"
    with serve(urls=(url,), renew_seconds=3600) as proxy:
        for _ in range(2):
            reply = proxy.ask("POST", f"/{papers}/_search", MATCH)
            assert (reply.status, reply.latent) == (200, f"passed through; {reason}")
        written = proxy.ask("PUT", f"/{papers}/_doc/1", {"text": "names of files"})
        assert written.status == 201
        assert written.latent == f"passed through; without=1; {reason}"
    assert len([path for _, path, _ in seen.seen if path.endswith("/_mapping")]) == 1


def test_two_models_behind_one_pattern(
    serve: Serve,
    client: OpenSearch,
    papers: str,
    encoder: LatentEncoder,
    tmp_path: Path,
) -> None:
    """One request cannot score both: it passes as it is. Each index is served by its own model."""
    folder = toy_model(tmp_path / "toy", toy_backbone(tmp_path / "backbone"))
    toy = LatentEncoder.load(folder, device="cpu", dtype="float32")
    other = f"{papers}-toy"
    open_index(client, other, toy, {})
    try:
        with serve(models=(None, str(folder))) as proxy:
            for name, model in ((papers, encoder), (other, toy)):
                text = "find files that match"
                reply = proxy.ask("PUT", f"/{name}/_doc/1?refresh=true", {"text": text})
                assert reply.latent == "encoded; encoded=1"
                meta = IndexMeta.read(client, name)
                assert meta
                source = client.get(index=name, id="1")["_source"]
                assert [source["latent"]] == Encoded(model).strings([text], meta)
                search = proxy.ask("POST", f"/{name}/_search", MATCH)
                assert str(search.latent).startswith("rewritten; ")
            both = proxy.ask("POST", f"/{papers}*/_search", MATCH)
            assert str(both.latent).startswith("passed through; index ")
            assert "has model " in str(both.latent)
            assert len(both.json["hits"]["hits"]) == 2
        with serve(models=(None, str(folder)), strict=True) as proxy:
            refused = proxy.ask("POST", f"/{papers}*/_search", MATCH)
            assert (refused.status, refused.json["status"]) == (400, 400)
            assert "cannot be searched as one" in refused.json["error"]["reason"]
    finally:
        client.indices.delete(index=other)


def test_an_engine_that_comes_after_the_proxy(serve: Serve, opensearch_url: str) -> None:
    place = urlsplit(opensearch_url)
    port = free_port()
    with serve(urls=(f"http://127.0.0.1:{port}",), documents=False, questions="table") as proxy:
        away = proxy.ask("GET", "/")
        assert (away.status, away.json["error"]["type"]) == (503, "unavailable_exception")
        relay = "import socket,sys,threading\n" + RELAY
        command = [sys.executable, "-c", relay, str(port), str(place.hostname), str(place.port)]
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 20
            while (reply := proxy.ask("GET", "/")).status == 503 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert reply.json["version"]["number"]
            process.kill()


# Connects a port with the engine's.
RELAY = """
def copy(a, b):
    while data := a.recv(65536):
        b.sendall(data)
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    one, _ = listening.accept()
    other = socket.create_connection((sys.argv[2], int(sys.argv[3])))
    for pair in ((one, other), (other, one)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""


def serving(*options: str, port: int) -> list[str]:
    """The command, without a model."""
    fixed = ["--port", str(port), "--questions", "table", "--no-documents"]
    return [sys.executable, "-c", PROGRAM, "serve", *fixed, *options]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_one_line(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = serving("--workers", workers, port=port)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count(f"cannot listen at 127.0.0.1:{port}") == 1
    assert "Traceback" not in done.stderr
    assert "search page at" not in done.stderr


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_an_own_certificate_that_has_expired(opensearch_url: str, tmp_path: Path) -> None:
    """Clients that check it refuse it; the operator is told, and the others are served."""
    authority = trustme.CA()
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    file = tmp_path / "expired.pem"
    certificate = authority.issue_cert("127.0.0.1", not_after=yesterday)
    certificate.private_key_and_cert_chain_pem.write_to_path(file)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    port = free_port()
    command = serving("--url", opensearch_url, "--tls-cert", str(file), port=port)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        retries = urllib3.Retry(60, backoff_factor=0.1)
        careless = urllib3.PoolManager(cert_reqs=ssl.CERT_NONE, retries=retries)
        url = f"https://127.0.0.1:{port}/"
        assert careless.request("GET", url).status == 200
        careful = urllib3.PoolManager(ca_certs=str(ca), retries=False)
        with pytest.raises(urllib3.exceptions.SSLError, match="expired"):
            careful.request("GET", url)
        assert careless.request("GET", url).status == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.count("expired.pem: the certificate has expired") == 1
    assert "Traceback" not in err
