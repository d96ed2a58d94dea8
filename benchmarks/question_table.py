"""Compare questions by tables of words with those of the model, by BM25 in memory.

    python benchmarks/question_table.py scifact/ --split train --encoded scifact-encoded/

The table of the index has the words that `latent-ingest` chooses for these documents. The others
have all words of the questions, so that they differ by their form alone. Documents are encoded
once, into the folder of --encoded, as in benchmarks/scale.py.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

import click
import numpy as np
from cached_encodings import encoded
from command import Benchmark
from numpy.typing import NDArray

from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.probe import WordIndex
from latent_ingest.connector.evaluation.rankings import DEPTH, without_itself
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS
from latent_ingest.connector.questions.building import LATENTS, encode_words
from latent_ingest.connector.questions.index_table import choose_words
from latent_ingest.connector.questions.question_table import STOP_WORDS, Entries, QuestionTable
from latent_ingest.connector.questions.word_counts import WordCounts
from latent_ingest.connector.questions.words import entry_for, words_of

Encode = Callable[[str], tuple[NDArray[np.int32], NDArray[np.float32]]]


def without_stop_words(entries: Entries) -> Entries:
    """Return the entries of the words that are no stop words."""
    return {word: entry for word, entry in entries.items() if word not in STOP_WORDS}


def summed_roots(entries: Entries) -> Encode:
    """Return the encoding by words with the roots of their activations, not in whole numbers."""

    def encode(text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        parts = [entries[word] for word in words_of(text) if word in entries]
        if not parts:
            return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
        latents, places = np.unique(
            np.concatenate([part[0] for part in parts]), return_inverse=True
        )
        roots = np.sqrt(np.concatenate([part[1] for part in parts]))
        return latents, np.bincount(places, roots).astype(np.float32)

    return encode


def heaviest(entries: Entries, most: int) -> Entries:
    """Return the entries with fewer latents."""
    kept = {
        word: np.argsort(-values, kind="stable")[:most] for word, (_, values) in entries.items()
    }
    return {word: (entries[word][0][some], entries[word][1][some]) for word, some in kept.items()}


def only(words: Container[str], encode: Encode) -> Encode:
    """Return the encoding of a question's words that are among some."""
    return lambda text: encode(" ".join(word for word in words_of(text) if word in words))


def added(words: Container[str], encode: Encode, other: Encode) -> Encode:
    """Return the encoding by one table, and by another where the first one lacks a word."""

    def both(text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        rest = " ".join(word for word in words_of(text) if entry_for(word, words) is None)
        parts = zip(encode(text), other(rest), strict=True)
        every, weights = (np.concatenate(some) for some in parts)
        latents, places = np.unique(every, return_inverse=True)
        return latents, np.bincount(places, weights).astype(np.float32)

    return both


def frequent(counts: WordCounts) -> WordCounts:
    """Return the counts of words that are in two documents or more."""
    kept = WordCounts()
    for word, count in counts.frequent(2).items():
        kept.add([word] * count)
    return kept


@click.command(cls=Benchmark)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--split", default="test")
@click.option("--encoded", "cache", required=True, type=click.Path(path_type=Path))
@click.option("--latents", multiple=True, type=int, default=[2, 4, 8, 12, 16, 32])
def main(folder: Path, split: str, cache: Path, latents: tuple[int, ...]) -> None:
    """Print nDCG@10 and the number of terms for the judged collection in FOLDER."""
    judged = Collection.load(folder, split)
    documents = [(document.id, document.text) for document in judged.documents()]
    rows = encoded(cache, documents)
    encoder, general = LatentEncoder.shared(), QuestionTable.load()
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
        figures = f"{ndcg(latent):.3f} | {ndcg(hybrid):.3f} | {n_terms / len(judged.queries):.0f}"
        click.echo(f"| {name} | {figures} |")

    def table(entries: Entries, most: int = LATENTS) -> Encode:
        made = QuestionTable.of("", encoder.fingerprint, entries, encoder.idf(), most)
        return made.encode

    counts = WordCounts()
    for _, text in documents:
        counts.add_document(text)
    tables = {
        "the index's table": choose_words(counts, general),
        "the same, words in two documents or more": choose_words(frequent(counts), general),
        "the same, 30,000 words": choose_words(counts, general, 30_000),
        "the same, 60,000 words": choose_words(counts, general, 60_000),
        "the same, 100,000 words": choose_words(counts, general, 100_000),
    }
    own, others = set(tables["the index's table"].words), set(general.words)
    asked = sorted({word for text in judged.queries.values() for word in words_of(text)})
    stems = {entry_for(word, set(chosen.words)) for chosen in tables.values() for word in asked}
    whole = {word for word in asked if entry_for(word, others) is not None}
    alone = encode_words(encoder, asked, contexts=())
    every = without_stop_words(encode_words(encoder, sorted({*asked, *stems} - {None})))
    click.echo(
        f"{folder.name} {split}: {len(judged.queries)} questions, words {ndcg(by_words):.3f}\n"
        f"of {len(asked)} words of the questions, the model's table lacks "
        f"{len(set(asked) - others - STOP_WORDS)}, the index's "
        f"{len(set(asked) - own - STOP_WORDS)}, of which "
        f"{sum(entry_for(word, own) is not None for word in set(asked) - own - STOP_WORDS)} begin "
        f"with one that it has\n\n"
        f"| question made from | latent | hybrid | terms |\n|---|---|---|---|"
    )
    queries = QueryEncoder(encoder)
    show("the model", lambda text: queries.encode([text])[0])
    show("the model's table", general.encode)
    for name, chosen in tables.items():
        kept = every.keys() & set(chosen.words)
        encode = table({word: every[word] for word in sorted(kept)})
        show(name, encode)
        if own == set(chosen.words):
            show("the same, no word for longer ones", only(own, encode))
            rest = only(whole, general.encode)
            show("the same, the model's table for the rest", added(own, encode, rest))
            show("the same, and pieces of words", added(own, encode, general.encode))
    show("all words", table(every))
    for most in latents:
        show(f"all words, {most} latents a word", table(every, most))
    show("all words alone", table(without_stop_words(alone)))
    show("all words alone, and stop words", table(alone))
    show("the same, roots not rounded", summed_roots(heaviest(alone, LATENTS)))


if __name__ == "__main__":
    main()
