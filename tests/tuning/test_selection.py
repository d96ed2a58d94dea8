"""Selection of values on a grid and between its points, by the development queries only."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.measures import randomisation_p
from latent_ingest.connector.tuning.knobs import Knob, Settings
from latent_ingest.connector.tuning.report import outcomes_of
from latent_ingest.connector.tuning.selection import select
from latent_ingest.connector.tuning.splits import folds, halved
from latent_ingest.connector.tuning.trials import Trial
from latent_ingest.connector.tuning.tuning import combined, selected_by_others

QUERIES = [f"q{n}" for n in range(20)]

BOOST = Knob("latent_boost", (0.05, 0.1, 0.2, 0.4), 2)
TERMS = Knob("max_query_terms", (32, 64, 128, 256, 512), 1, whole=True, saves=True)
WINDOW = Knob("window", (25, 50, 100, 200), 0, whole=True, saves=True, two_phase=True)
HEADS = Knob("head_terms", (8, 16, 32), 0, whole=True, saves=True, two_phase=True)


def trial(values: dict[str, float], took: float = 1.0, clauses: float = 2.0) -> Trial:
    return Trial(values, dict.fromkeys(values, took), clauses)


def answer(settings: Settings, _form: str) -> Trial:
    """A boost of .26 is best for "d" queries and .05 for "t" queries; 100 terms are enough."""
    enough = min(settings.max_query_terms, 100) / 1000
    own = 0.5 - abs(settings.latent_boost - 0.26) + enough
    other = 0.5 - abs(settings.latent_boost - 0.05) + enough
    values = {"d1": own, "d2": own + 0.1, "t1": other, "t2": other}
    return trial(values, clauses=settings.max_query_terms)


def test_the_best_is_found_between_the_values_of_the_grid() -> None:
    settings, (curve,) = select(answer, Settings(2.0, 0.7), [BOOST], ["d1", "d2"], "hybrid")
    assert settings == replace(Settings(2.0, 0.7), latent_boost=curve.chosen)
    tried = [point.value for point in curve.points]
    assert len(tried) > len(BOOST.grid) + 2
    assert abs(curve.best - 0.26) == min(abs(value - 0.26) for value in tried) < 0.03
    assert curve.default == 0.15
    assert curve.gain == pytest.approx(0.11 - abs(curve.best - 0.26))
    assert curve.outside_noise
    assert curve.chosen == curve.best


def test_a_gain_within_noise_is_not_taken() -> None:
    def noisy(settings: Settings, _form: str) -> Trial:
        """A boost of .2 gains on half of the queries and loses nearly as much on the others."""
        signs = {f"q{n}": 1 if n % 2 else -0.9 for n in range(20)}
        away = settings.latent_boost != 0.15
        return trial({q: 0.5 + 0.1 * sign * away for q, sign in signs.items()})

    queries = [f"q{n}" for n in range(20)]
    settings, (curve,) = select(noisy, Settings(2.0, 0.7), [BOOST], queries, "hybrid")
    assert curve.gain > 0
    assert not curve.outside_noise
    assert settings.latent_boost == curve.chosen == 0.15 != curve.best


def test_only_the_given_queries_choose() -> None:
    assert select(answer, Settings(2.0, 0.7), [BOOST], ["t1"], "hybrid")[0].latent_boost == 0.05


def test_a_knob_that_saves_time_is_as_small_as_quality_allows() -> None:
    settings, _ = select(answer, Settings(2.0, 0.7), [TERMS], ["d1"], "hybrid")
    assert settings.max_query_terms == 128


def test_a_cheaper_value_is_taken_where_it_is_measured_to_be_cheaper() -> None:
    """By clauses, or by time in the engine if the clauses are equal."""

    def ask(noise: float, settings: Settings, _form: str) -> Trial:
        """Shorter windows are faster, by less than the noise from question to question."""
        signs = {query: noise * (-1) ** n for n, query in enumerate(QUERIES)}
        took = {q: settings.window / 50 + own * (settings.window < 100) for q, own in signs.items()}
        return Trial(dict.fromkeys(QUERIES, 0.5), took, 64.0)

    start = Settings(2.0, 0.7, head_terms=32, window=100)
    assert select(partial(ask, 0.0), start, [WINDOW], QUERIES, "hybrid")[0].window == 25
    assert select(partial(ask, 9.0), start, [WINDOW], QUERIES, "hybrid")[0].window == 100
    alike = trial(dict.fromkeys(QUERIES, 0.5))
    found, (curve,) = select(lambda _settings, _form: alike, start, [TERMS], QUERIES, "hybrid")
    assert (found.max_query_terms, curve.chosen) == (192, 192)


def test_knobs_that_save_time_lose_almost_nothing_together() -> None:
    """Each of the three loses .0008, so only one is taken."""

    def ask(settings: Settings, _form: str) -> Trial:
        cost = settings.max_query_terms + settings.window + settings.head_terms
        small = [settings.max_query_terms < 192, settings.window < 100, settings.head_terms < 32]
        return trial(dict.fromkeys(QUERIES, 0.5 - 0.0008 * sum(small)), cost, cost)

    start = Settings(2.0, 0.7, head_terms=32, window=100)
    settings, _ = select(ask, start, [TERMS, HEADS, WINDOW], QUERIES, "hybrid")
    assert settings == replace(start, max_query_terms=32)
    settings, _ = select(ask, start, [HEADS, WINDOW], QUERIES, "hybrid")
    assert settings == replace(start, head_terms=8)


def test_a_possible_loss_within_noise_saves_no_time() -> None:
    """Equal in the mean, with a standard error of .0022: no fewer than 192 terms."""

    def ask(settings: Settings, _form: str) -> Trial:
        away = 0.01 * (settings.max_query_terms < 192)
        values = {query: 0.5 + away * (-1) ** n for n, query in enumerate(QUERIES)}
        return trial(values, clauses=settings.max_query_terms)

    assert select(ask, Settings(2.0, 0.7), [TERMS], QUERIES, "hybrid")[0].max_query_terms == 192


def test_a_knob_that_saves_time_is_turned_up_where_that_gains() -> None:
    def ask(settings: Settings, _form: str) -> Trial:
        gain = 0.02 * (settings.window >= 200)
        return trial(dict.fromkeys(QUERIES, 0.5 + gain), took=settings.window)

    assert select(ask, Settings(2.0, 0.7), [WINDOW], QUERIES, "hybrid")[0].window == 200


def test_no_query_chooses_for_itself_in_cross_validation() -> None:
    """A fold's own queries are best at .05, all others at .26; the fold is reported at .26."""
    parts = folds(QUERIES, 0)

    def ask(own: list[str], settings: Settings, _form: str) -> Trial:
        return trial(
            {
                query: 0.9 - 9 * abs(settings.latent_boost - 0.05)
                if query in own
                else 0.5 - abs(settings.latent_boost - 0.26)
                for query in QUERIES
            }
        )

    for place, own in enumerate(parts):
        found = selected_by_others(partial(ask, own), Settings(2.0, 0.7), [BOOST], parts, "hybrid")
        assert found[place].latent_boost == pytest.approx(0.26, abs=0.03)
        others = [settings.latent_boost for n, settings in enumerate(found) if n != place]
        assert others == [0.05] * 4


def test_each_fold_is_reported_with_what_the_others_chose() -> None:
    trials = [trial({"a": 0.1, "b": 0.2}, 10, 3), trial({"a": 0.3, "b": 0.4}, 20, 5)]
    found = combined([(trials[0], ["b"]), (trials[1], ["a"])])
    assert (found.values, found.took, found.clauses) == (
        {"b": 0.2, "a": 0.3},
        {"b": 10, "a": 20},
        4,
    )


def test_p_of_several_forms_is_corrected() -> None:
    """Six queries that all gain: two of 64 sign changes are as large; corrected by 2 and by 1."""
    queries = [f"q{n}" for n in range(6)]
    before = {form: trial(dict.fromkeys(queries, 0.5)) for form in ("words", "hybrid", "latent")}
    after = {form: trial(dict.fromkeys(queries, 0.6)) for form in ("hybrid", "latent")}
    after["latent"].values["q0"] = 0.1
    hybrid, latent = outcomes_of(before, after, 0)
    assert (hybrid.form, hybrid.gain, hybrid.p) == ("hybrid", pytest.approx(0.1), 2 / 64)
    assert hybrid.p_holm == 2 * hybrid.p
    assert latent.p_holm == latent.p > 0.1


def collection(n: int) -> Collection:
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
    with pytest.raises(InputError, match=r"9 queries with a relevant document; tuning needs 10"):
        halved(collection(9), None, 0, "here")


def test_a_limit_applies_to_the_queries_that_choose() -> None:
    few = halved(collection(60), 12, 0, "here")
    assert few.held_out is None
    assert len(few.development.queries) == 12
    assert few.description.startswith("12 queries of here, cross-validated")
    many = halved(collection(120), 12, 0, "here")
    assert many.held_out is not None
    assert (len(many.development.queries), len(many.held_out.queries)) == (12, 60)


def test_randomisation_tells_a_difference_from_chance() -> None:
    assert randomisation_p([0.1] * 30, 0) < 0.001
    assert randomisation_p([0.1, -0.1] * 15, 0) > 0.9
    assert randomisation_p([0.0] * 5, 0) == 1.0
