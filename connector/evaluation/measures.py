"""Measures of a ranking, by ir-measures."""

from __future__ import annotations

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.systems import Ranking


def mean_ndcg(qrels: dict[str, dict[str, int]], ranking: Ranking) -> float:
    """nDCG@10, mean over all queries with a judgement; one without hits counts 0.

    Raises:
        InputError: the `evaluate` extra is missing.
    """
    try:
        from ir_measures import nDCG
    except ImportError:
        raise InputError(
            "ir-measures is missing; pip install 'latent-ingest[evaluate]' brings it"
        ) from None
    values = [result.value for result in (nDCG @ 10).iter_calc(qrels, ranking)]
    return sum(values) / len(qrels)
