"""What a question table costs an index, by its number of words.

    python benchmarks/question_analyzer.py

Times are in seconds, and as ratios to those of an index without a table; each is the median of
several. Documents are the docstrings of the standard library, with the latents that the table gives
them, and questions are the first words of documents. Needs an engine.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import click
from opensearchpy import OpenSearch, helpers

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable
from latent_ingest.connector.terms import term
from latent_ingest.mappings import MappingConfig, index_body

INDEX = "benchmark-question-analyzer"
SIZES = (10_000, 30_000, 100_000)
TIMES = 3
QUESTIONS = 200
QUESTION_WORDS = 8


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


def asked(client: OpenSearch, questions: list[str], field: str) -> float:
    """Seconds of a `match`, the median over the questions, each asked twice."""
    times = []
    for question in questions:
        body = {"query": {"match": {field: question}}, "_source": False, "track_total_hits": False}
        client.search(index=INDEX, body=body)
        times.append(seconds(lambda body=body: client.search(index=INDEX, body=body)))  # type: ignore[misc]
    return statistics.median(times)


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


@click.command()
@click.option("--words", "sizes", type=int, multiple=True, default=SIZES, show_default=True)
def main(sizes: tuple[int, ...]) -> None:
    client = Connection(default_url()).open()
    general = QuestionTable.load()
    texts = [row["text"] for row in standard_library()]
    questions = [" ".join(text.split()[:QUESTION_WORDS]) for text in texts]
    questions = questions[:: max(1, len(questions) // QUESTIONS)][:QUESTIONS]
    creating = median(lambda: made(client, None))
    opening, changing = median(lambda: closed_and_opened(client)), median(lambda: changed(client))
    click.echo(
        f"{len(texts):,} documents, {len(questions)} questions of {QUESTION_WORDS} words\n"
        f"without a table: created in {creating:.2f} s, closed and opened in {opening:.2f} s, "
        f"mapping changed in {changing:.2f} s\n"
        "  words   settings  created      x  close, open      x  mapping      x  words p50   latent"
    )
    for size in sizes:
        table = table_of(general, size)
        size_bytes = len(json.dumps(table.analysis(), ensure_ascii=False).encode())
        create = median(lambda table=table: made(client, table))  # type: ignore[misc]
        helpers.bulk(client, documents(table), request_timeout=300)
        client.indices.forcemerge(index=INDEX, params={"max_num_segments": "1"})
        client.indices.refresh(index=INDEX)
        change, reopen = median(lambda: changed(client)), median(lambda: closed_and_opened(client))
        time.sleep(2)
        words, latents = (asked(client, questions, field) for field in ("words", "latent"))
        click.echo(
            f"{size:>7,}  {size_bytes / 1e6:>6.1f} MB  {create:>5.2f} s  {create / creating:>5.1f}"
            f"  {reopen:>9.2f} s  {reopen / opening:>5.1f}  {change:>5.2f} s"
            f"  {change / changing:>5.1f}  {words * 1000:>6.2f} ms  {latents / words:>4.1f} x"
        )
    client.indices.delete(index=INDEX)


if __name__ == "__main__":
    main()
