"""The questions of a collection asked one after the other: what is found, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.client import engine_errors, reason_in
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.evaluation.systems import (
    SEARCHES,
    Ranking,
    Tick,
    chunks,
    document_of,
    fused,
    without_itself,
)
from latent_ingest.connector.querying.clause_limit import count_clauses
from latent_ingest.connector.querying.fields import IndexFields

# Hits asked for: a hundred are measured, and one may be left out for being the query itself.
MEASURED_HITS = 100
HITS = MEASURED_HITS + 1

# Asked before the clock starts, so that the first system does not pay for all of them.
WARM_UP = 10

Bodies = Callable[[Sequence[str]], list[dict[str, Any]]]
"""Questions → request bodies."""


@dataclass(slots=True)
class Run:
    """A system's answers to all questions; costs are of each, in their order."""

    ranking: Ranking
    took_ms: list[float] = field(default_factory=list)
    """Of the engine, by its own account; empty where no engine was asked."""
    client_ms: list[float] = field(default_factory=list)
    """From sending a request to having its answer read."""
    clauses: list[int] = field(default_factory=list)
    """Of each request; an estimate for words, whose analysis is the engine's."""
    hits: list[int] = field(default_factory=list)
    """Documents that match, of which the best are returned."""


def ask(
    system: str,
    bodies: Bodies,
    collection: Collection,
    client: OpenSearch,
    index: str,
    fields: IndexFields | None,
    tick: Tick,
) -> Run:
    """Search for each question by itself, and count in a request of its own what matches.

    Args:
        system: its name, for messages.
        bodies: makes the requests.
        collection: the questions.
        client: of the engine.
        index: to search.
        fields: of the index, as `read_fields` has them, by which clauses are counted.
        tick: called with the number of questions done.

    Raises:
        EngineError: a search fails, or not all shards answer.
    """
    run = Run({})
    for chunk in chunks(collection.queries, SEARCHES):
        requests = bodies([collection.queries[query] for query in chunk])
        if not run.ranking:
            for query, body in zip(chunk[:WARM_UP], requests, strict=False):
                search(client, index, body, f"query {query!r} ({system})")
        for query, body in zip(chunk, requests, strict=True):
            started = time.perf_counter()
            answer = search(client, index, body, f"query {query!r} ({system})")
            run.client_ms.append((time.perf_counter() - started) * 1000)
            run.took_ms.append(answer["took"])
            found = answer["hits"]["hits"]
            # Hits that a template sorts have no scores.
            scores = {
                document_of(hit): float(-place if hit["_score"] is None else hit["_score"])
                for place, hit in enumerate(found)
            }
            run.ranking[query] = first(without_itself(query, scores))
            run.clauses.append(clauses(body, fields))
        run.hits += count_hits(client, index, requests)
        tick(len(chunk))
    return run


def search(client: OpenSearch, index: str, body: dict[str, Any], which: str) -> dict[str, Any]:
    """One answer, of all shards; raises EngineError that says which question it was."""
    try:
        with engine_errors(client):
            answer: dict[str, Any] = client.search(index=index, body=body)
    except EngineError as error:
        raise EngineError(f"{which}: {error}") from error
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise EngineError(f"{which}: not all shards of {index} answered; is it overloaded?")
    return answer


def count_hits(client: OpenSearch, index: str, bodies: Sequence[dict[str, Any]]) -> list[int]:
    """How many documents match each request; chunks where the index has chunks."""
    requests: list[dict[str, Any]] = []
    for body in bodies:
        query = {"query": body["query"]} if "query" in body else {}
        requests += [{}, {**query, "size": 0, "track_total_hits": True}]
    with engine_errors(client):
        answers = client.msearch(body=requests, index=index)["responses"]
    for answer in answers:
        if "error" in answer:
            raise EngineError(f"{index}: {reason_in(answer['error'])}")
    return [answer["hits"]["total"]["value"] for answer in answers]


def clauses(body: dict[str, Any], fields: IndexFields | None) -> int:
    """Clauses of a request, in its query and in what rescores its hits."""
    rescore = body.get("rescore") or []
    phases = rescore if isinstance(rescore, list) else [rescore]
    rescoring = [phase["query"]["rescore_query"] for phase in phases if "query" in phase]
    return count_clauses([body.get("query"), *rescoring], fields)[0]


def reciprocal_rank_fusion(words: Run, latent: Run) -> Run:
    """Both asked one after the other, and their rankings fused here."""

    def added(ones: Sequence[float], others: Sequence[float]) -> list[Any]:
        return [one + other for one, other in zip(ones, others, strict=True)]

    return Run(
        fused([words.ranking, latent.ranking], MEASURED_HITS),
        added(words.took_ms, latent.took_ms),
        added(words.client_ms, latent.client_ms),
        added(words.clauses, latent.clauses),
    )


def first(hits: dict[str, float]) -> dict[str, float]:
    """The hundred that are measured."""
    return dict(list(hits.items())[:MEASURED_HITS])
