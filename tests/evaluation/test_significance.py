"""The randomisation test and Holm's correction against values worked out by hand."""

from __future__ import annotations

import itertools

import pytest

from latent_ingest.connector.evaluation.measures import compare, holm, randomisation_p


@pytest.mark.parametrize(
    "differences",
    [
        [1.0, 1.0, 1.0],
        [1.0, 2.0, -1.0],
        [0.5, 0.25, 0.0, -0.125],
        [0.3, -0.3],
        [0.1] * 7,
        [0.0, 0.4],
    ],
)
def test_p_is_the_share_of_sign_changes_with_as_large_a_sum(differences: list[float]) -> None:
    observed = abs(sum(differences))
    changes = list(itertools.product([1, -1], repeat=len(differences)))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in changes]
    expected = sum(value >= observed - 1e-12 for value in sums) / len(sums)
    assert randomisation_p(differences) == pytest.approx(expected)


def test_p_of_many_queries_is_the_same_each_time_and_near_the_truth() -> None:
    """Twenty alike: of 2^20 sign changes, those with 15 or more of one sign are 43,400."""
    differences = [1.0] * 15 + [-1.0] * 5
    p = randomisation_p(differences)
    assert p == randomisation_p(differences)
    assert p == pytest.approx(43_400 / 2**20, abs=0.006)
    assert randomisation_p([0.0, 0.0]) == 1.0


def test_holm_corrects_from_the_smallest_on() -> None:
    """.005 x 4, .01 x 3, .03 x 2, and .04 x 1, which is not to fall below the one before."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_a_comparison_counts_names_and_corrects() -> None:
    texts = {f"q{n}": f"question {n}" for n in range(12)}
    words = dict.fromkeys(texts, 0.5)
    better = {query: 0.5 + n / 100 for n, query in enumerate(texts)}
    mixed = {query: 0.4 if n < 3 else 0.5 for n, query in enumerate(texts)}
    found = compare({"words": words, "better": better, "mixed": mixed}, "words", "P@1", texts)
    first, second = found
    assert (first.system, first.against, first.measure) == ("better", "words", "P@1")
    assert (first.won, first.lost, first.tied) == (11, 0, 1)
    assert first.difference == pytest.approx(sum(range(12)) / 1200)
    assert [row["query"] for row in first.gained] == [f"q{n}" for n in range(11, 1, -1)]
    assert first.gained[0] == {
        "query": "q11", "text": "question 11", "difference": pytest.approx(0.11),
    }  # fmt: skip
    assert first.lost_most == []
    assert (second.won, second.lost, second.tied) == (0, 3, 9)
    assert second.p == pytest.approx(0.25)
    assert first.p == pytest.approx(2 / 2**11)
    assert first.p_holm == pytest.approx(2 * first.p)
    assert second.p_holm == pytest.approx(0.25)
