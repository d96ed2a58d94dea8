"""Compare questions by the table of words with those of the model, by BM25 in memory.

    python benchmarks/question_table.py scifact/ --split train --encoded scifact-encoded/

`whole` is a table that also has the words of the questions that the shipped one lacks, so its
difference from the rows above is what missing words cost. Documents are encoded once, into the
folder of --encoded, as in benchmarks/scale.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from cached_encodings import encoded
from numpy.typing import NDArray

from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.probe import WordIndex
from latent_ingest.connector.evaluation.rankings import DEPTH, without_itself
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS
from latent_ingest.connector.questions.building import build_table
from latent_ingest.connector.questions.question_table import QuestionTable

Encode = Callable[[str], tuple[NDArray[np.int32], NDArray[np.float32]]]


def cut(table: QuestionTable, extra: QuestionTable | None, latents: int) -> QuestionTable:
    """Return the table, and another one's words, with fewer latents for each word."""
    entries = {}
    for part in (table, extra):
        for word, some, roots in part.entries() if part else ():
            entries[word] = some, roots**2
    return QuestionTable.of(table.name, table.fingerprint, entries, table.idf(), latents)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--split", default="test")
@click.option("--encoded", "cache", required=True, type=click.Path(path_type=Path))
@click.option("--latents", multiple=True, type=int, default=[4, 8, 12, 16, 24])
def main(folder: Path, split: str, cache: Path, latents: tuple[int, ...]) -> None:
    """Print nDCG@10 and the number of terms for the judged collection in FOLDER."""
    judged = Collection.load(folder, split)
    documents = [(document.id, document.text) for document in judged.documents()]
    rows = encoded(cache, documents)
    encoder, table = LatentEncoder.shared(), QuestionTable.load()
    ids = [row[0] for row in rows]
    bm25 = MemoryBM25(
        np.concatenate([row[2] for row in rows]),
        np.concatenate([row[3] for row in rows]),
        np.cumsum([0, *(len(row[2]) for row in rows)]),
        encoder.n_latents,
    )
    words = WordIndex([text for _, text in documents])
    by_words = {q: words.bm25.scores(*words.query(text)) for q, text in judged.queries.items()}

    def ndcg(scores: dict[str, NDArray[np.float32]]) -> float:
        found = {q: without_itself(q, best(ids, some, DEPTH)) for q, some in scores.items()}
        return mean_ndcg(judged.qrels, found)

    def show(name: str, encode: Encode) -> None:
        latent, n_terms = {}, 0
        for query, text in judged.queries.items():
            some, weights = encode(text)
            order = np.argsort(-weights * bm25.idf[some], kind="stable")[:MAX_QUERY_TERMS]
            latent[query] = bm25.scores(some[order], weights[order])
            n_terms += len(order)
        hybrid = {q: by_words[q] + LATENT_BOOST * some for q, some in latent.items()}
        click.echo(
            f"{name:<24}{ndcg(latent):>8.3f}{ndcg(hybrid):>8.3f}"
            f"{n_terms / len(judged.queries):>8.0f}"
        )

    lacking = sorted({word for text in judged.queries.values() for word in table.lacking(text)})
    click.echo(
        f"{folder.name} {split}: {len(judged.queries)} questions, words {ndcg(by_words):.3f}"
    )
    click.echo(f"{len(lacking)} of their words are not in the table")
    click.echo(f"{'question made from':<24}{'latent':>8}{'hybrid':>8}{'terms':>8}")
    queries = QueryEncoder(encoder)
    show("the model", lambda text: queries.encode([text])[0])
    for most in latents:
        show(f"table, {most} latents a word", cut(table, None, most).encode)
    whole = build_table(encoder, lacking)
    show("table, whole", cut(table, whole, max(latents)).encode)


if __name__ == "__main__":
    main()
