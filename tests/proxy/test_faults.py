"""Faults on both sides of the proxy: no document is lost or doubled, and nothing is leaked."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from faults import FaultProxy
from opensearchpy import OpenSearch
from proxy.conftest import Running, Serve

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.index.opening import open_index

AT_ONCE = 8


def texts_of(number: int, documents: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Ids and texts of the documents of a request."""
    return [
        (f"{number}-{n}", documents[(number + n) % len(documents)]["text"][:200]) for n in range(3)
    ]


def spoil(proxy: Running, path: str, body: bytes, way: str) -> None:
    """Send a part of a request as a client that goes away, or one that is slow."""
    place = urlsplit(proxy.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        half = len(body) // 2
        if way == "cut":
            connection.sendall(body[:half])
        elif way == "reset":
            connection.sendall(body[:half])
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif way == "slow":
            for start in range(0, len(body), 1 + len(body) // 5):
                connection.sendall(body[start : start + 1 + len(body) // 5])
                time.sleep(0.02)
            connection.recv(10)
        else:  # the answer is not waited for
            connection.sendall(body)


@pytest.mark.parametrize("faults", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_no_document_is_lost_or_doubled(
    faults: int,
    serve: Serve,
    client: OpenSearch,
    index: str,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    opensearch_url: str,
    seed: int,
) -> None:
    open_index(client, index, encoder, {})
    faulty = FaultProxy(opensearch_url, seed, chance=0.7, others=0.1, timeout=0.3)
    spoilt: list[str] = []
    acknowledged: set[str] = set()
    lock = threading.Lock()
    done = iter(range(10_000))

    with faulty.listening() as url, serve(urls=(url,), timeout=0.3) as proxy:

        def work(worker: int) -> None:
            chance = random.Random(seed * 100 + worker)
            while faulty.injected.total() + len(spoilt) < faults:
                with lock:
                    number = next(done)
                rows = texts_of(number, documents)
                body = b"".join(
                    json.dumps(line).encode() + b"\n"
                    for identifier, text in rows
                    for line in ({"create": {"_id": identifier}}, {"text": text})
                )
                path = f"/{index}/_bulk"
                if chance.random() < 0.3:
                    way = chance.choice(("cut", "reset", "slow", "gone"))
                    spoil(proxy, path, body, way)
                    with lock:
                        spoilt.append(way)
                wanted = {identifier for identifier, _ in rows}
                while wanted:
                    try:
                        reply = proxy.ask("POST", path, body)
                        items = reply.json["items"] if reply.status == 200 else []
                    except (urllib3.exceptions.HTTPError, ValueError):
                        items = []
                    taken = {
                        item["create"]["_id"]
                        for item in items
                        if item.get("create", {}).get("status") in (201, 409)
                    }
                    wanted -= taken
                    with lock:
                        acknowledged.update(taken)

        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(work, range(AT_ONCE)))
        time.sleep(1)
        assert proxy.proxy.in_progress == 0
        session: Any = proxy.proxy.upstream._session
        assert not session.connector._acquired
        assert proxy.ask("GET", "/_latent/health").status == 200

    assert faulty.injected.total() + len(spoilt) >= faults
    if faults == 200:
        assert set(spoilt) == {"cut", "reset", "slow", "gone"}
    client.indices.refresh(index=index)
    hits = client.search(index=index, body={"size": 10_000})["hits"]["hits"]
    found = {hit["_id"]: hit["_source"] for hit in hits}
    assert acknowledged <= found.keys()
    expected = {
        identifier: text
        for number in range(next(done))
        for identifier, text in texts_of(number, documents)
    }
    for identifier, source in found.items():
        assert source["text"] == expected[identifier]
        if "latent_hash" in source:
            assert source["latent_hash"] == text_hash(expected[identifier])
    with_terms = sum("latent" in source for source in found.values())
    assert with_terms > 0.5 * len(found)


def test_no_task_is_left_after_clients_have_gone(
    serve: Serve, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    open_index(client, index, encoder, {})
    body = b'{"index":{}}\n{"text":"names of files"}\n'
    with serve(timeout=1.0) as proxy:
        proxy.ask("GET", "/")
        loop = proxy.proxy.upstream._session._loop  # type: ignore[union-attr]
        before = len(asyncio.all_tasks(loop))
        for way in ("cut", "reset", "gone", "slow") * 10:
            spoil(proxy, f"/{index}/_bulk", body, way)
        time.sleep(2.5)
        assert proxy.proxy.in_progress == 0
        assert len(asyncio.all_tasks(loop)) <= before + 1
    client.indices.refresh(index=index)
    assert client.count(index=index)["count"] == 20  # those whose body was whole


def test_a_node_that_is_down_is_passed_over(serve: Serve, opensearch_url: str) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    settings = {"documents": False, "questions": "table"}
    with serve(urls=(down, opensearch_url), **settings) as proxy:
        assert [proxy.ask("GET", "/").status for _ in range(6)] == [200] * 6


def test_requests_in_progress_end_before_the_proxy_does(opensearch_url: str) -> None:
    port = free_port()
    program = "from latent_ingest.cli.main import cli; cli()"
    options = ["--url", opensearch_url, "--port", str(port), "--questions", "table"]
    command = [sys.executable, "-c", program, "serve", *options, "--no-documents"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(port)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            slow.sendall(b"POST /_search HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n")
            slow.sendall(b"content-type: application/json\r\nconnection: close\r\n\r\n{")
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            pool = urllib3.PoolManager()
            refused = pool.request("GET", f"http://127.0.0.1:{port}/", retries=False)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            ready = pool.request("GET", f"http://127.0.0.1:{port}/_latent/ready", retries=False)
            assert ready.status == 503
            slow.sendall(b"}")
            answer = b""
            while part := slow.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert {(one["path"], one["status"]) for one in lines} == {("/_search", 200), ("/", 503)}


def wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the proxy does not listen")
