"""Measures of a ranking per question, by ir-measures, and whether systems differ significantly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.rankings import Ranking

DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10", "AP@100")

# Relabellings that the randomisation test tries, unless there are fewer; the smallest p is then
# 2 / 10,001.
RESAMPLES = 10_000

# A difference is significant if its p, after Holm's correction, is below this.
SIGNIFICANT = 0.05

# Number of questions listed that gain, and that lose, most.
NAMED = 10

PerQuery = dict[str, dict[str, float]]
"""Query id → measure → value."""


def ir_measures() -> Any:
    """Import ir_measures; raises InputError if the `evaluate` extra is not installed."""
    try:
        import ir_measures
    except ImportError:
        raise InputError(
            "ir-measures is not installed; pip install 'latent-ingest[evaluate]'"
        ) from None
    return ir_measures


def parse_measures(names: Sequence[str]) -> list[Any]:
    """Return the measures that ir-measures has under some names.

    Raises:
        InputError: a name is unknown, its measure cannot be computed, or ir-measures is not
            installed.
    """
    library = ir_measures()
    measures = []
    for name in names:
        try:
            measure = library.parse_measure(name)
            list(library.iter_calc([measure], {"q": {"d": 1}}, {"q": {"d": 1.0}}))
        except Exception as error:  # its parser and its providers raise errors of any kind
            raise InputError(
                f"measure {name!r}: ir-measures cannot compute it; write for example "
                f"{', '.join(DEFAULT_MEASURES)}, P@5 or Success@1"
            ) from error
        measures.append(measure)
    return measures


def per_query(
    qrels: dict[str, dict[str, int]], ranking: Ranking, measures: Sequence[Any]
) -> PerQuery:
    """Compute measures for each judged query; a query without hits gets 0."""
    values: PerQuery = {query: {str(measure): 0.0 for measure in measures} for query in qrels}
    for result in ir_measures().iter_calc(measures, qrels, ranking):
        values[result.query_id][str(result.measure)] = float(result.value)
    return values


def means(values: PerQuery, measures: Sequence[Any]) -> dict[str, float]:
    """Aggregate each measure over all queries as ir-measures does, for most by the mean."""
    found = {}
    for measure in measures:
        aggregator = measure.aggregator()
        for row in values.values():
            aggregator.add(row[str(measure)])
        found[str(measure)] = float(aggregator.result())
    return found


def mean_ndcg(qrels: dict[str, dict[str, int]], ranking: Ranking) -> float:
    """Return nDCG@10 averaged over all judged queries; a query without hits counts 0.

    Raises:
        InputError: the `evaluate` extra is not installed.
    """
    results = (ir_measures().nDCG @ 10).iter_calc(qrels, ranking)
    return sum(float(result.value) for result in results) / len(qrels)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system compared with another on one measure."""

    system: str
    against: str
    measure: str
    difference: float
    """Mean over the queries of the system's value minus the other's."""
    p: float
    """Two-sided p of the paired randomisation test."""
    p_holm: float
    """`p` after Holm's correction over all systems compared with the same one."""
    won: int
    """Number of queries on which the system is better."""
    lost: int
    """Number of queries on which the system is worse."""
    tied: int
    gained: list[dict[str, Any]]
    """Queries that gain most, largest gain first: `query`, `text`, `difference`."""
    lost_most: list[dict[str, Any]]
    """Queries that lose most, largest loss first."""


def compare(
    values: Mapping[str, Mapping[str, float]], against: str, measure: str, texts: Mapping[str, str]
) -> list[Comparison]:
    """Compare all other systems with one, on the same queries.

    Args:
        values: system → query id → value of the measure.
        against: the system that others are compared with.
        measure: name of the measure.
        texts: query id → text.
    """
    differences = {
        system: {query: own[query] - values[against][query] for query in texts}
        for system, own in values.items()
        if system != against
    }
    p_values = {s: randomisation_p(list(found.values())) for s, found in differences.items()}
    corrected = holm(p_values)
    return [
        Comparison(
            system=system,
            against=against,
            measure=measure,
            difference=sum(found.values()) / len(found),
            p=p_values[system],
            p_holm=corrected[system],
            won=sum(value > 0 for value in found.values()),
            lost=sum(value < 0 for value in found.values()),
            tied=sum(value == 0 for value in found.values()),
            gained=most({q: v for q, v in found.items() if v > 0}, texts),
            lost_most=most({q: v for q, v in found.items() if v < 0}, texts),
        )
        for system, found in differences.items()
    ]


def randomisation_p(differences: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p of the paired (Fisher's) randomisation test.

    p is the probability of a mean difference at least as large if, per query, the names of the two
    systems were assigned at random. All sign changes of the differences are tried, or 10,000
    random ones if there are more (Smucker, Allan and Carterette, CIKM 2007).

    Args:
        differences: one per query.
        seed: seed of the random sign changes.
    """
    from scipy.stats import permutation_test

    # A query without a difference is the same with either sign.
    some = np.array([value for value in differences if value])
    # The mean of a single difference is as large with either sign.
    if len(some) < 2:
        return 1.0
    result = permutation_test(
        (some,),
        np.sum,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=max(1, 1_000_000 // len(some)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for multiple tests (Holm 1979): the i-th smallest of m times m - i + 1."""
    corrected = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def most(differences: Mapping[str, float], texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """List the queries with the largest differences, and their texts."""
    largest = nlargest(NAMED, differences.items(), key=lambda item: abs(item[1]))
    return [{"query": query, "text": texts[query], "difference": value} for query, value in largest]
