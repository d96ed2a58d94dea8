"""Measures of a ranking, by ir-measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
