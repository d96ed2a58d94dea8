"""Several workers: one address, metrics of all, one end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from opensearchpy import OpenSearch
from prometheus_client.mmap_dict import MmapedDict

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.index.opening import open_index

PROGRAM = "from latent_ingest.cli.main import cli; cli()"
MATCH = {"query": {"match": {"text": "names of files"}}}
POOL = urllib3.PoolManager(maxsize=32, retries=False)


class Workers:
    """Two workers of a proxy."""

    def __init__(self, process: subprocess.Popen[str], port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder

    def values(self, name: str) -> dict[int, float]:
        """Worker → sum of the samples of a metric."""
        found = {}
        for path in self._folder.glob("latent-ingest-metrics-*/*.db"):
            if not path.stat().st_size:  # it is just being made
                continue
            read: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
            values = [value for key, value, *_ in read if json.loads(key)[1] == name]
            if values:
                found[int(path.stem.rpartition("_")[2])] = sum(values)
        return found

    def metric(self, line: str) -> float:
        """A metric of all workers, as Prometheus reads it."""
        text = POOL.request("GET", f"{self.url}/_latent/metrics").data.decode()
        return float(text.split(f"\n{line} ")[1].split()[0])


@contextmanager
def workers(url: str, folder: Path) -> Iterator[Workers]:
    """Serve until the block ends, and longer if it does not stop them."""
    port = free_port()
    options = ["--url", url, "--port", str(port), "--questions", "table", "--no-documents"]
    command = [sys.executable, "-c", PROGRAM, "serve", *options, "--workers", "2"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as process:
        one = Workers(process, port, folder)
        try:
            until(lambda: len(one.values("latent_proxy_requests_in_progress")) == 2)
            until(lambda: answers(one.url))
            yield one
        finally:
            process.terminate()
            process.communicate(timeout=60)


def answers(url: str) -> bool:
    try:
        return POOL.request("GET", f"{url}/_latent/ready").status == 200
    except urllib3.exceptions.HTTPError:
        return False


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def slow_request(one: Workers) -> Iterator[socket.socket]:
    """A search whose body has not come yet."""
    with socket.create_connection(("127.0.0.1", one.port), timeout=30) as slow:
        slow.sendall(b"POST /_search HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n")
        slow.sendall(b"content-type: application/json\r\nconnection: close\r\n\r\n{")
        until(lambda: 1.0 in one.values("latent_proxy_requests_in_progress").values())
        yield slow


def test_two_workers_answer_and_their_metrics_add_up(
    opensearch_url: str, client: OpenSearch, index: str, encoder: LatentEncoder, tmp_path: Path
) -> None:
    open_index(client, index, encoder, {})
    with workers(opensearch_url, tmp_path) as one:

        def ask(_: int) -> str:
            with socket.create_connection(("127.0.0.1", one.port), timeout=30) as connection:
                body = json.dumps(MATCH)
                connection.sendall(
                    f"POST /{index}/_search HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
                    f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                    f"{body}".encode()
                )
                answer = b""
                while part := connection.recv(65536):
                    answer += part
            return answer.decode()

        with ThreadPoolExecutor(16) as threads:
            answered = list(threads.map(ask, range(64)))
        assert all("x-latent: rewritten" in answer for answer in answered)
        by_worker = one.values("latent_proxy_requests_total")
        assert len([value for value in by_worker.values() if value]) == 2
        assert sum(by_worker.values()) == 64
        labels = 'kind="search",outcome="rewritten",status="200"'
        assert one.metric(f"latent_proxy_requests_total{{{labels}}}") == 64
        assert one.metric("latent_proxy_rewriting_seconds_count") == 64
        assert one.metric("latent_proxy_requests_in_progress") == 0
        with slow_request(one):
            assert one.metric("latent_proxy_requests_in_progress") == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_all_workers_end_after_their_requests(
    opensearch_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    with workers(opensearch_url, tmp_path) as one:
        pids = [*one.values("latent_proxy_requests_in_progress")]
        with slow_request(one) as slow:
            one.process.send_signal(how)
            if how == signal.SIGINT:  # as from a terminal, which all processes of the group get
                for pid in pids:
                    os.kill(pid, how)
            time.sleep(0.8)
            refused = POOL.request("GET", f"{one.url}/")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            slow.sendall(b"}")
            answer = b""
            while part := slow.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        out, err = one.process.communicate(timeout=30)
    assert one.process.returncode == 0, err
    assert not any(map(alive, pids))
    assert err.splitlines()[1:] == []
    paths = [(line["path"], line["status"]) for line in map(json.loads, out.splitlines())]
    assert sorted(paths) == [("/", 503), ("/_search", 200)]
    assert not [*tmp_path.glob("latent-ingest-metrics-*")]


def test_a_worker_that_dies_is_replaced(opensearch_url: str, tmp_path: Path) -> None:
    """What it had in progress is not counted for ever; what it had done stays counted."""
    with workers(opensearch_url, tmp_path) as one:
        for _ in range(5):
            assert POOL.request("GET", f"{one.url}/").status == 200

        def busy() -> list[int]:
            progress = one.values("latent_proxy_requests_in_progress")
            return [pid for pid, value in progress.items() if value]

        # A request is counted until just after its answer.
        until(lambda: not busy())
        with slow_request(one):
            until(lambda: len(busy()) == 1)
            (killed,) = busy()
            os.kill(killed, signal.SIGKILL)
            until(lambda: killed not in one.values("latent_proxy_requests_in_progress"))
        until(lambda: len(one.values("latent_proxy_requests_in_progress")) == 2)
        until(lambda: one.metric("latent_proxy_requests_in_progress") == 0)
        labels = 'kind="other",outcome="passed",status="200"'
        assert one.metric(f"latent_proxy_requests_total{{{labels}}}") == 5


def test_a_worker_that_cannot_start_ends_all_and_says_why(tmp_path: Path) -> None:
    """It is not tried again and again."""
    script = tmp_path / "run.py"
    script.write_text("""
import os
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.proxy.serving.server import listening, serve

def make():
    path = os.path.join(os.path.dirname(__file__), "first")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise InputError("this worker has no luck") from None
    from latent_ingest.connector.engine.client import Connection
    from latent_ingest.connector.proxy.app import create_app
    from latent_ingest.connector.proxy.settings import Settings
    url = "http://127.0.0.1:1"
    return create_app(
        Settings(urls=(url,), connection=Connection(url), questions="table", documents=False)
    )

if __name__ == "__main__":
    serve(make, listening("127.0.0.1", 0), workers=2)
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=45)
    assert done.returncode == 1
    assert done.stderr.count("this worker has no luck") == 1
    assert done.stderr.count("LatentIngestError: a worker did not start") == 1
