"""Rankings: documents and their scores, per query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from latent_ingest.mappings import PARENT_FIELD

# Hits requested for nDCG@10, which needs ten: one may be left out because it is the query itself.
DEPTH = 20

# Hits that evaluation measures; one more is requested, for the same reason.
MEASURED_HITS = 100
HITS = MEASURED_HITS + 1

# Searches per `_msearch` request.
SEARCHES = 50

# Constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009).
RRF_K = 60

Ranking = dict[str, dict[str, float]]
"""Query id → document id → score, best first."""

Tick = Callable[[int], object]
"""Called with the number of queries or documents done since the last call."""

Item = TypeVar("Item")


def hits_of(answer: dict[str, Any]) -> dict[str, float]:
    """Return document id → score of an answer, best first; the best of several chunks counts.

    Hits of a sorted request have no scores; they get the negative of their position.
    """
    hits: dict[str, float] = {}
    for place, hit in enumerate(answer["hits"]["hits"]):
        score = -place if hit["_score"] is None else hit["_score"]
        hits.setdefault(document_of(hit), float(score))
    return hits


def document_of(hit: dict[str, Any]) -> str:
    """Return the id of a hit's document; of a chunk, its parent."""
    parents = hit.get("fields", {}).get(PARENT_FIELD)
    return str(parents[0] if parents else hit["_id"])


def fused(rankings: Sequence[Ranking], depth: int) -> Ranking:
    """Fuse rankings of the same queries by reciprocal ranks; keep `depth` documents per query.

    A document's score is the sum of 1 / (60 + rank); ranks count from 1.
    """
    result: Ranking = {}
    for query in rankings[0]:
        scores: dict[str, float] = {}
        for ranking in rankings:
            for rank, document in enumerate(ranking[query], 1):
                scores[document] = scores.get(document, 0.0) + 1 / (RRF_K + rank)
        result[query] = dict(sorted(scores.items(), key=lambda item: -item[1])[:depth])
    return result


def without_itself(query: str, hits: dict[str, float]) -> dict[str, float]:
    """Remove the document that has the query's id, as BEIR does."""
    return {document: score for document, score in hits.items() if document != query}


def measured(query: str, hits: dict[str, float]) -> dict[str, float]:
    """Keep the first `MEASURED_HITS` hits besides the query itself."""
    return dict(islice(without_itself(query, hits).items(), MEASURED_HITS))


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Split items into lists of `size`; the last one may be shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
