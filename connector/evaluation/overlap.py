"""The word gap: how many of a question's words are in its relevant documents.

questions, relevant documents → words, by the engine's analyzer → shares → measures by share

Where few are, words alone cannot find the documents; such questions stand for those that are worded
otherwise than the documents are.

Whether a collection is written in the language that words are analysed in.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, islice
from math import ceil
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.index.meta import IndexMeta

# Characters analyzed in one request. Engines give at most 10,000 words
# (index.analyze.max_token_count), and a word has a character at least.
CHARACTERS = 10_000

# The table has a row for each quarter of the questions. Fixed bounds would not do for all: the
# median share is .59 for the claims of SciFact and .16 for the questions of NFCorpus.
QUARTERS = (0.25, 0.5, 0.75, 1.0)


def word_overlap(client: OpenSearch, index: str, collection: Collection) -> dict[str, float]:
    """The share of each question's words that its relevant documents have, 0 to 1.

    Words are what the index's analyzer makes of a text, stemmed and without stop words, each
    counted once. Of several relevant documents the mean is taken.

    Args:
        client: of the engine.
        index: whose words field says what a word is.
        collection: questions, judgements, documents.

    Returns:
        Query id → share, of the questions that have a relevant document in the corpus; 0 for a
        question of stop words alone.

    Raises:
        MismatchError: no such index, or not one of ours.
        EngineError: the engine cannot be asked.
    """
    found = IndexMeta.find(client, index)
    if found is None:
        raise MismatchError(f"no index {index}; evaluate the collection first")
    name, field = found[0], found[1].words_fields[0]
    asked = dict(words_of(client, name, field, collection.queries.items()))
    relevant: dict[str, list[str]] = {}
    for query, judged in collection.qrels.items():
        for document, grade in judged.items():
            if grade > 0 and document != query:
                relevant.setdefault(document, []).append(query)
    texts = ((d.id, d.text) for d in collection.documents() if d.id in relevant)
    shares: dict[str, list[float]] = {}
    for document, words in words_of(client, name, field, texts):
        for query in relevant[document]:
            share = len(asked[query] & words) / len(asked[query]) if asked[query] else 0.0
            shares.setdefault(query, []).append(share)
    return {q: sum(shares[q]) / len(shares[q]) for q in collection.queries if q in shares}


def words_of(
    client: OpenSearch, index: str, field: str, texts: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, set[str]]]:
    """The words of each text, by the analyzer of a field; ids and texts → ids and words."""
    words: dict[str, set[str]] = {}
    batch: list[tuple[str, str]] = []
    for id, text in texts:
        words[id] = set()
        for piece in pieces(text):
            if batch and sum(len(one) for _, one in batch) + len(piece) > CHARACTERS:
                analyze(client, index, field, batch, words)
                done = [other for other in words if other != id]
                yield from ((other, words.pop(other)) for other in done)
                batch = []
            batch.append((id, piece))
    analyze(client, index, field, batch, words)
    yield from words.items()


def pieces(text: str) -> Iterator[str]:
    """A text in pieces that one request takes, cut at white space where there is any."""
    while len(text) > CHARACTERS:
        cut = text.rfind(" ", 1, CHARACTERS) + 1 or CHARACTERS
        yield text[:cut]
        text = text[cut:]
    yield text


def analyze(
    client: OpenSearch,
    index: str,
    field: str,
    batch: list[tuple[str, str]],
    words: dict[str, set[str]],
) -> None:
    """Add the words of a batch of ids and texts to `words`."""
    if not batch:
        return
    with engine_errors(client):
        body = {"field": field, "text": [text for _, text in batch]}
        tokens = client.indices.analyze(index=index, body=body)["tokens"]
    # The engine counts in UTF-16 from the first text on, with a place between two texts.
    starts = [0, *accumulate(len(text.encode("utf-16-le")) // 2 + 1 for _, text in batch)]
    for token in tokens:
        words[batch[bisect_right(starts, token["start_offset"]) - 1][0]].add(token["token"])


def by_overlap(
    shares: Mapping[str, float], systems: Mapping[str, Mapping[str, Any]], measure: str
) -> list[dict[str, Any]]:
    """Means by the share of a question's words that its relevant documents have.

    Args:
        shares: of `word_overlap`.
        systems: of a report: name → an object whose `per_query` is query id → measure → value.
        measure: which of the measures.

    Returns:
        A row for each quarter of the questions, that with the fewest shared words first: `overlap`
        (the lowest and the highest share in it), `queries`, `systems` (name → mean). Questions of
        the same share are never parted, so there may be fewer rows.
    """
    return [
        {
            "overlap": bounds([shares[query] for query in band]),
            "queries": len(band),
            "systems": means(band, systems, measure),
        }
        for band in bands(shares)
    ]


def bands(shares: Mapping[str, float]) -> list[list[str]]:
    """The questions in quarters by their share, lowest first."""
    if not shares:
        return []
    ordered = sorted(shares.values())
    highest = sorted({ordered[ceil(part * len(ordered)) - 1] for part in QUARTERS})
    places = {query: bisect_left(highest, share) for query, share in shares.items()}
    return [[q for q, own in places.items() if own == place] for place in range(len(highest))]


def means(
    queries: list[str], systems: Mapping[str, Mapping[str, Any]], measure: str
) -> dict[str, float]:
    """The mean of each system over some questions; one without a value counts 0."""
    return {
        name: sum(system["per_query"].get(q, {}).get(measure, 0.0) for q in queries) / len(queries)
        for name, system in systems.items()
    }


def bounds(shares: list[float]) -> str:
    """The lowest and the highest share: .25 to .5, or one of them where they are the same."""
    return " to ".join(dict.fromkeys(short(share) for share in (min(shares), max(shares))))


def short(share: float) -> str:
    """A share as .25 or 1."""
    return f"{share:.2f}".rstrip("0").rstrip(".").removeprefix("0") or "0"


# Words that English cannot do without, and of which hardly any is a word elsewhere.
ENGLISH = frozenset({"the", "of", "and", "to", "that", "for", "with", "are", "this", "by", "from"})

# SciFact has .18 of them, LIMIT, which is lists of what people like, .05.
LEAST_SHARE = 0.02

SAMPLE_DOCUMENTS = 200


def seems_english(texts: Iterable[str]) -> bool:
    """Whether the first few hundred texts seem to be English; true where they have no words."""
    words = [word for text in islice(texts, SAMPLE_DOCUMENTS) for word in re.findall(r"\w+", text)]
    return not words or sum(word.lower() in ENGLISH for word in words) / len(words) >= LEAST_SHARE
