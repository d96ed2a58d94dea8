"""Word overlap, counted by the engine's analyzer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.collections.limit import (
    FIRST_NAMES,
    KINDS,
    SURNAME_BEGINNINGS,
    SURNAME_ENDINGS,
    THINGS,
)
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.evaluation import overlap
from latent_ingest.connector.evaluation.overlap import bands, by_overlap, pieces, word_overlap
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index

# The third of a query is the share of its words, stemmed and stopped.
DOCUMENTS = {
    "d1": ("Dogs", f"{'🙂' * 20} In the park the dog was running."),
    "d2": ("", "It sleeps on a sofa 🙂."),
    "d3": ("Cats", "They sleep."),
    "d4": ("", "Nothing."),
}
QUERIES = {
    "q1": ("are the dogs running?", {"d1": 1}, 1.0),
    "q2": ("a hound that naps on the sofas", {"d2": 2, "d4": 0}, 1 / 3),
    "q3": ("sleeping dog", {"d1": 1, "d2": 1, "d3": 1}, 0.5),
    "q4": ("feline", {"d3": 1}, 0.0),
    "q5": ("is it in the", {"d4": 1}, 0.0),
    "q6": ("cat cat cat runs", {"d3": 1}, 0.5),
}


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    rows = [{"_id": id, "title": t, "text": x} for id, (t, x) in DOCUMENTS.items()]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = {query: text for query, (text, _, _) in QUERIES.items()}
    qrels = {query: judged for query, (_, judged, _) in QUERIES.items()}
    queries["q7"], qrels["q7"] = "nobody", {"d4": 0}
    queries["d4"], qrels["d4"] = "nothing", {"d4": 1}
    return Collection("tiny", corpus, queries, qrels)


@pytest.fixture
def empty_index(client: OpenSearch, index: str, encoder: LatentEncoder) -> str:
    """An empty index, of which only the analyzer is used."""
    open_index(client, index, encoder, {})
    return index


def test_shares_are_of_words_as_the_engine_has_them(
    client: OpenSearch, empty_index: str, collection: Collection
) -> None:
    shares = word_overlap(Index(client, empty_index), collection)
    # q7 has no relevant document; d4 none but itself.
    assert shares == pytest.approx({query: share for query, (_, _, share) in QUERIES.items()})


def test_batches_and_pieces_change_nothing(
    client: OpenSearch,
    empty_index: str,
    collection: Collection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = word_overlap(Index(client, empty_index), collection)
    monkeypatch.setattr(overlap, "CHARACTERS", 12)
    assert word_overlap(Index(client, empty_index), collection) == whole


def test_a_long_document_is_split_at_spaces(
    client: OpenSearch, empty_index: str, tmp_path: Path
) -> None:
    """It has more words than the engine returns at once, and the last one counts too."""
    text = "aa " * 12_000 + "b" * 11_000 + " zebra"
    assert "".join(pieces(text)) == text
    assert max(map(len, pieces(text))) <= overlap.CHARACTERS
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"_id": "d", "text": text}))
    long = Collection("long", corpus, {"q": "zebras and lions"}, {"q": {"d": 1}})
    assert word_overlap(Index(client, empty_index), long) == {"q": 0.5}


def test_an_error_names_a_missing_index(client: OpenSearch, collection: Collection) -> None:
    with pytest.raises(MismatchError, match=r"no index nowhere"):
        word_overlap(Index(client, "nowhere"), collection)


def test_means_by_share() -> None:
    shares = {"a": 0.0, "b": 0.25, "c": 0.3, "d": 1.0, "e": 0.9, "f": 0.75, "g": 0.5, "h": 0.8}
    values = {"a": 0.5, "b": 0.25, "c": 1.0, "d": 0.0, "e": 0.5, "f": 0.125, "g": 0.75}
    systems = {"words": {"per_query": {q: {"nDCG@10": v} for q, v in values.items()}}}
    assert by_overlap(shares, systems, "nDCG@10") == [
        {"overlap": "0 to .25", "queries": 2, "systems": {"words": 0.375}},
        {"overlap": ".3 to .5", "queries": 2, "systems": {"words": 0.875}},
        {"overlap": ".75 to .8", "queries": 2, "systems": {"words": 0.0625}},  # h has no hits
        {"overlap": ".9 to 1", "queries": 2, "systems": {"words": 0.25}},
    ]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([], []),
        ([0.6], [[0]]),
        ([0.5, 0.5, 0.5, 0.5, 0.5], [[0, 1, 2, 3, 4]]),
        ([0.0, 0.0, 0.0, 0.9, 1.0], [[0, 1, 2], [3], [4]]),
        ([0.4, 0.3, 0.2, 0.1], [[3], [2], [1], [0]]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [[0, 1], [2], [3], [4]]),
    ],
)
def test_quarters_part_no_equal_shares(shares: list[float], expected: list[list[int]]) -> None:
    found = bands({str(number): share for number, share in enumerate(shares)})
    assert found == [[str(number) for number in band] for band in expected]


def test_words_of_generated_collections_have_different_stems(client: OpenSearch) -> None:
    """No thing has the stem of another thing or of a name, so one word finds its two documents."""
    surnames = [start + end for start in SURNAME_BEGINNINGS for end in SURNAME_ENDINGS]
    words = [*THINGS, *KINDS, *FIRST_NAMES, *surnames, "likes"]
    stems: list[str] = []
    for start in range(0, len(words), 1000):
        text = " ".join(words[start : start + 1000])
        answer = client.indices.analyze(body={"analyzer": "english", "text": text})
        stems += [token["token"] for token in answer["tokens"]]
    assert len(stems) == len(words)
    assert len(set(stems[: len(THINGS)])) == len(THINGS)
    assert set(stems[: len(THINGS)]).isdisjoint(stems[len(THINGS) :])
