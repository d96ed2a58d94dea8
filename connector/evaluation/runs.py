"""The questions of a collection asked one after the other: what is found, and what it costs.

Questions → requests of a system, and the time that making each takes.

Questions are encoded in batches, once for all systems. How long one takes is measured on it alone,
as it is asked by people, and counts for each system.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import engine_errors, reason_in
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.evaluation.systems import (
    SEARCHES,
    Ranking,
    Template,
    Tick,
    chunks,
    fused,
    hits_of,
    without_itself,
)
from latent_ingest.connector.querying.asked_indices import IndexFields
from latent_ingest.connector.querying.clause_limit import count_clauses
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

# Hits asked for: a hundred are measured, and one may be left out for being the query itself.
MEASURED_HITS = 100
HITS = MEASURED_HITS + 1

# Asked before the clock starts, so that the first system does not pay for all of them.
WARM_UP = 10

Requested = tuple[dict[str, Any], float]
"""The body of a request, and the milliseconds that making it from its question takes."""


@dataclass(slots=True)
class Run:
    """A system's answers to all questions; costs are of each, in their order."""

    ranking: Ranking
    rewrite_ms: list[float] = field(default_factory=list)
    """From a question to its request, its encoding in it."""
    took_ms: list[float] = field(default_factory=list)
    """Of the engine, by its own account; empty where no engine was asked."""
    client_ms: list[float] = field(default_factory=list)
    """From a question to having its answer read, rewriting in it."""
    clauses: list[int] = field(default_factory=list)
    """Of each request; an estimate for words, whose analysis is the engine's."""
    hits: list[int] = field(default_factory=list)
    """Documents that match, of which the best are returned; empty for requests of no query."""


def ask(
    system: str,
    make: Callable[[Sequence[str]], list[Requested]],
    collection: Collection,
    client: OpenSearch,
    index: str,
    fields: IndexFields | None,
    tick: Tick,
) -> Run:
    """Search for each question by itself, and count in a request of its own what matches.

    Args:
        system: its name, for messages.
        make: makes the requests of some questions.
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
        requests = make([collection.queries[query] for query in chunk])
        if not run.ranking:
            for query, (body, _) in zip(chunk[:WARM_UP], requests, strict=False):
                search(client, index, body, f"query {query!r} ({system})")
        for query, (body, rewrite_ms) in zip(chunk, requests, strict=True):
            started = time.perf_counter()
            answer = search(client, index, body, f"query {query!r} ({system})")
            run.rewrite_ms.append(rewrite_ms)
            run.client_ms.append(rewrite_ms + since(started))
            run.took_ms.append(answer["took"])
            run.ranking[query] = first(without_itself(query, hits_of(answer)))
            run.clauses.append(clauses(body, fields))
        # What else than a query finds hits cannot be counted like this.
        if all("query" in body for body, _ in requests):
            run.hits += count_hits(client, index, [body["query"] for body, _ in requests])
        tick(len(chunk))
    return run


def since(started: float) -> float:
    """Milliseconds from a reading of `time.perf_counter`."""
    return (time.perf_counter() - started) * 1000


def search(client: OpenSearch, index: str, body: dict[str, Any], which: str) -> dict[str, Any]:
    """One answer, of all shards; raises EngineError that says which question it was."""
    try:
        with engine_errors(client):
            answer: dict[str, Any] = client.search(index=index, body=body)
    except EngineError as error:
        raise EngineError(f"{which}: {error}") from error
    return of_all_shards(answer, index, which)


def of_all_shards(answer: dict[str, Any], index: str, which: str) -> dict[str, Any]:
    """An answer of all shards; raises EngineError where one failed or was too slow."""
    if "error" in answer:
        raise EngineError(f"{which}: {reason_in(answer['error'])}")
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise EngineError(f"{which}: not all shards of {index} answered; is it overloaded?")
    return answer


def count_hits(client: OpenSearch, index: str, queries: Sequence[dict[str, Any]]) -> list[int]:
    """How many documents match each query; chunks where the index has chunks."""
    requests: list[dict[str, Any]] = []
    for query in queries:
        requests += [{}, {"query": query, "size": 0, "track_total_hits": True}]
    with engine_errors(client):
        answers = client.msearch(body=requests, index=index)["responses"]
    counted = [of_all_shards(answer, index, "counting hits") for answer in answers]
    return [answer["hits"]["total"]["value"] for answer in counted]


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
        added(words.rewrite_ms, latent.rewrite_ms),
        added(words.took_ms, latent.took_ms),
        added(words.client_ms, latent.client_ms),
        added(words.clauses, latent.clauses),
    )


def first(hits: dict[str, float]) -> dict[str, float]:
    """The hundred that are measured."""
    return dict(list(hits.items())[:MEASURED_HITS])


class Requests:
    """Makes the requests of all systems on one index."""

    def __init__(
        self, rewriter: QueryRewriter, encoder: QueryEncoder, query_k: int | None = None
    ) -> None:
        """Nothing is encoded yet.

        Args:
            rewriter: of the index.
            encoder: its model, with room for all questions.
            query_k: the rewriter's.
        """
        self.rewriter = rewriter
        self._encoder = encoder
        self._query_k = query_k
        self._encoding_ms: dict[str, float] = {}

    def of_system(self, system: str, texts: Sequence[str]) -> list[Requested]:
        """Those of a system by its name."""
        if system == "words":
            return [timed(self.rewriter.words_only, text, size=HITS) for text in texts]
        self._encode([text for text in texts if text not in self._encoding_ms])
        made = [timed(self.rewriter.rewrite, text, form=system, size=HITS) for text in texts]
        return [
            (body, self._encoding_ms[text] + ms)
            for text, (body, ms) in zip(texts, made, strict=True)
        ]

    def of_template(self, template: Template, texts: Sequence[str]) -> list[Requested]:
        """Those of a request of the user's own."""
        return [timed(template.body, text, HITS, self.rewriter.collapse) for text in texts]

    def _encode(self, texts: Sequence[str]) -> None:
        """Have the encodings of questions kept, and measure how long each takes."""
        self._encoder.encode(texts, self._query_k)
        for text in texts:
            started = time.perf_counter()
            self._encoder.load().encode([text], kind="query", k=self._query_k)
            # One that is too long to be kept is encoded, and timed, with each request.
            kept = self._encoder.keeps(text, self._query_k)
            self._encoding_ms[text] = since(started) if kept else 0.0


def timed(make: Callable[..., dict[str, Any]], *arguments: Any, **named: Any) -> Requested:
    """What a call makes, without the documents' contents, and how long it takes."""
    started = time.perf_counter()
    body = make(*arguments, **named)
    return {**body, "_source": False}, since(started)
