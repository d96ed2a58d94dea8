"""Values chosen on a grid and finer, by the queries that may choose alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.evaluation.significance import randomisation_p
from latent_ingest.connector.tuning.choosing import choose
from latent_ingest.connector.tuning.knobs import Knob, Settings
from latent_ingest.connector.tuning.splits import folds, halved
from latent_ingest.connector.tuning.trials import Trial

BOOST = Knob("latent_boost", (0.05, 0.1, 0.2, 0.4), 2)
TERMS = Knob("max_query_terms", (32, 64, 128, 256, 512), 1, whole=True, saves=True)


def answer(settings: Settings, _form: str) -> Trial:
    """Of "d" queries a boost of .26 is best, of "t" queries .05; 100 terms are enough."""
    enough = min(settings.max_query_terms, 100) / 1000
    own = 0.5 - abs(settings.latent_boost - 0.26) + enough
    other = 0.5 - abs(settings.latent_boost - 0.05) + enough
    return Trial({"d1": own, "d2": own + 0.1, "t1": other, "t2": other}, 1.0, 2.0)


def test_the_best_is_found_between_the_values_of_the_grid() -> None:
    settings, (curve,) = choose(answer, Settings(2.0, 0.7), [BOOST], ["d1", "d2"], "hybrid")
    assert settings == replace(Settings(2.0, 0.7), latent_boost=curve.chosen)
    tried = [point.value for point in curve.points]
    assert len(tried) > len(BOOST.grid) + 2
    assert abs(curve.best - 0.26) == min(abs(value - 0.26) for value in tried) < 0.03
    assert curve.default == 0.15
    assert curve.gain == pytest.approx(0.11 - abs(curve.best - 0.26))
    assert curve.outside_noise
    assert curve.chosen == curve.best


def test_what_is_better_by_chance_is_not_taken() -> None:
    def noisy(settings: Settings, _form: str) -> Trial:
        """A boost of .2 gains on half of the queries and loses nearly as much on the others."""
        signs = {f"q{n}": 1 if n % 2 else -0.9 for n in range(20)}
        away = settings.latent_boost != 0.15
        return Trial({q: 0.5 + 0.1 * sign * away for q, sign in signs.items()}, 1.0, 2.0)

    queries = [f"q{n}" for n in range(20)]
    settings, (curve,) = choose(noisy, Settings(2.0, 0.7), [BOOST], queries, "hybrid")
    assert curve.gain > 0
    assert not curve.outside_noise
    assert settings.latent_boost == curve.chosen == 0.15 != curve.best


def test_the_queries_that_may_choose_alone_choose() -> None:
    assert choose(answer, Settings(2.0, 0.7), [BOOST], ["t1"], "hybrid")[0].latent_boost == 0.05


def test_a_knob_that_saves_time_is_as_small_as_quality_allows() -> None:
    settings, _ = choose(answer, Settings(2.0, 0.7), [TERMS], ["d1"], "hybrid")
    assert settings.max_query_terms == 128


def collection(n: int) -> Collection:
    from pathlib import Path

    names = [f"q{number}" for number in range(n)]
    return Collection("c", Path(), dict.fromkeys(names, "text"), {q: {"d": 1} for q in names})


def test_halves_share_no_query_and_few_are_cross_validated() -> None:
    split = halved(collection(120), None, 0, "here")
    assert split.held_out is not None
    halves = split.development.queries.keys(), split.held_out.queries.keys()
    assert [len(half) for half in halves] == [60, 60]
    assert not halves[0] & halves[1]
    few = halved(collection(23), None, 0, "here")
    assert few.held_out is None
    parts = folds(few.development.queries, 0)
    assert sorted(len(part) for part in parts) == [4, 4, 5, 5, 5]
    assert sorted(q for part in parts for q in part) == sorted(few.development.queries)
    with pytest.raises(InputError, match=r"9 queries with a relevant document, and 10"):
        halved(collection(9), None, 0, "here")


def test_randomisation_tells_a_difference_from_chance() -> None:
    assert randomisation_p([0.1] * 30, 0) < 0.001
    assert randomisation_p([0.1, -0.1] * 15, 0) > 0.9
    assert randomisation_p([0.0] * 5, 0) == 1.0
