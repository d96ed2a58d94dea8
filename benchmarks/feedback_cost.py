"""Compare the time of a question with feedback with that of one without, in the engine.

    python benchmarks/feedback_cost.py scifact/ --encoded scifact-encoded/ --documents 100000
    python benchmarks/feedback_cost.py scifact/ --index benchmark-feedback-100000

The index is made as in benchmarks/scale.py, but keeps latent terms in `_source`; or it is one that
is there and keeps them. Questions are asked whole and by their first words alone, each with and
without feedback in turn. Times are those of the client, with rewriting, and with encodings from the
cache; ten hits come with their texts. The second table has ways to read the latent terms of the
first hits, which are made anew from the stored field where the mapping has no term vectors.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
from cached_encodings import encoded
from command import Benchmark
from opensearchpy import OpenSearch
from scale import build, merge

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher

FORMS = ("auto", "hybrid", "hybrid_two_phase")
FIRST_WORDS = 4
PLAIN = {"lean": False, "text_fields": ("text",)}


@click.command(cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--encoded", "cache", type=click.Path(path_type=Path))
@click.option("--documents", multiple=True, type=int, default=(10_000,))
@click.option("--index", help="An index that is there, which is only read.")
@click.option("--questions", type=int, default=60)
@click.option("--segments", type=int, default=1)
@click.option("--split", default="test")
def main(
    folder: Path,
    cache: Path | None,
    documents: tuple[int, ...],
    index: str | None,
    questions: int,
    segments: int,
    split: str,
) -> None:
    """Measure indices with the judged collection in FOLDER among their documents."""
    if (cache is None) == (index is None):
        raise click.UsageError("name --encoded for indices that are made, or --index")
    judged = Collection.load(folder, split)
    client = Connection(default_url()).open()
    whole = list(judged.queries.values())[:questions]
    asked = {
        "whole": whole,
        f"first {FIRST_WORDS} words": [" ".join(text.split()[:FIRST_WORDS]) for text in whole],
    }
    click.echo("| documents | questions | form | without | with feedback | p50 ratio | p95 ratio |")
    click.echo("|---|---|---|---|---|---|---|")
    if cache is None:
        assert index
        measure(client, index, asked)
        measure_reading(client, index, whole)
        return
    rows = encoded(cache, [(document.id, document.text) for document in judged.documents()])
    for n in documents:
        made = f"benchmark-feedback-{n}"
        build(client, made, rows, len(rows), n, PLAIN)
        merge(client, made, segments)
        measure(client, made, asked)
        measure_reading(client, made, whole)


def measure(client: OpenSearch, index: str, asked: Mapping[str, Sequence[str]]) -> None:
    """Print the times of questions of each kind, in each form."""
    n = client.count(index=index)["count"]
    searcher = Searcher(client, index, [QueryEncoder(cache_size=10_000)])
    for name, texts in asked.items():
        for form in FORMS:
            times: dict[bool, list[float]] = defaultdict(list)
            for warm in (True, False):
                times.clear()
                for text in texts:
                    for feedback in (False, True):
                        started = time.perf_counter()
                        answer = searcher.search(text, form=form, feedback=feedback)
                        times[feedback].append(time.perf_counter() - started)
                        if feedback and not warm and not answer["feedback"]["terms"]:
                            raise click.ClickException(f"no feedback for {text!r}")
            p50 = {feedback: median(some) for feedback, some in times.items()}
            p95 = {feedback: quantiles(some, n=20)[-1] for feedback, some in times.items()}
            click.echo(
                f"| {n:,} | {name} | {form} | {1000 * p50[False]:.1f} ms | "
                f"{1000 * p50[True]:.1f} ms | {p50[True] / p50[False]:.2f} | "
                f"{p95[True] / p95[False]:.2f} |"
            )


def measure_reading(client: OpenSearch, index: str, texts: Sequence[str]) -> None:
    """Print the times of the first request, and of reading latent terms of its hits."""
    rewriter = QueryRewriter.from_index(client, index, QueryEncoder(cache_size=10_000))
    times: dict[str, list[float]] = defaultdict(list)

    def vectors(hits: Sequence[Mapping[str, Any]]) -> None:
        asked = [
            {"_index": hit["_index"], "_id": hit["_id"], "fields": [rewriter.field]} for hit in hits
        ]
        flags = dict.fromkeys(("positions", "offsets", "field_statistics"), False)
        client.mtermvectors(body={"docs": [one | flags for one in asked]})

    for _ in range(2):
        times.clear()
        for text in texts:
            request = rewriter.first_hits_request(text)
            for name, changes, then in (
                ("no terms", {"_source": False}, None),
                ("`_source`", {}, None),
                ("`_mtermvectors`", {"_source": False}, vectors),
            ):
                started = time.perf_counter()
                found = client.search(index=index, body={**request, **changes})["hits"]["hits"]
                if then:
                    then(found)
                times[name].append(time.perf_counter() - started)
    p50 = {name: median(some) for name, some in times.items()}
    click.echo("\n| latent terms by | first hits, p50 | ratio |\n|---|---|---|")
    for name, value in p50.items():
        click.echo(f"| {name} | {1000 * value:.1f} ms | {value / p50['no terms']:.2f} |")


if __name__ == "__main__":
    main()
