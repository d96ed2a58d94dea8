"""Counts of words in bounded memory."""

from __future__ import annotations

from latent_ingest.connector.questions.word_counts import LONGEST_WORD, WordCounts


def test_a_document_counts_a_word_once() -> None:
    counts = WordCounts()
    counts.add_document("Bone loss, bone BONE")
    counts.add_document("bone mass")
    assert counts.frequent() == {"bone": 2, "loss": 1, "mass": 1}
    assert list(counts.frequent(2)) == ["bone"]
    counts.add(["mass", "mass", "x" * (LONGEST_WORD + 1)])
    assert counts.frequent(2) == {"mass": 3, "bone": 2}, "most frequent first"


def test_frequent_words_are_kept_while_rare_ones_are_forgotten() -> None:
    counts = WordCounts(most=100)
    sizes = []
    for number in range(5000):
        counts.add_document(f"often rare{number} {'sometimes' if number % 10 == 0 else ''}")
        sizes.append(len(counts.frequent()))
    assert max(sizes) <= 100
    assert sizes.count(50) < 500, "half of them at once, not one after the other"
    assert list(counts.frequent().items())[:2] == [("often", 5000), ("sometimes", 500)]


def test_words_that_are_all_frequent_are_still_bounded() -> None:
    counts = WordCounts(most=100)
    for number in range(200):
        counts.add([f"word{number}"] * (number + 10))
    assert len(counts.frequent()) <= 100
    assert next(iter(counts.frequent())) == "word199"
