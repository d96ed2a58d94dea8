"""Throughput of sending documents and updates to an engine, as ratios.

1. Our sender with the journal, against opensearch-py's parallel_bulk: the same documents, latent
   terms included, are sent to a new index by each in turn, several rounds. The journal's share
   counts all that is done for it: the digest of the lines, the ids that were seen, the writes.
2. Encoding and indexing at the same time, against the slower of the two alone.
3. `enrich` with 4 concurrent requests against 1, with latent vectors computed before.

The documents are docstrings of the standard library. Needs an engine: OPENSEARCH_URL, the local
one, or http://localhost:9200. `python benchmarks/indexing.py enrich` runs the third alone.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from command import Benchmark
from opensearchpy import OpenSearch, helpers

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.document import DEFAULT_ID_FIELDS, Document
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.vectors import LatentVectors
from latent_ingest.connector.engine.client import Connection, EngineInfo, default_url
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.guard import Loading
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.indexing import sender
from latent_ingest.connector.indexing.actions import (
    IndexAction,
    Verdict,
    index_action,
    term_strings,
)
from latent_ingest.connector.indexing.batches import (
    CHARACTERS_PER_BUDGET_TOKEN,
    Batch,
    Batches,
    fill,
)
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.journal import Journal, Run
from latent_ingest.connector.indexing.journal_records import Progress, RunKey
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.sender import CONCURRENCY, Outcome, Sender, requests
from latent_ingest.connector.seen_keys import SeenKeys

INDEX = "benchmark-indexing"
ENCODED = 1000
OVERLAPPED = 2500
COPIES = 30
BATCH = 1000
ROUNDS = 5
OVERLAP_ROUNDS = 3
ENRICH_ROUNDS = 3
FIELDS = {"text_fields": ("text",)}

Row = tuple[Document, str]
"""A document and its latent terms."""


def encoded(encoder: LatentEncoder, meta: IndexMeta) -> list[Row]:
    """Documents with their latent terms, and copies of them with other ids."""
    texts = list(islice(standard_library(), ENCODED))
    strings = term_strings(encoder.encode([text["text"] for text in texts]), meta)
    rows = []
    for copy in range(COPIES):
        for text, string in zip(texts, strings, strict=True):
            line = len(rows) + 1
            document = Document(line, f"{text['_id']}-{copy}", False, text["text"], dict(text))
            del document.fields["_id"]
            rows.append((document, string))
    return rows


def theirs(client: OpenSearch, meta: IndexMeta, rows: list[Row]) -> float:
    """Seconds that parallel_bulk takes."""
    client.indices.put_settings(index=INDEX, body={"index": {"refresh_interval": "-1"}})
    hash_field = str(meta.hash_field)
    started = time.perf_counter()
    actions = (
        {
            "_id": document.id,
            **document.fields,
            meta.latent_field: string,
            hash_field: document.text_hash,
        }
        for document, string in rows
    )
    limits = {"chunk_size": sender.MAX_DOCUMENTS, "max_chunk_bytes": sender.MAX_BYTES}
    sent = helpers.parallel_bulk(client, actions, CONCURRENCY, index=INDEX, **limits)
    assert all(ok for ok, _ in sent)
    return time.perf_counter() - started


def ours(client: OpenSearch, meta: IndexMeta, rows: list[Row], run: Run) -> tuple[float, float]:
    """Seconds that our sender takes, and how many of them the journal takes."""
    retry = Retry(client)
    loading = Loading(Index(client, INDEX), "rows", retry)
    target = loading.begin()
    lines = [json.dumps(document.fields).encode() for document, _ in rows]
    digest, seen = hashlib.blake2b(digest_size=16), SeenKeys()
    journal = 0.0
    started = time.perf_counter()
    sender = Sender[IndexAction](client, target, retry)
    waiting: deque[tuple[int, list[Future[list[Outcome[IndexAction]]]]]] = deque()

    def settle() -> float:
        start, futures = waiting.popleft()
        for future in futures:
            assert all(outcome.verdict is Verdict.DONE for outcome in future.result())
        before = time.perf_counter()
        end = start + BATCH
        for line in lines[start:end]:
            digest.update(line + b"\n")
        seen.add([document.id for document, _ in rows[start:end]])
        run.note(Progress(end, digest.hexdigest(), report=asdict(IngestReport())))
        return time.perf_counter() - before

    for start in range(0, len(rows), BATCH):
        actions = [
            index_action(document, 1, meta, string)
            for document, string in rows[start : start + BATCH]
        ]
        waiting.append((start, [sender.submit(request) for request in requests(actions)]))
        if len(waiting) > CONCURRENCY:
            journal += settle()
    while waiting:
        journal += settle()
    sender.close()
    seconds = time.perf_counter() - started
    loading.end()
    seen.close()
    return seconds, journal


def fresh(client: OpenSearch, encoder: LatentEncoder) -> IndexMeta:
    client.indices.delete(index=INDEX, ignore_unavailable=True)
    return open_index(client, INDEX, encoder, {})


def compare_sending(client: OpenSearch, encoder: LatentEncoder, journal: Journal) -> None:
    rows = encoded(encoder, fresh(client, encoder))
    run = journal.open(RunKey("rows", INDEX, "benchmark"))
    ratios, shares = [], []
    for number in range(ROUNDS + 1):
        plain = theirs(client, fresh(client, encoder), rows)
        seconds, journalled = ours(client, fresh(client, encoder), rows, run)
        found = client.indices.refresh(index=INDEX) and client.count(index=INDEX)["count"]
        assert found == len(rows)
        if number:  # the first warms the engine up
            ratios.append(plain / seconds)
            shares.append(journalled / seconds)
    run.close()
    print(
        f"{len(rows):,} documents, {ROUNDS} rounds: {statistics.median(ratios):.2f} times as fast "
        f"as parallel_bulk (from {min(ratios):.2f} to {max(ratios):.2f}); the journal takes "
        f"{statistics.median(shares):.2%} of the time",
        flush=True,
    )


def compare_overlap(client: OpenSearch, encoder: LatentEncoder, folder: Path) -> None:
    corpus = folder / "corpus.jsonl"
    texts = list(islice(standard_library(), OVERLAPPED))
    corpus.write_text("".join(json.dumps(text) + "\n" for text in texts))
    characters = CHARACTERS_PER_BUDGET_TOKEN * encoder.backbone.token_budget
    ratios, shares = [], []
    for _ in range(OVERLAP_ROUNDS):
        meta = fresh(client, encoder)
        started = time.perf_counter()
        with Corpus(corpus) as file:
            batches = list(Batches(file, DEFAULT_ID_FIELDS, meta, characters).read())
        for batch in batches:
            fill(batch, encoder, meta, 1)
        encoding = time.perf_counter() - started
        indexing = seconds_of_indexing(client, batches)
        meta = fresh(client, encoder)
        started = time.perf_counter()
        report = Ingest(client, INDEX, encoder, meta, corpus).run()
        ratios.append((time.perf_counter() - started) / max(encoding, indexing))
        shares.append(indexing / encoding)
        assert report.ok
    print(
        f"{OVERLAPPED:,} documents, {OVERLAP_ROUNDS} rounds: encoding and indexing take "
        f"{statistics.median(ratios):.2f} times what the slower of the two takes alone (from "
        f"{min(ratios):.2f} to {max(ratios):.2f}); indexing takes {statistics.median(shares):.2f} "
        f"times what encoding does"
    )


def seconds_of_indexing(client: OpenSearch, batches: list[Batch]) -> float:
    """Seconds to send batches that are encoded already."""
    retry = Retry(client)
    loading = Loading(Index(client, INDEX), "batches", retry)
    started = time.perf_counter()
    sender = Sender[IndexAction](client, loading.begin(), retry)
    for batch in batches:
        for request in requests(batch.actions):
            sender.submit(request)
    sender.close()
    loading.end()
    return time.perf_counter() - started


class Precomputed:
    """An encoder that knows the latent vectors of some texts."""

    def __init__(self, encoder: LatentEncoder, texts: list[str]) -> None:
        self.backbone = encoder.backbone
        self._vectors = encoder.encode(texts)
        self._rows = {text: row for row, text in enumerate(texts)}

    def encode(self, texts: list[str], **_: Any) -> LatentVectors:
        rows = [self._rows[text] for text in texts]
        vectors = self._vectors
        parts = [vectors[row] for row in rows]
        return replace(
            vectors,
            indices=np.concatenate([vectors.indices[:0], *(indices for indices, _ in parts)]),
            values=np.concatenate([vectors.values[:0], *(values for _, values in parts)]),
            offsets=np.cumsum([0, *(len(indices) for indices, _ in parts)]),
            n_tokens=vectors.n_tokens[rows],
            n_windows=vectors.n_windows[rows],
            truncated=vectors.truncated[rows],
            finite=vectors.finite[rows],
        )


def compare_enriching(client: OpenSearch, encoder: LatentEncoder) -> None:
    """Seconds of whole runs of `enrich`, reading included, over an index without latent terms."""
    texts = [text["text"] for text in islice(standard_library(), ENCODED)]
    precomputed: Any = Precomputed(encoder, texts)
    ratios = []
    for number in range(ENRICH_ROUNDS + 1):
        seconds = {}
        for concurrency in (1, CONCURRENCY):
            client.indices.delete(index=INDEX, ignore_unavailable=True)
            client.indices.create(index=INDEX, body={"settings": {"refresh_interval": "-1"}})
            documents = ({"text": text} for _ in range(COPIES) for text in texts)
            helpers.bulk(client, documents, index=INDEX, refresh=True)
            preparation = plan(ExistingIndex.read(client, INDEX), encoder, FIELDS)
            prepare(preparation, Retry(client))
            started = time.perf_counter()
            report = Enrich(client, preparation, precomputed, concurrency=concurrency).run()
            seconds[concurrency] = time.perf_counter() - started
            assert report.ok
            assert report.encoded == len(texts) * COPIES
        if number:  # the first warms the engine up
            ratios.append(seconds[1] / seconds[CONCURRENCY])
    print(
        f"{len(texts) * COPIES:,} documents, {ENRICH_ROUNDS} rounds: enrich, without encoding, is "
        f"{statistics.median(ratios):.2f} times as fast with {CONCURRENCY} concurrent requests as "
        f"with 1 (from {min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


@click.command(cls=Benchmark)
@click.argument("part", required=False, type=click.Choice(["enrich"]))
def main(part: str | None) -> None:
    """Print the throughput of sending and of updates as ratios; `enrich` measures only updates."""
    client = Connection(default_url()).open()
    EngineInfo.read(client)
    encoder = LatentEncoder.load()
    with tempfile.TemporaryDirectory() as folder:
        try:
            if part is None:
                compare_sending(client, encoder, Journal(Path(folder) / "journal.sqlite"))
                compare_overlap(client, encoder, Path(folder))
            compare_enriching(client, encoder)
        finally:
            client.indices.delete(index=INDEX, ignore_unavailable=True)


if __name__ == "__main__":
    main()
