"""Titles and bodies in one latent field or two, by BM25 in memory.

    python benchmarks/titles.py scifact/:train nfcorpus/:dev --out encoded/

For collections whose documents have titles: the change of nDCG@10 against one field with the
latents of the whole text, for latents alone and in hybrid. Counted again: the latents of the title,
encoded alone, are added to those of the text some times more. A second field: those of the title
score in a field of their own beside the text's. Two fields: the same, and the text's field has its
counts less the title's. Texts and titles are encoded once and cached in --out. Words are one field,
lower-cased, not stemmed. `±` is the standard error of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from cached_encodings import Row, encoded
from command import Benchmark, load_judged
from feedback import Judged
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.evaluation.rankings import HITS, measured
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS

AGAIN = (0.5, 1, 2, 3)
WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.6)

Counts = list[dict[int, float]]
"""Latent → count, of each document."""
Scores = dict[str, NDArray[np.float32]]
"""Scores of all documents, by question."""


def counts_of(rows: Sequence[Row]) -> Counts:
    return [dict(zip(*map(np.ndarray.tolist, row[2:]), strict=True)) for row in rows]


def scores_of(judged: Judged, counts: Counts, n_latents: int, model: QueryEncoder) -> Scores:
    """Scores of a field with some counts, by the questions of the model."""
    latents = np.concatenate([np.array(list(one), dtype=np.int32) for one in counts])
    values = np.concatenate([np.array(list(one.values()), dtype=np.float32) for one in counts])
    offsets = np.cumsum([0, *map(len, counts)])
    bm25 = MemoryBM25(latents, values, offsets, n_latents, exact_lengths=False)
    queries = judged.collection.queries
    found = {}
    for query, one in zip(queries, model.encode(list(queries.values())), strict=True):
        used = judged.weighted(*one)[:MAX_QUERY_TERMS]
        names = np.array([terms.latent_of(item.term) for item in used], dtype=np.int32)
        weights = np.array([item.weight for item in used], dtype=np.float32)
        found[query] = bm25.scores(names, weights)
    return found


def values_of(judged: Judged, scores: Scores, *, words: bool) -> NDArray[np.float64]:
    """nDCG@10 of each question, by latents alone or in hybrid."""
    rankings = {}
    for query, latent in scores.items():
        total = judged.words[query] + LATENT_BOOST * latent if words else latent
        rankings[query] = measured(query, best(judged.ids, total, HITS))
    return judged.values(rankings)[:, 0]


def variants(
    judged: Judged, texts: Counts, titles: Counts, n_latents: int
) -> Iterator[tuple[str, Scores]]:
    model = QueryEncoder(LatentEncoder.shared())
    whole = scores_of(judged, texts, n_latents, model)
    yield "one field", whole
    for times in AGAIN:
        more = [dict(one) for one in texts]
        for one, title in zip(more, titles, strict=True):
            for latent, count in title.items():
                one[latent] = one.get(latent, 0) + times * count
        yield f"title counted again, {times} times", scores_of(judged, more, n_latents, model)
    title = scores_of(judged, titles, n_latents, model)
    less = [
        {latent: n for latent, count in one.items() if (n := count - other.get(latent, 0)) > 0}
        for one, other in zip(texts, titles, strict=True)
    ]
    body = scores_of(judged, less, n_latents, model)
    for name, base in (("a second field of titles", whole), ("two fields, titles", body)):
        for weight in WEIGHTS:
            yield f"{name} x {weight}", {q: base[q] + weight * title[q] for q in base}


@click.command(cls=Benchmark)
@click.argument("collections", nargs=-1, required=True, metavar="FOLDER:SPLIT...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("encoded"))
def main(collections: tuple[str, ...], out: Path) -> None:
    """Print the quality of titles and bodies in one latent field or two."""
    cells: dict[str, list[str]] = {}
    heads = []
    n_latents = LatentEncoder.shared().n_latents
    for name in collections:
        collection = load_judged(name)
        documents = list(collection.documents())
        rows = encoded(out / collection.name, [(one.id, one.text) for one in documents])
        named = [(one.id, str(one.fields.get("title") or "")) for one in documents]
        titles = counts_of(encoded(out / f"{collection.name}-title", named))
        judged = Judged(collection, rows, n_latents)
        heads += [
            f"{collection.name} {collection.split} latent",
            f"{collection.name} {collection.split} hybrid",
        ]
        before: dict[bool, NDArray[np.float64]] = {}
        for variant, scores in variants(judged, counts_of(rows), titles, n_latents):
            for words in (False, True):
                values = values_of(judged, scores, words=words)
                cell = f"{values.mean():.4f}"
                if words in before:
                    change = values - before[words]
                    error = change.std(ddof=1) / len(change) ** 0.5
                    cell = f"{change.mean():+.4f} ± {error:.4f}"
                before.setdefault(words, values)
                cells.setdefault(variant, []).append(cell)
    click.echo(f"| latents of titles | {' | '.join(heads)} |")
    click.echo(f"|---|{'---|' * len(heads)}")
    for variant, some in cells.items():
        click.echo(f"| {variant} | {' | '.join(some)} |")


if __name__ == "__main__":
    main()
