"""Compare the forms of a query on one index: quality, hits shared with words, time.

    latent-ingest evaluate scifact/ --index scifact
    python benchmarks/forms.py scifact/ --index scifact

Times are those of the search as the client sees them, in multiples of the time of words. Each
question is searched in all forms in turn. Encodings are cached, so rewriting hardly costs time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles

import click
from command import Benchmark
from opensearchpy import OpenSearch

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.rankings import DEPTH, Ranking, without_itself
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form

TOP = 10


def seconds(
    client: OpenSearch, index: str, body: dict[str, object]
) -> tuple[float, dict[str, float]]:
    """Return the seconds of a search, and its hits: id → score."""
    started = time.perf_counter()
    answer = client.search(index=index, body={**body, "_source": False})
    taken = time.perf_counter() - started
    return taken, {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


def shared(one: dict[str, float], other: dict[str, float]) -> float:
    """Return the share of the first ten hits that two rankings have in common."""
    first, second = list(one)[:TOP], list(other)[:TOP]
    most = max(len(first), len(second))
    return len({*first} & {*second}) / most if most else 1.0


@click.command(cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--index", required=True)
@click.option("--split", default="test")
def main(folder: Path, index: str, split: str) -> None:
    """Print a table of the forms for the judged collection in FOLDER."""
    judged = Collection.load(folder, split)
    client = Connection(default_url()).open()
    rewriter = QueryRewriter.from_index(client, index, QueryEncoder(cache_size=10_000))
    rewriter.rewrite_many(list(judged.queries.values()))
    times: dict[str, list[float]] = defaultdict(list)
    rankings: dict[str, Ranking] = defaultdict(dict)
    for warm in (True, False):
        for query, text in judged.queries.items():
            bodies = {form: rewriter.rewrite(text, form=form, size=DEPTH) for form in Form}
            bodies = {"words": rewriter.words_only(text, size=DEPTH), **bodies}
            for form, body in bodies.items():
                taken, hits = seconds(client, index, body)
                if not warm:
                    times[form].append(taken)
                    rankings[form][query] = without_itself(query, hits)
    plain = times["words"]
    click.echo(
        f"{folder.name}, {len(judged.queries)} questions; words {median(plain) * 1000:.1f} ms"
    )
    click.echo("| form | nDCG@10 | top 10 shared with words | p50 | p95 |\n|---|---|---|---|---|")
    for form, ranking in rankings.items():
        common = [shared(ranking[query], rankings["words"][query]) for query in ranking]
        p50 = median(times[form]) / median(plain)
        p95 = quantiles(times[form], n=20)[-1] / quantiles(plain, n=20)[-1]
        click.echo(
            f"| {form} | {mean_ndcg(judged.qrels, ranking):.4f} | "
            f"{sum(common) / len(common):.2f} | {p50:.1f} | {p95:.1f} |"
        )


if __name__ == "__main__":
    main()
