"""What the proxy costs: requests, milliseconds and memory beside those of the engine alone.

    python benchmarks/proxy.py
    python benchmarks/proxy.py --url http://localhost:9200 --requests 50000

An index of docstrings is made, a proxy is started as a user starts it (by table, without documents)
and the same requests go to the engine and through the proxy in turn, round by round, so that a busy
machine slows both. Medians of the rounds are compared. Clients, proxy and engine share the cores.

    passed     a search that passes through (`X-Latent: off`), against the engine's own
    rewritten  a search that is rewritten, against the body that it becomes, sent to the engine
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import click
import psutil
import urllib3
from command import Benchmark
from opensearchpy import OpenSearch

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.engine.local import free_port
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

INDEX = "latent-ingest-bench-proxy"
CLIENTS = 16
BULK_BYTES = 100_000_000
QUESTIONS = (
    "find files whose names look like a pattern",
    "pick a random item, bigger chance for some",
    "stop waiting after some seconds",
    "read a table of numbers from a text",
)


@click.command(cls=Benchmark)
@click.option("--url", default=default_url, help="URL of the engine.")
@click.option("--documents", default=1500, show_default=True, help="Docstrings in the index.")
@click.option("--rounds", default=9, show_default=True, help="Rounds of each comparison.")
@click.option("--seconds", default=2.0, show_default=True, help="Seconds of a round's part.")
@click.option("--requests", default=50_000, show_default=True, help="Requests for memory.")
def main(url: str, documents: int, rounds: int, seconds: float, requests: int) -> None:
    """Print ratios of requests per second, milliseconds at the median, and memory."""
    client = Connection(url).open()
    fill(client, documents)
    port = free_port()
    program = "from latent_ingest.cli.main import cli; cli()"
    options = ["--questions", "table", "--no-documents", "--no-access-log", "--port", str(port)]
    command = [sys.executable, "-c", program, "serve", "--url", url, *options]
    with subprocess.Popen(command) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}")
            compare(client, url, f"http://127.0.0.1:{port}", process.pid, rounds, seconds)
            watch_memory(f"http://127.0.0.1:{port}", process.pid, requests)
        finally:
            process.terminate()
    port = free_port()
    options = ["--no-access-log", "--port", str(port)]
    command = [sys.executable, "-c", program, "serve", "--url", url, *options]
    with subprocess.Popen(command) as process:
        try:
            send_bulk(client, f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
    client.indices.delete(index=INDEX)


def fill(client: OpenSearch, documents: int) -> None:
    """Make the index."""
    client.indices.delete(index=INDEX, ignore_unavailable=True)
    encoder = LatentEncoder.shared()
    rows = list(standard_library())[:documents]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
        meta = open_index(client, INDEX, encoder, {})
        Ingest(client, INDEX, encoder, meta, corpus).run()


def compare(
    client: OpenSearch, engine: str, proxy: str, pid: int, rounds: int, seconds: float
) -> None:
    """Print the two comparisons, with one client and with several."""
    process = psutil.Process(pid)
    rewriter = QueryRewriter.from_index(client, INDEX, QueryEncoder(questions="table"))
    plain = [{"query": {"match": {"text": question}}} for question in QUESTIONS]
    ready = [rewriter.rewrite_body(body) for body in plain]
    asked = {
        "passed": ((engine, plain, {}), (proxy, plain, {"x-latent": "off"})),
        "rewritten": ((engine, ready, {}), (proxy, plain, {})),
    }
    for name, (alone, through) in asked.items():
        for clients in (1, CLIENTS):
            rates: list[float] = []
            extra: list[float] = []
            medians: list[float] = []
            core: list[float] = []
            for _ in range(rounds):
                first = asyncio.run(load(*alone, clients, seconds))
                before = sum(process.cpu_times()[:2])
                second = asyncio.run(load(*through, clients, seconds))
                core.append((sum(process.cpu_times()[:2]) - before) / len(second) * 1000)
                rates.append(len(second) / len(first))
                medians.append(statistics.median(first) * 1000)
                extra.append((statistics.median(second) - statistics.median(first)) * 1000)
            click.echo(
                f"{name}, {clients} clients: {statistics.median(rates):.2f} of the engine's own "
                f"requests/s; p50 {statistics.median(medians):.2f} ms + "
                f"{statistics.median(extra):.2f} ms; {statistics.median(core):.2f} ms of a core "
                f"in the proxy"
            )


async def load(
    url: str, bodies: list[dict[str, Any]], headers: dict[str, str], clients: int, seconds: float
) -> list[float]:
    """Return the seconds of each request of clients that ask one after the other."""
    took: list[float] = []
    content = [json.dumps(body).encode() for body in bodies]
    until = time.monotonic() + seconds
    sent = {"content-type": "application/json", **headers}

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        while time.monotonic() < until:
            number += 1
            began = time.perf_counter()
            body = content[number % len(content)]
            async with session.post(f"{url}/{INDEX}/_search", data=body, headers=sent) as answer:
                await answer.read()
                assert answer.status == 200
            took.append(time.perf_counter() - began)

    async with aiohttp.ClientSession(auto_decompress=False) as session:
        await asyncio.gather(*(ask(session, number) for number in range(clients)))
    return took


def watch_memory(proxy: str, pid: int, requests: int) -> None:
    """Print the proxy's memory after each tenth of the requests."""
    process = psutil.Process(pid)
    sizes: list[str] = []
    bodies = [{"query": {"match": {"text": question}}} for question in QUESTIONS]
    done = 0
    while done < requests:
        for headers in ({}, {"x-latent": "off"}):
            done += len(asyncio.run(load(proxy, bodies, headers, CLIENTS, 2)))
        if done >= requests * (len(sizes) + 1) / 10:
            sizes.append(f"{process.memory_info().rss / 1e6:.0f}")
    click.echo(f"memory over {done:,} requests, MB: {' '.join(sizes)}")


def wait_for(proxy: str) -> None:
    """Wait until a proxy listens and has what it needs."""
    retries = urllib3.Retry(100, backoff_factor=0.2, backoff_max=1)
    while urllib3.request("GET", f"{proxy}/_latent/ready", retries=retries).status != 200:
        time.sleep(0.5)


def send_bulk(client: OpenSearch, proxy: str, pid: int) -> None:
    """Print the memory that a `_bulk` of 100 MB takes; its documents have no text to encode."""
    wait_for(proxy)
    stored = {"type": "keyword", "index": False, "doc_values": False}
    client.indices.put_mapping(index=INDEX, body={"properties": {"stored": stored}})
    pair = b'{"index":{}}\n{"stored":"' + b"a" * 1000 + b'"}\n'
    number = BULK_BYTES // len(pair)
    body = (pair * 1000 for _ in range(number // 1000))
    before = peak = psutil.Process(pid).memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, psutil.Process(pid).memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    answer = urllib3.request(
        "POST",
        f"{proxy}/{INDEX}/_bulk",
        body=body,
        headers={"content-type": "application/x-ndjson"},
        retries=False,
        timeout=120,
    )
    done.set()
    thread.join()
    result = json.loads(answer.data)
    failed = sum("error" in item["index"] for item in result["items"])
    click.echo(
        f"a bulk of {BULK_BYTES / 1e6:.0f} MB: {len(result['items']):,} items, {failed} failed; "
        f"memory {before / 1e6:.0f} MB before, {peak / 1e6:.0f} MB at most"
    )


if __name__ == "__main__":
    main()
