"""Compare what questions by table cost in a large index with what their words cost.

    python benchmarks/question_scale.py scifact/ --texts arxiv-abstracts.jsonl.gz --out scale/

The index is that of `scale.py`, which is made, or continued, and gets a question table. Questions
are asked in turn: the words; by the model and by the table, as `QueryRewriter` writes them; and
plain requests, whose questions the analyzer of the index reads. Printed: p50 and p95 as the client
sees them, and in multiples of the time of words. Needs an engine.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
from cached_encodings import encoded, real_texts
from command import Benchmark
from scale import build, merge

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.questions.own_table import put_table
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.questions.stored_table import INDEX_WORDS, StoredTable

# Boost of words in a plain request, as docs/plain-queries.md has it.
WORDS_BOOST = 7


def plain(text: str, *, words: bool = True) -> dict[str, Any]:
    """A request without any of this package."""
    clauses: list[dict[str, Any]] = [{"match": {"latent": text}}]
    if words:
        clauses.append({"match": {"words": {"query": text, "boost": WORDS_BOOST}}})
    return {"query": {"bool": {"should": clauses}}, "track_total_hits": False}


@click.command(cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--texts", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("scale"))
@click.option("--documents", default=100_000, show_default=True)
@click.option("--real", default=20_000, show_default=True, help="Real texts to encode.")
@click.option("--questions", default=100, show_default=True)
@click.option("--question-words", default=INDEX_WORDS, show_default=True)
@click.option("--split", default="train", show_default=True)
def main(
    folder: Path,
    texts: tuple[Path, ...],
    out: Path,
    documents: int,
    real: int,
    questions: int,
    question_words: int,
    split: str,
) -> None:
    """Measure an index with the judged collection in FOLDER among its documents."""
    judged = Collection.load(folder, split)
    n_judged, every = real_texts(judged, texts, real)
    client, index = Connection(default_url()).open(), f"benchmark-scale-{documents}"
    build(client, index, encoded(out / "encoded", every), n_judged, documents)
    table = StoredTable.of_model(LatentEncoder.shared(), question_words)
    assert table is not None
    put_table(Index(client, index), table, Retry(client))
    merge(client, index, 1)
    by_model = QueryRewriter.from_index(client, index, QueryEncoder())
    by_table = QueryRewriter.from_index(client, index, questions="table")
    makers = {
        "words": by_model.words_only,
        "hybrid by the model": lambda text: by_model.rewrite(text, form="hybrid"),
        "hybrid by table": lambda text: by_table.rewrite(text, form="hybrid"),
        "auto by table": by_table.rewrite,
        "latent by table": lambda text: by_table.rewrite(text, form="latent"),
        "plain match of words and latent": plain,
        "plain match of latent": lambda text: plain(text, words=False),
    }
    asked = list(judged.queries.values())[:questions]
    bodies = {
        name: [{**make(text), "_source": False} for text in asked] for name, make in makers.items()
    }
    times: dict[str, list[float]] = defaultdict(list)
    for row in [*range(10), *range(len(asked))]:
        for name, some in bodies.items():
            started = time.perf_counter()
            client.search(index=index, body=some[row], request_timeout=600)
            times[name].append(time.perf_counter() - started)
    words = times["words"][10:]
    click.echo(
        f"{documents:,} documents in one segment, {len(asked)} questions, a table of "
        f"{len(table.rules):,} words\n\n| request | p50 | p95 | x words p50 | p95 |\n"
        f"|---|---|---|---|---|"
    )
    for name, warmed in times.items():
        some_times = warmed[10:]
        p50, p95 = median(some_times), quantiles(some_times, n=20)[-1]
        click.echo(
            f"| {name} | {1000 * p50:.1f} ms | {1000 * p95:.1f} ms | {p50 / median(words):.1f} | "
            f"{p95 / quantiles(words, n=20)[-1]:.1f} |"
        )


if __name__ == "__main__":
    main()
