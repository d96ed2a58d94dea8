"""Quality for documents longer than the backbone window: pooled, chunked, truncated; and words.

    python benchmarks/long_documents.py medquad.jsonl.gz

The file has passages of answers, each answer's first passage beginning with its question (MedQuAD).
Answers longer than the window are the documents, their questions the queries; the answers to a
question are its relevant documents. Prints nDCG@10 of plain BM25 in memory; a chunked document has
the score of its best chunk.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from command import Benchmark
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25
from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.document import BadLine, parse_line
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.pooling import PooledRows
from latent_ingest.connector.encoding.vectors import LatentChunks, LatentVectors
from latent_ingest.connector.encoding.windows import windows_of
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.probe import WordIndex

Scores = Callable[[int], NDArray[np.float32]]
"""Number of a question → scores of all documents."""


def read_answers(path: Path) -> list[tuple[str, str]]:
    """Questions and complete answers."""
    passages: dict[str, list[str]] = {}
    with CorpusFile(path) as file:
        for line in file:
            document = parse_line(line)
            assert not isinstance(document, BadLine), document.reason
            passages.setdefault(document.id.rpartition(".")[0], []).append(document.text)
    whole = [" ".join(texts) for texts in passages.values()]
    found = [re.fullmatch(r"([^?]{5,200}\?)\s*(.+)", text, re.DOTALL) for text in whole]
    return [(match[1], match[2]) for match in found if match]


def n_windows(encoder: LatentEncoder, text: str) -> int:
    backbone = encoder.backbone
    found = windows_of(
        backbone._tokenizer,
        [text],
        prompt=backbone.prompts.get("document", ""),
        max_tokens=backbone.max_tokens,
        long="pool",
    )
    return len(found)


def by_latents(documents: LatentVectors, queries: LatentVectors) -> Scores:
    tf = terms.counts(documents.values)
    bm25 = MemoryBM25(documents.indices, tf, documents.offsets, documents.n_latents)

    def scores(query: int) -> NDArray[np.float32]:
        indices, values = queries[query]
        return bm25.scores(indices, terms.weights(values))

    return scores


def by_best_chunk(chunks: LatentChunks, queries: LatentVectors) -> Scores:
    of_chunks = by_latents(chunks.vectors, queries)
    first = np.flatnonzero(np.diff(chunks.texts, prepend=-1))

    def scores(query: int) -> NDArray[np.float32]:
        best: NDArray[np.float32] = np.maximum.reduceat(of_chunks(query), first)
        return best

    return scores


def by_words(documents: list[str], queries: list[str]) -> Scores:
    index = WordIndex(documents)
    return lambda query: index.bm25.scores(*index.query(queries[query]))


def summed(chunks: LatentChunks, n_documents: int) -> LatentVectors:
    """What `encode` gives: the sum of each document's chunks."""
    vectors = chunks.vectors
    rows = PooledRows(vectors.n_latents)
    entries = np.repeat(chunks.texts, np.diff(vectors.offsets))
    rows.add(entries, vectors.indices.astype(np.int64), vectors.values)
    return rows.vectors(
        n_tokens=np.bincount(chunks.texts, weights=vectors.n_tokens).astype(np.int64),
        n_windows=np.bincount(chunks.texts),
        truncated=np.zeros(n_documents, dtype=np.bool_),
        finite=np.ones(n_documents, dtype=np.bool_),
    )


@click.command(cls=Benchmark)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--documents", "n_documents", default=1500, show_default=True)
@click.option("--windows", default=2, show_default=True, help="Fewest windows per document.")
@click.option("--seed", default=0, show_default=True)
def main(file: Path, n_documents: int, windows: int, seed: int) -> None:
    """Print the quality of pooled, chunked and truncated documents, and of words."""
    encoder = LatentEncoder.load()
    answers = read_answers(file)
    random.Random(seed).shuffle(answers)
    chosen: list[tuple[str, str]] = []
    for question, answer in answers:
        if len(chosen) < n_documents and n_windows(encoder, answer) >= windows:
            chosen.append((question, answer))
    texts = [answer for _, answer in chosen]
    questions = sorted({question for question, _ in chosen})
    qrels: dict[str, dict[str, int]] = {question: {} for question in questions}
    for number, (question, _) in enumerate(chosen):
        qrels[question][str(number)] = 1

    chunks = encoder.encode_chunks(texts)
    queries = encoder.encode(questions, kind="query")
    pooled = summed(chunks, len(texts))
    click.echo(
        f"{len(texts):,} documents of {pooled.n_tokens.mean():,.0f} tokens, in "
        f"{len(chunks.vectors):,} chunks; {len(questions):,} questions"
    )
    systems = {
        "words": by_words(texts, questions),
        "truncate": by_latents(encoder.encode(texts, long="truncate"), queries),
        "chunks": by_best_chunk(chunks, queries),
        "pool": by_latents(pooled, queries),
    }
    for name, scores in systems.items():
        ranking: dict[str, dict[str, float]] = {}
        for number, question in enumerate(questions):
            found = scores(number)
            best = np.argsort(-found, kind="stable")[:10]
            ranking[question] = {str(i): float(found[i]) for i in best.tolist()}
        click.echo(f"{name:<9} {mean_ndcg(qrels, ranking):.4f}")


if __name__ == "__main__":
    main()
