"""Engines of other kinds, behind TLS, that restart; and requests that only some of them know."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3
from engine.conftest import elasticsearch, elasticsearch_url  # noqa: F401
from logins import serving
from opensearchpy import OpenSearch
from proxy.conftest import Running, Serve
from proxy.gate import Gate, Guarded
from tls_proxy import everyone
from tls_proxy import gate as tls_gate

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import LocalEngine, free_port
from latent_ingest.connector.index.opening import open_index

MATCH = {"query": {"match": {"text": "names of files"}}}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def test_elasticsearch(
    serve: Serve,
    elasticsearch: OpenSearch,  # noqa: F811
    elasticsearch_url: str,  # noqa: F811
    encoder: LatentEncoder,
    new_index: Any,
) -> None:
    index = new_index(elasticsearch)
    open_index(elasticsearch, index, encoder, {})
    with serve(urls=(elasticsearch_url,)) as proxy:
        body = '{"index":{"_id":"1"}}\n{"text":"names of files"}\n'
        written = proxy.ask("POST", f"/{index}/_bulk?refresh=true", body)
        assert written.latent == "encoded; encoded=1"
        source = elasticsearch.get(index=index, id="1")["_source"]
        assert source["latent_hash"] == text_hash("names of files")
        reply = proxy.ask("POST", f"/{index}/_search", MATCH)
        assert str(reply.latent).startswith("rewritten; form=hybrid")
        assert len(reply.json["hits"]["hits"]) == 1


def test_tls_to_the_engine(
    serve: Serve, opensearch_url: str, authority: trustme.CA, ca: str
) -> None:
    good = serving(authority.issue_cert("127.0.0.1", "localhost"))
    settings = {"documents": False, "questions": "table"}
    with tls_gate(opensearch_url, good, everyone) as gate:
        connection = Connection(gate.url, ca_file=ca)
        with serve(urls=(gate.url,), connection=connection, **settings) as proxy:
            assert proxy.ask("GET", "/").json["version"]["number"]
        with serve(urls=(gate.url,), **settings) as proxy:
            reply = proxy.ask("GET", "/")
            assert reply.status == 503
            assert "not from an authority trusted here" in reply.json["error"]["reason"]
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    expired = serving(authority.issue_cert("127.0.0.1", "localhost", not_after=yesterday))
    with tls_gate(opensearch_url, expired, everyone) as gate:
        connection = Connection(gate.url, ca_file=ca)
        with serve(urls=(gate.url,), connection=connection, **settings) as proxy:
            reply = proxy.ask("GET", "/")
            assert reply.status == 503
            assert "has expired; renew it" in reply.json["error"]["reason"]
            assert proxy.ask("GET", "/_latent/health").status == 200


def test_tls_of_the_proxy(
    opensearch_url: str, authority: trustme.CA, ca: str, tmp_path: Path
) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(one.bytes() for one in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    port = free_port()
    program = "from latent_ingest.cli.main import cli; cli()"
    options = ["--url", opensearch_url, "--port", str(port), "--questions", "table"]
    tls = ["--tls-cert", str(chain), "--tls-key", str(key), "--no-documents"]
    with subprocess.Popen([sys.executable, "-c", program, "serve", *options, *tls]) as process:
        pool = urllib3.PoolManager(ca_certs=ca, retries=urllib3.Retry(60, backoff_factor=0.1))
        answer = pool.request("GET", f"https://127.0.0.1:{port}/")
        assert answer.status == 200
        process.terminate()
    wrong = [sys.executable, "-c", program, "serve", "--tls-cert", str(key), *options]
    done = subprocess.run(wrong, capture_output=True, text=True)
    assert done.returncode == 2
    assert "check --tls-cert and --tls-key" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def gate(opensearch_url: str) -> Iterator[tuple[Gate, str]]:
    one = Gate(opensearch_url)
    with one.listening(Guarded) as url:
        yield one, url


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/{alias}/_async_search?size=1", "/{index}/_async_search?size=1"),
        (
            "/_plugins/_asynchronous_search?index={alias}&size=1",
            "/_plugins/_asynchronous_search?index={index}&size=1",
        ),
    ],
)
def test_asynchronous_searches_are_rewritten(
    gate: tuple[Gate, str],
    serve: Serve,
    client: OpenSearch,
    index: str,
    encoder: LatentEncoder,
    path: str,
    sent: str,
) -> None:
    """The local engine does not know them: what it would get counts."""
    open_index(client, index, encoder, {})
    alias = f"{index}-alias"
    client.indices.put_alias(index=index, name=alias)
    seen, url = gate
    with serve(urls=(url,)) as proxy:
        proxy.ask("POST", path.format(alias=alias), MATCH)
    at = [number for number, one in enumerate(seen.seen) if "async" in one[1]]
    assert [seen.seen[number][1] for number in at] == [sent.format(index=index)]
    assert b'"latent"' in seen.bodies[at[0]]


@pytest.mark.slow
def test_an_engine_that_restarts_under_load(
    serve: Serve, encoder: LatentEncoder, tmp_path: Path
) -> None:
    engine = LocalEngine("opensearch", tmp_path / "engine", None)
    port = free_port()
    url = engine.up(port=port, heap="1g", bound_to_us=True).url
    client = Connection(url).open()
    open_index(client, "papers", encoder, {})
    statuses: list[tuple[str, int]] = []
    written: list[str] = []
    stop = threading.Event()
    with serve(urls=(url,)) as proxy:
        threads = [
            threading.Thread(target=ask_on, args=(proxy, stop, statuses, written, number))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(2)
        engine.down()
        time.sleep(1)
        engine.up(port=port, heap="1g", bound_to_us=True)
        before = len(written)
        time.sleep(4)
        stop.set()
        for thread in threads:
            thread.join()
        assert len(written) > before
    assert {status for _, status in statuses} <= {200, 201, 429, 502, 503}
    assert {status for _, status in statuses} & {502, 503}
    client.indices.refresh(index="papers")
    hits = client.search(index="papers", body={"size": 10_000})["hits"]["hits"]
    found = {hit["_id"]: hit["_source"] for hit in hits}
    assert set(written) <= found.keys()
    for source in found.values():
        assert source.get("latent_hash", text_hash(source["text"])) == text_hash(source["text"])
    engine.down()


def ask_on(
    proxy: Running,
    stop: threading.Event,
    statuses: list[tuple[str, int]],
    written: list[str],
    number: int,
) -> None:
    """Search and write until told to stop."""
    count = 0
    while not stop.is_set():
        count += 1
        identifier = f"{number}-{count}"
        document = {"text": f"names of files {count % 5}"}
        reply = proxy.ask("PUT", f"/papers/_doc/{identifier}", document)
        statuses.append(("write", reply.status))
        if reply.status == 201:
            written.append(identifier)
        statuses.append(("search", proxy.ask("POST", "/papers/_search", MATCH).status))
