"""Word overlap: how many of a question's words its relevant documents have.

questions, relevant documents → words, by the engine's analyzer → shares → measures by share

Words alone cannot find a document that shares few words with its question. Such questions show how
a system does when users and documents use different words.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil
from typing import Any

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta

# Characters analyzed per request. Engines return at most 10,000 words
# (index.analyze.max_token_count), and a word has at least one character.
CHARACTERS = 10_000

# Concurrent requests: there is one per text.
CONCURRENCY = 8

# The table has one row per quarter of the questions. Fixed bounds would not suit all collections:
# the median share is .59 for the claims of SciFact and .16 for the questions of NFCorpus.
QUARTERS = (0.25, 0.5, 0.75, 1.0)


def word_overlap(index: Index, collection: Collection) -> dict[str, float]:
    """Compute the share of each question's words that its relevant documents have, 0 to 1.

    A text's words are those of the index's analyzer: stemmed, without stop words, each counted
    once. The shares of several relevant documents are averaged.

    Args:
        index: index whose words field defines the analyzer.
        collection: questions, judgements and corpus.

    Returns:
        Query id → share, of the questions that have a relevant document in the corpus; 0 for a
        question of stop words only.

    Raises:
        MismatchError: the index does not exist, or has no latent terms.
        EngineError: the engine cannot be asked.
    """
    meta = IndexMeta.read(index.client, index.name)
    if meta is None:
        raise MismatchError(f"no index {index.name}; evaluate the collection first")
    field = meta.words_fields[0]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        analyze = partial(words_of, index, field)
        relevant_texts, questions = collection.contents.relevant, collection.queries
        words = dict(zip(relevant_texts, pool.map(analyze, relevant_texts.values()), strict=True))
        asked_words = dict(zip(questions, pool.map(analyze, questions.values()), strict=True))
    shares = {}
    for query, asked in asked_words.items():
        relevant = [
            words[document]
            for document, grade in collection.qrels[query].items()
            if grade > 0 and document != query and document in words
        ]
        if relevant:
            shared = sum(len(asked & own) for own in relevant)
            shares[query] = shared / (len(asked) * len(relevant)) if asked else 0.0
    return shares


def words_of(index: Index, field: str, text: str) -> set[str]:
    """Return the words of a text, by a field's analyzer."""
    words: set[str] = set()
    for piece in pieces(text):
        with engine_errors(index.client):
            body = {"field": field, "text": piece}
            tokens = index.client.indices.analyze(index=index.name, body=body)["tokens"]
        words.update(token["token"] for token in tokens)
    return words


def pieces(text: str) -> Iterator[str]:
    """Split a text into pieces that fit into one request, at spaces if possible."""
    while len(text) > CHARACTERS:
        end = text.rfind(" ", 1, CHARACTERS) + 1 or CHARACTERS
        yield text[:end]
        text = text[end:]
    yield text


def by_overlap(
    shares: Mapping[str, float], systems: Mapping[str, Mapping[str, Any]], measure: str
) -> list[dict[str, Any]]:
    """Average a measure by the share of a question's words that its relevant documents have.

    Args:
        shares: result of `word_overlap`.
        systems: `systems` of a report: name → an object whose `per_query` is query id → measure →
            value.
        measure: name of the measure.

    Returns:
        One row per quarter of the questions, lowest shares first: `overlap` (lowest and highest
        share of the quarter), `queries` (their number), `systems` (name → mean). Questions with
        equal shares are never separated, so there may be fewer rows.
    """
    rows = []
    for band in bands(shares):
        own = [shares[query] for query in band]
        rows.append(
            {
                # ".25 to .5", or one number if both are equal.
                "overlap": " to ".join(dict.fromkeys([short(min(own)), short(max(own))])),
                "queries": len(band),
                "systems": means(band, systems, measure),
            }
        )
    return rows


def bands(shares: Mapping[str, float]) -> list[list[str]]:
    """Group the questions into quarters by share, lowest first."""
    if not shares:
        return []
    ordered = sorted(shares.values())
    highest = sorted({ordered[ceil(part * len(ordered)) - 1] for part in QUARTERS})
    places = {query: bisect_left(highest, share) for query, share in shares.items()}
    return [[q for q, own in places.items() if own == place] for place in range(len(highest))]


def means(
    queries: list[str], systems: Mapping[str, Mapping[str, Any]], measure: str
) -> dict[str, float]:
    """Average a measure over some questions, per system; a question without a value counts 0."""
    return {
        name: sum(system["per_query"].get(q, {}).get(measure, 0.0) for q in queries) / len(queries)
        for name, system in systems.items()
    }


def short(share: float) -> str:
    """Write a share as .25 or 1."""
    return f"{share:.2f}".rstrip("0").rstrip(".").removeprefix("0") or "0"
