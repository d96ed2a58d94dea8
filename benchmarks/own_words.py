"""The words of an index's question table: how many words of questions they are, and what they cost.

    python benchmarks/own_words.py scifact/:train nfcorpus/:dev

For each collection: the share of the words of its judged questions, without stop words, that are in
the first words of the model's table, in the whole of it, and in a table of the documents' own
words. Then the time of counting the words of its documents as a ratio to that of encoding them, and
the words that the model encodes in a second.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container
from itertools import islice

import click
from command import Benchmark, load_judged

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.questions.building import build_table
from latent_ingest.connector.questions.index_table import choose_words, plain
from latent_ingest.connector.questions.question_table import STOP_WORDS, QuestionTable
from latent_ingest.connector.questions.stored_table import INDEX_WORDS
from latent_ingest.connector.questions.word_counts import WordCounts
from latent_ingest.connector.questions.words import words_of

# Documents and words that are encoded to measure the time.
DOCUMENTS = 256
WORDS = 1024


@click.command(cls=Benchmark)
@click.argument("collections", nargs=-1, required=True)
@click.option("--question-words", default=INDEX_WORDS, show_default=True)
def main(collections: tuple[str, ...], question_words: int) -> None:
    """Print the shares and times of each collection, given as FOLDER:SPLIT."""
    encoder, general = LatentEncoder.load(), QuestionTable.load()
    for given in collections:
        measure(load_judged(given), encoder, general, question_words)


def measure(
    collection: Collection, encoder: LatentEncoder, general: QuestionTable, most: int
) -> None:
    """Print the figures of one collection."""
    texts = [document.text for document in collection.documents()]
    counts = WordCounts()
    started = time.process_time()
    for text in texts:
        counts.add_document(text)
    counting = (time.process_time() - started) / len(texts)
    chosen = choose_words(counts, general, most)
    asked = Counter(
        word
        for query in collection.queries.values()
        for word in set(words_of(query))
        if word not in STOP_WORDS
    )

    def share(words: Container[str]) -> float:
        return sum(n for word, n in asked.items() if word in words) / asked.total()

    known = [plain(word) for word in general.words]
    print(
        f"{collection.name}: {share(set(known[:most])):.3f} of the words of questions are in the "
        f"first {most:,} of the model's table, {share(set(known)):.3f} in its {len(known):,}, "
        f"{share(set(chosen.words)):.3f} in the table of the documents' words ({chosen.own:,} of "
        f"these, {len(chosen.lacking):,} to encode)"
    )
    started = time.process_time()
    encoder.encode(texts[:: len(texts) // DOCUMENTS][:DOCUMENTS])
    encoding = (time.process_time() - started) / DOCUMENTS
    some = list(islice(chosen.lacking, WORDS))
    started = time.process_time()
    build_table(encoder, some)
    words = len(some) / (time.process_time() - started)
    print(f"counting takes {counting / encoding:.4f} of encoding; {words:,.0f} words a second")


if __name__ == "__main__":
    main()
