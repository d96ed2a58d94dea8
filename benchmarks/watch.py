"""What `enrich --watch` costs, apart from encoding: latent vectors are computed before.

1. Catching up: 30,000 documents that were never read, against plain `enrich` of the same, in turn.
2. Following: an application writes at some rates; how long each document is without the terms of
   its text, in units of the time between two looks, and requests to the engine per look.

Needs an engine: OPENSEARCH_URL, the local one, or http://localhost:9200.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import click
from command import Benchmark
from indexing import COPIES, ENCODED, Precomputed
from opensearchpy import OpenSearch, helpers

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, EngineInfo, default_url
from latent_ingest.connector.indexing.jobs.enrich_job import EnrichJob
from latent_ingest.connector.indexing.watching.job import WatchJob

INDEX = "benchmark-watch"
ROUNDS = 3
RATES = (0, 5, 50)
SECONDS = 20.0
POLL = 1.0


def fresh(client: OpenSearch, texts: list[str], copies: int) -> None:
    """An index of another application, of so many copies of the texts."""
    client.indices.delete(index=INDEX, ignore_unavailable=True)
    client.indices.create(index=INDEX, body={"settings": {"number_of_shards": 2}})
    documents = ({"text": text} for _ in range(copies) for text in texts)
    helpers.bulk(client, documents, index=INDEX, refresh=True)


def job_arguments(encoder: Any, folder: Path) -> dict[str, Any]:
    """Arguments of both jobs; each has a new journal."""
    journal = folder / f"{time.time()}.sqlite"
    return {"encoder": encoder, "text_fields": ["text"], "questions": False, "journal": journal}


@contextmanager
def watched(client: OpenSearch, encoder: Any, folder: Path) -> Iterator[WatchJob]:
    job = WatchJob(client, INDEX, poll=POLL, **job_arguments(encoder, folder))
    thread = threading.Thread(target=job.run)
    thread.start()
    try:
        yield job
    finally:
        job.stop()
        thread.join()


def catch_up(job: WatchJob, documents: int) -> None:
    """Wait until all documents have their terms, and the own updates are read."""
    while job.report.encoded < documents or job.report.writes_behind:
        time.sleep(0.02)


def compare_catching_up(client: OpenSearch, encoder: Any, texts: list[str], folder: Path) -> None:
    ratios, again = [], []
    documents = len(texts) * COPIES
    for number in range(ROUNDS + 1):
        fresh(client, texts, COPIES)
        started = time.perf_counter()
        assert EnrichJob(client, index=INDEX, **job_arguments(encoder, folder)).run().report.ok
        plain = time.perf_counter() - started
        fresh(client, texts, COPIES)
        started = time.perf_counter()
        with watched(client, encoder, folder) as job:
            while job.report.encoded < documents:
                time.sleep(0.02)
            first = time.perf_counter() - started
            catch_up(job, documents)
            whole = time.perf_counter() - started
        if number:  # the first warms the engine up
            ratios.append(first / plain)
            again.append((whole - first) / plain)
    print(
        f"{documents:,} documents, {ROUNDS} rounds: until all are updated, watching takes "
        f"{statistics.median(ratios):.2f} times what enrich takes (from {min(ratios):.2f} to "
        f"{max(ratios):.2f}); reading its own updates takes {statistics.median(again):.2f} times "
        f"as much",
        flush=True,
    )


class Counted:
    """Counts the requests of a client."""

    def __init__(self, client: OpenSearch) -> None:
        self.requests = 0
        self._perform = client.transport.perform_request
        client.transport.perform_request = self._count  # type: ignore[method-assign]

    def _count(self, *arguments: Any, **options: Any) -> Any:
        self.requests += 1
        return self._perform(*arguments, **options)


def follow(encoder: Any, texts: list[str], folder: Path, rate: int) -> None:
    """Write to the index at a rate, and see how long documents are without their terms."""
    client, followers = (Connection(default_url()).open() for _ in range(2))
    fresh(client, texts, 1)
    counted = Counted(followers)
    waits: list[float] = []
    written: dict[str, tuple[float, str]] = {}
    with watched(followers, encoder, folder) as job:
        catch_up(job, len(texts))
        time.sleep(2 * POLL)
        before, began = counted.requests, time.monotonic()
        n = 0
        while (now := time.monotonic()) < began + SECONDS:
            while n < rate * (now - began):
                text = texts[n % len(texts)]
                client.index(index=INDEX, id=f"w{n}", body={"text": text})
                written[f"w{n}"] = (time.monotonic(), text_hash(text))
                n += 1
            waits += done(client, written)
            time.sleep(0.05)
        looks = (time.monotonic() - began) / POLL
        requests = (counted.requests - before) / looks
        while written:
            waits += done(client, written)
            time.sleep(0.05)
    lag = ""
    if waits:
        waits.sort()
        shown = (statistics.median(waits), waits[int(0.95 * len(waits))], waits[-1])
        lag = "; terms after {:.1f} (median), {:.1f} (95 %), {:.1f} (longest)".format(
            *(wait / POLL for wait in shown)
        )
    print(f"{rate} writes per look: {requests:.1f} requests per look{lag}", flush=True)


def done(client: OpenSearch, written: dict[str, tuple[float, str]]) -> list[float]:
    """Seconds that documents waited for their terms; they are removed from `written`."""
    if not written:
        return []
    body = {"ids": [*written]}
    answer = client.mget(index=INDEX, body=body, params={"_source_includes": "latent_hash"})
    now = time.monotonic()
    waits = []
    for found in answer["docs"]:
        at, wanted = written[found["_id"]]
        if found["_source"].get("latent_hash") == wanted:
            waits.append(now - at)
            del written[found["_id"]]
    return waits


@click.command(cls=Benchmark)
def main() -> None:
    """Print the cost of catching up and of following."""
    client = Connection(default_url()).open()
    EngineInfo.read(client)
    texts = [text["text"] for text in islice(standard_library(), ENCODED)]
    loaded = LatentEncoder.load()
    encoder: Any = Precomputed(loaded, texts)
    for name in ("fingerprint", "name", "n_latents", "k", "pooling"):
        setattr(encoder, name, getattr(loaded, name))
    with tempfile.TemporaryDirectory() as folder:
        try:
            compare_catching_up(client, encoder, texts, Path(folder))
            for rate in RATES:
                follow(encoder, texts, Path(folder), rate)
        finally:
            client.indices.delete(index=INDEX, ignore_unavailable=True)


if __name__ == "__main__":
    main()
