"""Measure what clusters of the documents' latents would save: sorting by them, and asking some.

    python benchmarks/clusters.py scifact/ --texts arxiv-abstracts.jsonl.gz --out scale/

The documents are real. They are indexed in random order, as they come, and sorted by cluster
(`index.sort`), so that neighbours share blocks of posting lists. The first table has the postings
that a question visits and its time; the second what is found if a filter asks only the clusters
whose centroids are nearest to the question, and the time in the sorted index, of that of the same
form without the filter.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import scipy.sparse
from cached_encodings import Row, encoded, real_texts
from command import Benchmark
from numpy.typing import NDArray
from opensearchpy import OpenSearch, helpers
from scale import MAPPING, hits, merge, visited

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.mappings import MappingConfig, index_body

ROUNDS = 20
FORMS = ("hybrid", "hybrid_two_phase")


def matrix(rows: Sequence[Row], n_latents: int) -> scipy.sparse.csr_matrix:
    """Return the documents as vectors of length 1, `[n_documents, n_latents]`."""
    offsets = np.cumsum([0, *(len(latents) for _, _, latents, _ in rows)])
    latents = np.concatenate([latents for _, _, latents, _ in rows])
    tf = np.concatenate([tf for _, _, _, tf in rows])
    idf = inverse_document_frequency(len(rows), np.bincount(latents, minlength=n_latents))
    values = (idf[latents] * tf / (tf + 1)).astype(np.float32)
    found = scipy.sparse.csr_matrix((values, latents, offsets), (len(rows), n_latents))
    lengths = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)))
    return found.multiply(1 / np.maximum(lengths, 1e-9)).tocsr()


def clustered(
    vectors: scipy.sparse.csr_matrix, n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the cluster of each document, and the centroids, `[n, n_latents]`; k-means."""
    random = np.random.default_rng(0)
    centroids = vectors[random.choice(vectors.shape[0], n, replace=False)].toarray()
    for _ in range(ROUNDS):
        of = np.asarray((vectors @ centroids.T).argmax(axis=1)).ravel()
        member = scipy.sparse.csr_matrix(
            (np.ones(len(of), np.float32), (of, np.arange(len(of)))), (n, len(of))
        )
        centroids = (member @ vectors).toarray()
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-9)
    return of, centroids


def build(
    client: OpenSearch, index: str, rows: Sequence[Row], clusters: NDArray[np.int64], *, sort: bool
) -> None:
    mapping = MappingConfig(**MAPPING)
    meta = IndexMeta.of(LatentEncoder.shared(), mapping)
    body = index_body(mapping, meta.to_json())
    body["mappings"]["properties"]["cluster"] = {"type": "integer"}
    if sort:
        body["settings"] |= {"index.sort.field": "cluster"}
    client.indices.delete(index=index, params={"ignore_unavailable": "true"})
    client.indices.create(index=index, body=body)
    actions = (
        {
            "_id": identifier,
            "text": text,
            "cluster": int(cluster),
            meta.latent_field: terms.write(latents, tf, meta.spelling),
        }
        for (identifier, text, latents, tf), cluster in zip(rows, clusters, strict=True)
    )
    helpers.bulk(client, actions, index=index, chunk_size=500, refresh=True)
    merge(client, index, 1)


def seconds(ask: Callable[..., Any], *asked: Any) -> float:
    """Return the duration of the second of two equal requests."""
    ask(*asked)
    started = time.perf_counter()
    ask(*asked)
    return time.perf_counter() - started


def ratio(pairs: Sequence[tuple[float, float]]) -> str:
    """Return the median of the first times, of that of the second."""
    some, every = zip(*pairs, strict=True)
    return f"{median(some) / median(every):.2f}"


@click.command(cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--texts", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("scale"))
@click.option("--real", type=int, default=20_000, help="Real texts to encode.")
@click.option("--clusters", "n_clusters", type=int, default=64)
@click.option("--questions", type=int, default=100)
@click.option("--split", default="train")
def main(
    folder: Path,
    texts: tuple[Path, ...],
    out: Path,
    real: int,
    n_clusters: int,
    questions: int,
    split: str,
) -> None:
    """Measure clusters of the judged collection in FOLDER and of the texts."""
    judged = Collection.load(folder, split)
    _, every = real_texts(judged, texts, real)
    rows = encoded(out / "encoded", every)
    encoder = QueryEncoder(cache_size=10_000)
    n_latents = LatentEncoder.shared().n_latents
    of, centroids = clustered(matrix(rows, n_latents), n_clusters)
    client = Connection(default_url()).open()
    shuffled = np.random.default_rng(0).permutation(len(rows))
    orders = {"random": (shuffled, False), "as they come": (np.arange(len(rows)), False)}
    orders["by cluster"] = (shuffled, True)
    rewriters = {}
    for name, (order, sort) in orders.items():
        index = f"benchmark-clusters-{name.replace(' ', '-')}"
        build(client, index, [rows[i] for i in order], of[order], sort=sort)
        rewriters[name] = QueryRewriter.from_index(client, index, encoder)
    asked = list(judged.queries)[:questions]
    encoder.encode([judged.queries[query] for query in asked])
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    postings: dict[tuple[str, str], list[int]] = defaultdict(list)

    def ask(rewriter: QueryRewriter, body: dict[str, Any], **more: Any) -> Any:
        return client.search(index=rewriter.index, body={**body, "_source": False, **more})

    for query in asked:
        for form in FORMS:
            for name, rewriter in rewriters.items():
                body = rewriter.rewrite(judged.queries[query], form=form)
                times[form, name].append(seconds(ask, rewriter, body))
                profile = ask(rewriter, body, profile=True)["profile"]
                postings[form, name].append(visited(profile))
    click.echo(f"{len(rows):,} documents, {n_clusters} clusters, {len(asked)} questions\n")
    click.echo("| form | order | postings | p50 |\n|---|---|---|---|")
    for (form, name), found in postings.items():
        p50 = 1000 * median(times[form, name])
        click.echo(f"| {form} | {name} | {median(found):,.0f} | {p50:.1f} ms |")
    rewriter = rewriters["random"]
    bodies = {query: rewriter.rewrite(judged.queries[query], form="hybrid") for query in asked}
    exact = {query: hits(ask(rewriter, body)) for query, body in bodies.items()}
    relevant = {query: judged.qrels[query] for query in asked}
    click.echo(
        "\n| clusters asked | documents asked | same top 10 | nDCG@10 | hybrid | hybrid_two_phase |"
        "\n|---|---|---|---|---|---|"
    )
    ordered = rewriters["by cluster"]
    for n_asked in (1, 2, 4, 8, 16, 32, n_clusters):
        found, same, share = {}, [], []
        took: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for query, body in bodies.items():
            vector = np.zeros(n_latents, np.float32)
            for term in rewriter.terms(judged.queries[query]):
                vector[terms.latent_of(term.term)] = term.weight * term.idf
            nearest = np.argsort(-(centroids @ vector))[:n_asked]
            only = {"terms": {"cluster": nearest.tolist()}}
            limited = {"bool": {"must": [body["query"]], "filter": [only]}}
            found[query] = hits(ask(rewriter, {**body, "query": limited}))
            for form in FORMS:
                every = ordered.rewrite(judged.queries[query], form=form)
                some = ordered.rewrite(judged.queries[query], form=form, filter=only)
                took[form].append((seconds(ask, ordered, some), seconds(ask, ordered, every)))
            same.append(len({*found[query]} & {*exact[query]}) / len(exact[query]))
            share.append(float(np.isin(of, nearest).mean()))
        click.echo(
            f"| {n_asked} | {np.mean(share):.0%} | {np.mean(same):.3f} | "
            f"{mean_ndcg(relevant, found):.4f} | {ratio(took['hybrid'])} | "
            f"{ratio(took['hybrid_two_phase'])} |"
        )
    for rewriter in rewriters.values():
        client.indices.delete(index=rewriter.index)


if __name__ == "__main__":
    sys.exit(main())
