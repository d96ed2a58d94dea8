"""Runs: each system's answers to all questions of a collection, and what they cost.

questions → requests of a system → searches, one after the other → ranking and times
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.client import engine_errors, reason_in
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.evaluation.dense import rank_by_dense
from latent_ingest.connector.evaluation.rankings import (
    MEASURED_HITS,
    SEARCHES,
    Ranking,
    Tick,
    batched,
    fused,
    hits_of,
    measured,
)
from latent_ingest.connector.evaluation.systems import (
    RESCORED,
    Requested,
    Requests,
    Template,
    milliseconds_since,
    searching,
)
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.querying.clause_limit import count_clauses
from latent_ingest.connector.querying.indices.fields import IndexFields, read_fields

# Searches before the clock starts, so that the first system does not pay for warming up.
WARM_UP = 10


@dataclass(slots=True)
class Run:
    """A system's answers to all questions; each list of costs has one entry per question."""

    ranking: Ranking
    rewrite_ms: list[float] = field(default_factory=list)
    """Milliseconds from a question to its request, including encoding."""
    took_ms: list[float] = field(default_factory=list)
    """Milliseconds in the engine, as it reports them; empty if no engine was asked."""
    client_ms: list[float] = field(default_factory=list)
    """Milliseconds from a question to its parsed answer, including rewriting."""
    clauses: list[int] = field(default_factory=list)
    """Clauses per request; an estimate for words, which the engine analyzes."""
    hits: list[int] = field(default_factory=list)
    """Matching documents (chunks, in an index of chunks); empty for requests without a query."""

    def costs(self) -> dict[str, Any]:
        """Percentiles of the times, means of clauses and hits; None for empty lists."""
        return {
            "rewrite_ms": percentiles(self.rewrite_ms),
            "took_ms": percentiles(self.took_ms),
            "client_ms": percentiles(self.client_ms),
            "clauses": float(np.mean(self.clauses)) if self.clauses else None,
            "hits": float(np.mean(self.hits)) if self.hits else None,
        }


def percentiles(times: Sequence[float]) -> dict[str, float] | None:
    """Return the median (`p50`) and the 95th percentile (`p95`); None without times."""
    if not times:
        return None
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


def run_systems(
    index: Index,
    requests: Requests,
    collection: Collection,
    systems: Sequence[str],
    templates: Sequence[Template],
    cache: Path,
    tick: Tick,
) -> dict[str, Run]:
    """Run systems and templates on all questions of a collection.

    Raises:
        InputError: a system cannot be used on an index of chunks, or dense has no corpus.
        EngineError: a search fails.
    """
    refused = [system for system in systems if system in RESCORED]
    refused += [template.name for template in templates if "rescore" in template.content]
    if requests.rewriter.collapse and refused:
        raise InputError(
            f"system {refused[0]}: engines cannot rescore hits of an index of chunks; leave it out"
        )
    makers = {system: partial(requests.of_system, system) for system in searching(systems)}
    makers |= {template.name: partial(requests.of_template, template) for template in templates}
    fields = read_fields(index.client, index.name)
    runs = {name: ask(name, make, collection, index, fields, tick) for name, make in makers.items()}
    if "dense" in systems:
        backbone = requests.rewriter.encoder.backbone
        runs["dense"] = Run(rank_by_dense(collection, backbone, cache, tick))
    if "rrf" in systems:
        runs["rrf"] = reciprocal_rank_fusion(runs["words"], runs["latent"])
    return {name: runs[name] for name in [*systems, *(template.name for template in templates)]}


def ask(
    system: str,
    make: Callable[[Sequence[str]], list[Requested]],
    collection: Collection,
    index: Index,
    fields: IndexFields | None,
    tick: Tick,
) -> Run:
    """Search for each question separately; count the matches in requests that are not timed.

    Raises:
        EngineError: a search fails, or not all shards answer.
    """
    run = Run({})
    for batch in batched(collection.queries, SEARCHES):
        requests = make([collection.queries[query] for query in batch])
        if not run.ranking:
            for query, (body, _) in zip(batch[:WARM_UP], requests, strict=False):
                search(index, body, f"query {query!r} ({system})")
        for query, (body, rewrite_ms) in zip(batch, requests, strict=True):
            started = time.perf_counter()
            answer = search(index, body, f"query {query!r} ({system})")
            run.rewrite_ms.append(rewrite_ms)
            run.client_ms.append(rewrite_ms + milliseconds_since(started))
            run.took_ms.append(answer["took"])
            run.ranking[query] = measured(query, hits_of(answer))
            run.clauses.append(clauses(body, fields))
        # Matches of anything but a query (of a suggester, say) cannot be counted this way.
        if all("query" in body for body, _ in requests):
            run.hits += count_hits(index, [body["query"] for body, _ in requests])
        tick(len(batch))
    return run


def search(index: Index, body: dict[str, Any], which: str) -> dict[str, Any]:
    """Search once; raises EngineError, with `which` in its message, unless all shards answer."""
    try:
        with engine_errors(index.client):
            answer: dict[str, Any] = index.client.search(index=index.name, body=body)
    except EngineError as error:
        raise EngineError(f"{which}: {error}") from error
    return of_all_shards(answer, index.name, which)


def search_many(
    index: Index,
    bodies: Sequence[dict[str, Any]],
    which: Sequence[str],
    *,
    source: Sequence[str] | bool = False,
    **params: Any,
) -> list[dict[str, Any]]:
    """Send several searches in one request, `which` names them; raises as `search`.

    `source` is what hits have as their `_source`.
    """
    requests = [part for body in bodies for part in ({}, {**body, "_source": source})]
    with engine_errors(index.client):
        answers = index.client.msearch(body=requests, index=index.name, params=params)["responses"]
    return [
        of_all_shards(answer, index.name, name) for answer, name in zip(answers, which, strict=True)
    ]


def of_all_shards(answer: dict[str, Any], index: str, which: str) -> dict[str, Any]:
    """Return the answer; raises EngineError if a shard failed or timed out."""
    if "error" in answer:
        raise EngineError(f"{which}: {reason_in(answer['error'])}")
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise EngineError(f"{which}: not all shards of {index} answered; is it overloaded?")
    return answer


def count_hits(index: Index, queries: Sequence[dict[str, Any]]) -> list[int]:
    """Count the documents (chunks, in an index of chunks) that match each query."""
    bodies = [{"query": query, "size": 0, "track_total_hits": True} for query in queries]
    answers = search_many(index, bodies, ["counting hits"] * len(bodies))
    return [answer["hits"]["total"]["value"] for answer in answers]


def clauses(body: dict[str, Any], fields: IndexFields | None) -> int:
    """Count the clauses of a request, in its query and in its rescore queries."""
    rescore = body.get("rescore") or []
    phases = rescore if isinstance(rescore, list) else [rescore]
    rescoring = [phase["query"]["rescore_query"] for phase in phases if "query" in phase]
    return count_clauses([body.get("query"), *rescoring], fields)[0]


def reciprocal_rank_fusion(words: Run, latent: Run) -> Run:
    """Fuse two runs in the client; costs are added, since both searches are needed."""
    names = ("rewrite_ms", "took_ms", "client_ms", "clauses")
    costs = {name: list(map(add, getattr(words, name), getattr(latent, name))) for name in names}
    return Run(fused([words.ranking, latent.ranking], MEASURED_HITS), **costs)
