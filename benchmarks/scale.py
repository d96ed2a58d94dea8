"""Compare what a question costs in large indices with what its words cost.

    python benchmarks/scale.py scifact/ --texts arxiv-abstracts.jsonl.gz --out scale/ \\
        --documents 10000 --documents 100000

An index holds the judged documents as they are. The others are mixed from two real ones: three
quarters of the words and of the latents of one, and a quarter of those of the other. Real texts are
encoded once and cached in the folder of --out; an index that was not finished is continued, and
what `scale.json` has already is not measured again. The layout is lean. One client asks a question
in all forms in turn; several clients ask all questions in one form, then in the next.

The results: a table for each index, `scale.json` and `scale.png` in the folder of --out. Times are
those that the client sees, in multiples of the time of words. `postings` are the entries of posting
lists that a question visits, from the engine's profile. `same top 10` is the share of the first ten
hits of the form in one phase.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import matplotlib
import numpy as np
from cached_encodings import Row, encoded, real_texts
from command import Benchmark
from opensearchpy import OpenSearch, helpers

from latent_ingest.connector import terms
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, EngineInfo, default_url
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.rankings import Ranking, without_itself
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.querying.clauses import any_of
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.mappings import MappingConfig, index_body

Body = dict[str, Any]

# Postings are the same in each spelling, and this one is indexed in half of the time.
MAPPING: dict[str, Any] = {"lean": True, "text_fields": ("text",), "spelling": "delimited"}
FROM_THE_FIRST = 0.75
SENT_AT_ONCE = 500
CONCURRENT = "index.search.concurrent_segment_search.mode"
KEY = ("model", "engine", "documents", "shards", "segments", "clients", "concurrent", "questions")
PROFILED = 10
AGGREGATION = {"parts": {"terms": {"field": "part"}}}

# What the picture shows: one shard, one segment, one client.
PLOTTED = [1, 1, 1, "none"]

# Request → the request whose hits are exact for it.
EXACT = {
    "auto": "hybrid",
    "two_phase": "latent",
    "keep, auto": "keep, hybrid",
    "keep, hybrid_two_phase": "keep, hybrid",
}
# Request → what its time is compared with; else words.
PLAIN = dict.fromkeys(("keep, auto", "keep, hybrid", "keep, hybrid_two_phase"), "words, aggregated")


def mixed(rows: Sequence[Row], number: int) -> Row:
    """Return a document made of two others, which `number` chooses."""
    random = np.random.default_rng(number)
    words: list[str] = []
    latents, counts = [], []
    for row, share in zip(random.integers(len(rows), size=2), (FROM_THE_FIRST, 1), strict=True):
        share = share if share < 1 else 1 - FROM_THE_FIRST
        _, text, some, tf = rows[row]
        split = text.split()
        words += (split[i] for i in np.flatnonzero(random.random(len(split)) < share))
        kept = random.random(len(some)) < share
        latents.append(some[kept])
        counts.append(tf[kept])
    unique, place = np.unique(np.concatenate(latents), return_inverse=True)
    tf = np.zeros(len(unique), dtype=np.int64)
    np.add.at(tf, place, np.concatenate(counts))
    return f"mixed-{number}", " ".join(words), unique, tf


def build(
    client: OpenSearch,
    index: str,
    rows: list[Row],
    n_judged: int,
    n: int,
    options: dict[str, Any] = MAPPING,
    shards: int = 1,
    encoder: LatentEncoder | None = None,
) -> None:
    """Create the index, or add what it lacks."""
    encoder = encoder or LatentEncoder.shared()
    mapping = MappingConfig(**options)
    if not client.indices.exists(index=index):
        body = index_body(mapping, IndexMeta.of(encoder, mapping).to_json())
        body["settings"]["number_of_shards"] = shards
        client.indices.create(index=index, body=body)
    meta = open_index(client, index, encoder, options)
    client.indices.refresh(index=index)
    there = client.count(index=index)["count"]
    if there >= n:
        return
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": "-1"}})

    def documents() -> Iterator[Row]:
        yield from islice(rows, n_judged)
        yield from (mixed(rows, number) for number in range(n - n_judged))

    # Requests are sent in order, some at the same time: the last ones may be incomplete.
    first = max(0, there - 20 * SENT_AT_ONCE)
    actions = (
        {
            "_id": identifier,
            "text": text,
            "part": i % 10,
            meta.latent_field: terms.write(latents, tf, meta.spelling),
        }
        for i, (identifier, text, latents, tf) in enumerate(documents())
        if i >= first
    )
    sent = helpers.parallel_bulk(client, actions, 2, SENT_AT_ONCE, index=index)
    for i, (ok, answer) in enumerate(sent, first + 1):
        if not ok:
            raise click.ClickException(str(answer))
        if i % 1000 == 0:
            click.echo(f"\r{index}: sent {i:,} of {n:,} documents", nl=False, err=True)
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": None}})
    client.indices.refresh(index=index)


def merge(client: OpenSearch, index: str, segments: int) -> None:
    """Merge to as many segments at most, however long it takes."""
    click.echo(f"\r{index}: merging to {segments} segments" + " " * 20, err=True)
    client.indices.forcemerge(index=index, max_num_segments=segments, request_timeout=7200)
    client.indices.flush(index=index, request_timeout=600)  # deletes the files that were merged
    client.indices.refresh(index=index)


def boosted(body: Body, boost: float) -> Body:
    """Return a hybrid request with the boost on the `bool` of latent terms instead of on each."""
    words, latent = body["query"]["bool"]["should"]
    clauses = [
        {"term": {field: {**options, "boost": options["boost"] / boost}}}
        for clause in latent["bool"]["should"]
        for field, options in clause["term"].items()
    ]
    inner = {"bool": {"should": clauses, "boost": boost}}
    return {**body, "query": {"bool": {"should": [words, inner]}}}


def in_steps(rewriter: QueryRewriter, steps: str, text: str) -> Body:
    """Return a hybrid request whose terms retrieve and rescore in steps of any number and size.

    `24:150/72,37/192`: 24 heads retrieve; those after them, up to the 72nd heaviest term, rescore
    150 hits, and those up to the 192nd 37 hits.
    """
    heads, _, windows = steps.partition(":")
    terms_of_text = rewriter.terms(text)
    field, boost, upto = rewriter.field, rewriter.latent_boost, int(heads)
    body = rewriter.words_only(text)
    latent = any_of(terms_of_text[:upto], field, boost)
    body["query"] = {"bool": {"should": [body["query"], latent]}}
    body["rescore"] = []
    for window, last in (step.split("/") for step in windows.split(",")):
        if some := terms_of_text[upto : int(last)]:
            query = {"rescore_query": any_of(some, field, boost)}
            body["rescore"].append({"window_size": int(window), "query": query})
        upto = int(last)
    return body


def requests(
    rewriter: QueryRewriter, phases: Sequence[tuple[int, int]], steps: Sequence[str]
) -> dict[str, Callable[[str], Body]]:
    """Return what makes the request of a question, by name."""

    def form(name: str, **options: int) -> Callable[[str], Body]:
        return partial(rewriter.rewrite, form=name, **options)

    def aggregated(text: str) -> Body:
        return {**rewriter.words_only(text), "track_total_hits": True, "aggs": AGGREGATION}

    def keep(name: str) -> Callable[[str], Body]:
        return lambda text: rewriter.rewrite_body(aggregated(text), form=name)

    return {
        "words": rewriter.words_only,
        "auto": form("auto"),
        "hybrid": form("hybrid"),
        "hybrid, boost on the bool": lambda text: boosted(
            rewriter.rewrite(text, form="hybrid"), rewriter.latent_boost
        ),
        "hybrid_two_phase": form("hybrid_two_phase"),
        **{
            f"hybrid_two_phase, {heads} heads, window {window}": form(
                "hybrid_two_phase", head_terms=heads, window=window
            )
            for heads, window in phases
        },
        **{f"hybrid in steps, {each}": partial(in_steps, rewriter, each) for each in steps},
        "latent": form("latent"),
        "two_phase": form("two_phase"),
        "words, aggregated": aggregated,
        "keep, auto": keep("auto"),
        "keep, hybrid": keep("hybrid"),
        "keep, hybrid_two_phase": keep("hybrid_two_phase"),
    }


def exact_for(name: str) -> str:
    """Return the request whose hits are exact for a request."""
    return EXACT.get(name, "hybrid" if name.startswith("hybrid") else name)


def plain_for(name: str) -> str:
    """Return the request with whose time that of a request is compared."""
    return PLAIN.get(name, "words")


def hits(answer: Any) -> dict[str, float]:
    return {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


def visited(profile: Any) -> int:
    """Return the entries of posting lists that a profiled search visited."""
    total = 0
    nodes = [
        query for shard in profile["shards"] for one in shard["searches"] for query in one["query"]
    ]
    while nodes:
        node = nodes.pop()
        children = node.get("children", [])
        nodes += children
        if not children:
            steps = node["breakdown"]
            total += steps.get("next_doc_count", 0) + steps.get("advance_count", 0)
    return total


def measured(
    client: OpenSearch,
    index: str,
    judged: Collection,
    asked: Sequence[str],
    clients: int,
    phases: Sequence[tuple[int, int]],
    steps: Sequence[str],
    without: str,
    encoder: LatentEncoder,
) -> dict[str, dict[str, float]]:
    """Ask the questions in all forms; return figures of each form."""
    rewriter = QueryRewriter.from_index(client, index, QueryEncoder(encoder, cache_size=10_000))
    rewriter.rewrite_many([judged.queries[query] for query in asked])
    times: dict[str, list[float]] = defaultdict(list)
    found: dict[str, Ranking] = defaultdict(dict)
    postings: dict[str, list[int]] = defaultdict(list)
    makers = {
        name: make
        for name, make in requests(rewriter, phases, steps).items()
        if not (without and re.search(without, name))
    }
    for name in makers:
        if lacking := {exact_for(name), plain_for(name)} - makers.keys():
            raise click.ClickException(f"{name} is compared with {min(lacking)}: keep both or none")

    def timed(name: str, query: str) -> None:
        body = {**makers[name](judged.queries[query]), "_source": False}
        started = time.perf_counter()
        answer = client.search(index=index, body=body, request_timeout=600)
        times[name].append(time.perf_counter() - started)
        found[name][query] = without_itself(query, hits(answer))

    for warm in (True, False):
        times.clear()
        if clients == 1:
            for query in asked[: PROFILED if warm else None]:
                for name in makers:
                    timed(name, query)
            continue
        with ThreadPoolExecutor(clients) as pool:
            for name in makers:
                list(pool.map(timed, [name] * len(asked), asked))
    for query in asked[:PROFILED]:
        for name, make in makers.items():
            body = {**make(judged.queries[query]), "_source": False, "profile": True}
            answer = client.search(index=index, body=body, request_timeout=600)
            postings[name].append(visited(answer["profile"]))
    figures = {}
    for name in makers:
        plain = times[plain_for(name)]
        exact = found[exact_for(name)]
        same = [len({*found[name][q]} & {*exact[q]}) / max(1, len(exact[q])) for q in asked]
        relevant = {query: judged.qrels[query] for query in asked}
        figures[name] = {
            "p50_ms": 1000 * median(times[name]),
            "p95_ms": 1000 * quantiles(times[name], n=20)[-1],
            "p99_ms": 1000 * quantiles(times[name], n=100)[-1],
            "p50_ratio": median(times[name]) / median(plain),
            "p95_ratio": quantiles(times[name], n=20)[-1] / quantiles(plain, n=20)[-1],
            "p99_ratio": quantiles(times[name], n=100)[-1] / quantiles(plain, n=100)[-1],
            "postings": median(postings[name]),
            "same_top_10": sum(same) / len(same),
            "ndcg_at_10": mean_ndcg(relevant, found[name]),
        }
    return figures


def table(title: str, figures: dict[str, dict[str, float]]) -> str:
    lines = [
        title,
        "",
        "| request | p50 | p95 | p99 | x words | p95 | p99 | postings | same top 10 | nDCG@10 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in figures.items():
        times = [f"{row[f'{part}_ms']:.1f} ms" for part in ("p50", "p95", "p99")]
        times += [f"{row[f'{part}_ratio']:.1f}" for part in ("p50", "p95", "p99")]
        lines.append(
            f"| {name} | {' | '.join(times)} | {row['postings']:,.0f} | "
            f"{row['same_top_10']:.3f} | {row['ndcg_at_10']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the time of each form in multiples of words' against documents, for `PLOTTED`."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for result in results:
        if [result[key] for key in ("shards", "segments", "clients", "concurrent")] == PLOTTED:
            for name, row in result["forms"].items():
                label = f"{name}, {result['model']}"
                lines[label].append((result["documents"], row["p50_ratio"]))
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="documents", ylabel="p50 in multiples of words'")
    if lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120, bbox_inches="tight")


@click.command(cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--texts", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", help="Model folder, or the name of a shipped one.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("scale"))
@click.option("--documents", multiple=True, type=int, default=(10_000, 100_000))
@click.option("--real", type=int, default=20_000, help="Real texts to encode.")
@click.option("--questions", type=int, default=60)
@click.option("--shards", multiple=True, type=int, default=(1,))
@click.option("--segments", multiple=True, type=int, default=(4, 1), help="Of each shard.")
@click.option("--clients", multiple=True, type=int, default=(1, 8))
@click.option(
    "--concurrent",
    multiple=True,
    default=("none",),
    type=click.Choice(["none", "all"]),
    help="Of index.search.concurrent_segment_search.mode.",
)
@click.option("--phases", multiple=True, type=(int, int), help="Other heads and windows.")
@click.option("--steps", multiple=True, help="Other steps, as 24:150/72,37/192.")
@click.option(
    "--without",
    default="",
    help="Regular expression of requests to leave out.",
)
@click.option("--split", default="test")
@click.option("--keep-indices/--delete-indices", default=True)
def main(
    folder: Path,
    texts: tuple[Path, ...],
    model: str | None,
    out: Path,
    documents: tuple[int, ...],
    real: int,
    questions: int,
    shards: tuple[int, ...],
    segments: tuple[int, ...],
    clients: tuple[int, ...],
    concurrent: tuple[str, ...],
    phases: tuple[tuple[int, int], ...],
    steps: tuple[str, ...],
    without: str,
    split: str,
    keep_indices: bool,
) -> None:
    """Measure indices with the judged collection in FOLDER among their documents."""
    judged = Collection.load(folder, split)
    n_judged, every = real_texts(judged, texts, real)
    encoder = LatentEncoder.shared(model)
    of_model = f"-{encoder.name}".lower() if model else ""
    rows = encoded(out / f"encoded{of_model}", every, model)
    client = Connection(default_url()).open()
    told = EngineInfo.read(client)
    mapping = MAPPING
    if told.distribution == "elasticsearch":
        mapping = {**MAPPING, "spelling": "repeat"}
    engine = f"{told.distribution} {'.'.join(map(str, told.version))}"
    file = out / "scale.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    asked = list(judged.queries)[:questions]
    for n, n_shards in product(sorted(documents), shards):
        index = f"benchmark-scale{of_model}-{n}" + (f"-{n_shards}-shards" if n_shards > 1 else "")
        build(client, index, rows, n_judged, n, mapping, n_shards, encoder)
        for some, mode, at_once in product(sorted(segments, reverse=True), concurrent, clients):
            setting = (encoder.name, engine, n, n_shards, some, at_once, mode, len(asked))
            result = dict(zip(KEY, setting, strict=True))
            if any(result.items() <= known.items() for known in results):
                continue
            merge(client, index, some)
            size = client.indices.stats(index=index, metric="store")
            n_bytes = size["indices"][index]["primaries"]["store"]["size_in_bytes"]
            if told.distribution == "opensearch" and told.version >= (3,):
                client.indices.put_settings(index=index, body={CONCURRENT: mode})
            forms = measured(client, index, judged, asked, at_once, phases, steps, without, encoder)
            results.append({**result, "bytes_per_document": n_bytes / n, "forms": forms})
            title = (
                f"{encoder.name}, {engine}: {n:,} documents, {n_shards} shards of {some} segments, "
                f"{at_once} clients, concurrent search {mode}, {n_bytes / n:,.0f} B each, "
                f"{len(asked)} questions"
            )
            click.echo(table(title, forms))
            file.write_text(json.dumps(results, indent=1), encoding="utf-8")
        if not keep_indices:
            client.indices.delete(index=index)
    plot(results, out / "scale.png")


if __name__ == "__main__":
    sys.exit(main())
