"""Expansions: the terms that are taken over, how much they weigh, and the token of them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.feedback.expansion import (
    AMOUNT,
    FEEDBACK_TERMS,
    FULL_WORDS,
    Document,
    Expansion,
)
from latent_ingest.connector.querying.feedback.first_hits import (
    MOST_CHARACTERS,
    counts_in,
    documents_of,
    first_hits_request,
)
from latent_ingest.connector.querying.term_weights import WeightedTerm

IDF = np.array([0, 1, 2, 3, 4], dtype=np.float32)


def test_the_heaviest_terms_by_root_of_count_and_idf() -> None:
    documents = [Document("a", {1: 4, 2: 1, 0: 9, 77: 1}), Document("b", {2: 9, 3: 1})]
    found = Expansion.of(documents, IDF, by_rank=False)
    # (2 * 1) / 2, (1 * 2 + 3 * 2) / 2, (1 * 3) / 2
    assert found.shares == pytest.approx({"f2": 4 / 6.5, "f3": 1.5 / 6.5, "f1": 1 / 6.5}, abs=1e-6)
    assert list(found.shares) == ["f2", "f3", "f1"]
    assert found.sources == {"f2": ("a", "b"), "f3": ("b",), "f1": ("a",)}
    assert found.documents == ("a", "b")
    first = Expansion.of(documents, IDF)
    assert first.shares["f1"] > found.shares["f1"]  # a is the first
    assert list(Expansion.of(documents, IDF, by_rank=False, most=1).shares) == ["f2"]
    without = Expansion.of(documents[:1], IDF, against=[Document("c", {1: 100})])
    assert list(without.shares) == ["f2"]
    assert Expansion.of([], IDF).shares == {}


@pytest.mark.parametrize(
    ("text", "part"), [("one two", 1.0), ("w " * FULL_WORDS, 1.0), ("w " * 2 * FULL_WORDS, 0.25)]
)
def test_terms_are_added_in_proportion_to_the_question(text: str, part: float) -> None:
    own = [WeightedTerm("f3", 2.0, 3.0), WeightedTerm("f1", 1.0, 1.0)]
    expansion = Expansion({"f1": 0.5, "f4": 0.3, "f2": 0.1, "f0": 0.05, "f99": 0.05})
    added = {item.term: item for item in expansion.added_to(own, text, IDF, 10)}
    amount = AMOUNT * 3.0 * part
    # The question has f1 and f3 itself; f0 is in no document, and f99 is none of the model's.
    assert added["f1"] == own[1]
    assert added["f3"] == own[0]
    assert added["f4"] == WeightedTerm("f4", pytest.approx(0.75 * amount), 4.0)
    assert added["f2"] == WeightedTerm("f2", pytest.approx(0.25 * amount), 2.0)
    assert added.keys() == {"f1", "f2", "f3", "f4"}
    order = [item.weight * item.idf for item in added.values()]
    assert order == sorted(order, reverse=True)
    assert expansion.added_to([], text, IDF, 10) == []
    assert Expansion().added_to(own, text, IDF, 10) == own
    assert Expansion({"f1": 1.0}).added_to(own, text, IDF, 10) == own
    only = {item.term: item.weight for item in expansion.added_to(own, text, IDF, 1)}
    assert only["f4"] == pytest.approx(0.75 * AMOUNT * 2.0 * part)


def test_new_terms_are_of_the_heaviest_alone() -> None:
    idf = np.ones(100, dtype=np.float32)
    documents = [Document("a", {n: 10 + n for n in range(1, 100)})]
    expansion = Expansion.of(documents, idf)
    heaviest = [f"f{n}" for n in range(99, 99 - FEEDBACK_TERMS, -1)]
    assert list(expansion.shares) == heaviest
    own = [WeightedTerm("f99", 1.0, 1.0), WeightedTerm("f97", 1.0, 1.0)]
    added = [item.term for item in expansion.added_to(own, "one", idf, 10)]
    assert added == ["f99", "f97", "f98", *heaviest[3:]]


def test_a_token_carries_the_expansion() -> None:
    random = np.random.default_rng(0)
    idf = np.full(32_000, 3.0, dtype=np.float32)
    documents = [
        Document(f"ä/{n}", dict.fromkeys(random.integers(0, 32_000, 500).tolist(), n + 1))
        for n in range(3)
    ]
    expansion = Expansion.of(documents, idf, fingerprint="abc", notes=["a note"])
    assert len(expansion.shares) == FEEDBACK_TERMS
    token = expansion.token
    assert token.isascii()
    assert token.replace("-", "").replace("_", "").isalnum()
    assert len(token) < 1000
    read = Expansion.read(token)
    assert (read.shares, read.sources) == (expansion.shares, expansion.sources)
    assert (read.documents, read.fingerprint) == (expansion.documents, "abc")
    assert read.token == token
    assert Expansion.read(Expansion().token) == Expansion()


def packed(content: Any) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode())).decode()


GOOD = {"v": 1, "model": "m", "from": ["a"], "terms": [["f1", 0.5, [0]]]}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "?",
        "ä",
        "AAAA",
        packed([]),
        packed("text"),
        packed({}),
        packed({**GOOD, "v": 2}),
        packed({**GOOD, "terms": [["g1", 0.5, [0]]]}),
        packed({**GOOD, "terms": [["f1", 0.5, [9]]]}),
        packed({**GOOD, "terms": [["f1", 50, [0]]]}),
        packed({**GOOD, "terms": [["f1", float("nan"), [0]]]}),
        packed({**GOOD, "terms": [1]}),
        packed({**GOOD, "terms": None}),
        base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode(),
        base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode(),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert Expansion.read(packed(GOOD)).shares == {"f1": 0.5}
    with pytest.raises(InputError, match="not a token"):
        Expansion.read(token)


def test_the_request_for_the_first_hits_asks_for_their_terms_alone() -> None:
    body = {
        "query": {"match_all": {}},
        "post_filter": {"term": {"a": 1}},
        "collapse": {"field": "a", "inner_hits": {"name": "all"}},
        "aggs": {"a": {"max": {"field": "a"}}},
        "from": 20,
        "size": 10,
        "highlight": {},
        "explain": True,
        "_source": ["title"],
        "min_score": 1,
    }
    assert first_hits_request(body, "latent") == {
        "query": {"match_all": {}},
        "post_filter": {"term": {"a": 1}},
        "collapse": {"field": "a"},
        "min_score": 1,
        "size": 3,
        "track_total_hits": False,
        "_source": ["latent"],
    }
    assert "from" in body


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ({"latent": "f1 f1 f2"}, {1: 2, 2: 1}),
        ({"latent": "f1|2 f2|1"}, {1: 2, 2: 1}),
        ({"latent": ["f1", "f1 f2"]}, {1: 2, 2: 1}),
        ({"latent": "words of someone else"}, {}),
        ({"latent": "f1|x"}, {}),
        ({"latent": "f1 f99999999999999999999"}, {}),
        ({"latent": f"f{'1' * 5000}"}, {}),
        ({"latent": "f01 f1 f1|3 f0"}, {1: 5, 0: 1}),
        ({"latent": None}, {}),
        ({"latent": {"a": 1}}, {}),
        ({}, {}),
        (None, {}),
    ],
)
def test_the_terms_of_a_hit(source: Any, counts: dict[int, int]) -> None:
    assert counts_in({"_source": source}, "latent") == counts


def test_a_hit_is_read_up_to_a_limit() -> None:
    text = "f12345 " * (MOST_CHARACTERS // 5)
    counts = counts_in({"_source": {"latent": text}}, "latent")
    assert counts == {12345: MOST_CHARACTERS // 7}


def test_hits_that_cannot_be_used_are_named() -> None:
    hits = [
        {"_id": "a", "_index": "one", "_source": {"latent": "f1"}},
        {"_id": "b", "_index": "one", "_source": {}},
        {"_id": "c", "_index": "two", "_source": {"latent": "f1"}},
    ]
    documents, notes = documents_of(hits, "latent", ["one"])
    assert documents == [Document("a", {1: 1})]
    assert notes == [
        "not of b, without latent terms that can be read",
        "not of c, in an index that may be of another model",
    ]
    assert len(documents_of(hits, "latent", ())[0]) == 2
    assert documents_of([], "latent", ()) == ([], ["none, since there are no hits"])
