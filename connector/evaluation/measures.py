"""Measures of a ranking, by ir-measures.

Whether two systems differ by more than chance, query by query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.systems import Ranking

DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10", "AP@100")

PerQuery = dict[str, dict[str, float]]
"""Query id → measure → value."""


def ir_measures() -> Any:
    """The library; raises InputError where the `evaluate` extra is missing."""
    try:
        import ir_measures
    except ImportError:
        raise InputError(
            "ir-measures is missing; pip install 'latent-ingest[evaluate]' brings it"
        ) from None
    return ir_measures


def parse_measures(names: Sequence[str]) -> list[Any]:
    """Measures by the names that ir-measures has for them.

    Raises:
        InputError: it does not know one, cannot compute it, or is missing.
    """
    library = ir_measures()
    measures = []
    for name in names:
        try:
            measure = library.parse_measure(name)
            list(library.iter_calc([measure], {"q": {"d": 1}}, {"q": {"d": 1.0}}))
        except Exception as error:  # it raises whatever its parser and its providers raise
            raise InputError(
                f"measure {name!r}: ir-measures cannot compute it; write for example "
                f"{', '.join(DEFAULT_MEASURES)}, P@5 or Success@1"
            ) from error
        measures.append(measure)
    return measures


def per_query(
    qrels: dict[str, dict[str, int]], ranking: Ranking, measures: Sequence[Any]
) -> PerQuery:
    """The values of each query with a judgement; one without hits has 0."""
    values: PerQuery = {query: {str(measure): 0.0 for measure in measures} for query in qrels}
    for result in ir_measures().iter_calc(measures, qrels, ranking):
        values[result.query_id][str(result.measure)] = float(result.value)
    return values


def means(values: PerQuery, measures: Sequence[Any]) -> dict[str, float]:
    """Each measure over all queries, as ir-measures sums it up: the mean of most."""
    found = {}
    for measure in measures:
        aggregator = measure.aggregator()
        for row in values.values():
            aggregator.add(row[str(measure)])
        found[str(measure)] = float(aggregator.result())
    return found


def mean_ndcg(qrels: dict[str, dict[str, int]], ranking: Ranking) -> float:
    """nDCG@10, mean over all queries with a judgement; one without hits counts 0.

    Raises:
        InputError: the `evaluate` extra is missing.
    """
    results = (ir_measures().nDCG @ 10).iter_calc(qrels, ranking)
    return sum(float(result.value) for result in results) / len(qrels)


# Relabellings tried, all there are where they are fewer. The smallest p is 2 / 10,001.
RESAMPLES = 10_000

# Of a p after Holm's correction: below it, a difference is called one.
SIGNIFICANT = 0.05

# Queries named that gain and lose most.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system against another one on one measure."""

    system: str
    against: str
    measure: str
    difference: float
    """Mean over the queries, the system's value less the other's."""
    p: float
    """Of the paired randomisation test, two-sided."""
    p_holm: float
    """The same after Holm's correction over all systems compared with the same one."""
    won: int
    """Queries on which the system is better."""
    lost: int
    tied: int
    gained: list[dict[str, Any]]
    """The queries that gain most, best first: id, text, difference."""
    lost_most: list[dict[str, Any]]
    """The queries that lose most, worst first."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    values: Mapping[str, Mapping[str, float]], against: str, measure: str, texts: Mapping[str, str]
) -> list[Comparison]:
    """Each other system against one.

    Args:
        values: system → query id → value of the measure; all of the same queries.
        against: one of the systems.
        measure: its name.
        texts: of the queries.
    """
    others = [system for system in values if system != against]
    differences = {
        system: {query: values[system][query] - values[against][query] for query in texts}
        for system in others
    }
    p_values = {s: randomisation_p(list(differences[s].values())) for s in others}
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
    """Two-sided p of a mean difference as large, were the systems' names drawn by lot per query.

    Paired (Fisher's) randomisation: the signs of the differences are exchanged in every way, or in
    10,000 random ones (Smucker, Allan and Carterette, CIKM 2007).
    """
    from scipy.stats import permutation_test

    # A sign changes nothing of a query without a difference.
    some = np.array([value for value in differences if value])
    # One alone is as large with either sign.
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
    """p-values corrected for being several (Holm 1979): the i-th smallest of m times m - i + 1."""
    corrected = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def most(differences: Mapping[str, float], texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The queries that differ most, with their texts."""
    ordered = sorted(differences.items(), key=lambda item: -abs(item[1]))
    return [
        {"query": query, "text": texts[query], "difference": value}
        for query, value in ordered[:NAMED]
    ]
