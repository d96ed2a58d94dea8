"""Known items: questions made of documents' titles or sentences, each relevant to its document.

Words find a text too easily by its own words, so the rarest third of the words is left out of each
question. Known items remain a substitute for judgements: they share the author's words, unlike the
questions of users.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from latent_ingest.connector.collections.collection import (
    Collection,
    first_existing,
    read_documents,
)
from latent_ingest.connector.document import Document
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.tuning.splits import FEWEST_QUERIES, Split, halved

# Documents drawn unless the number of queries is limited.
QUERIES = 200

# Number of words of a title or sentence that may become a question.
FEWEST_WORDS, MOST_WORDS = 6, 40

# Share of a question's words that is left out.
LEFT_OUT = 1 / 3

WORD = re.compile(r"\w+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def split_of_known_items(path: Path, limit: int | None, seed: int) -> Split:
    """Return the split of a collection of known items, with at most `limit` that choose."""
    judged = known_items(path, 2 * (limit or QUERIES), seed)
    return replace(halved(judged, limit, seed, "known items"), known_items=True)


def known_items(path: Path, n_questions: int, seed: int) -> Collection:
    """Make a collection of at most `n_questions` known items, each of another document.

    `path` is a file of documents in any format, or a folder that holds corpus.jsonl.

    Raises:
        InputError: there is no corpus, a line is malformed, or too few documents have a title or
            sentence of six words.
    """
    corpus = path if path.is_file() else first_existing(path, "corpus.jsonl", "corpus.jsonl.gz")
    generator = random.Random(seed)
    sample: list[tuple[str, str]] = []
    frequency: Counter[str] = Counter()
    seen = 0
    for document in read_documents(corpus):
        frequency.update(set(words_of(document.text)))
        if not (text := title_or_sentence(document, generator)):
            continue
        seen += 1
        # Reservoir sampling: each document is equally likely.
        place = len(sample) if len(sample) < n_questions else generator.randrange(seen)
        sample[place : place + 1] = [(document.id, text)] if place < n_questions else []
    if seen < FEWEST_QUERIES:
        raise InputError(
            f"{corpus}: {seen} documents have a title or a sentence of {FEWEST_WORDS} words; "
            f"--from-titles needs {FEWEST_QUERIES}"
        )
    queries = {f"item-{id_}": without_rare(text, frequency) for id_, text in sample}
    qrels = {f"item-{id_}": {id_: 1} for id_, _ in sample}
    name = path.resolve().name.partition(".")[0]
    return Collection(name, corpus, queries, qrels)


def title_or_sentence(document: Document, generator: random.Random) -> str | None:
    """Return a document's title if it is long enough, else a random sentence that is, or None."""
    title = document.fields.get("title")
    if isinstance(title, str) and fits(title):
        return title
    sentences = [text for text in SENTENCE_END.split(document.text) if fits(text)]
    return generator.choice(sentences) if sentences else None


def fits(text: str) -> bool:
    return FEWEST_WORDS <= len(words_of(text)) <= MOST_WORDS


def without_rare(text: str, frequency: Counter[str]) -> str:
    """Return the words of a text, in their order, without the rarest third."""
    words = words_of(text)
    order = sorted(range(len(words)), key=lambda place: frequency[words[place]])
    left_out = set(order[: int(len(words) * LEFT_OUT)])
    return " ".join(word for place, word in enumerate(words) if place not in left_out)


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())
