"""Trials: all questions asked with one setting of the knobs; nDCG@10, time and clauses of each.

With feedback, each question is asked twice, and the time and clauses are those of both requests.

Encodings and trials are kept, so settings cost their searches once. The first settings in each form
are asked twice, and the second time counts: an engine is slower at first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.evaluation.measures import parse_measures, per_query
from latent_ingest.connector.evaluation.rankings import (
    DEPTH,
    SEARCHES,
    Ranking,
    Tick,
    batched,
    hits_of,
    without_itself,
)
from latent_ingest.connector.evaluation.runs import clauses, search_many
from latent_ingest.connector.querying.feedback.expansion import Expansion
from latent_ingest.connector.querying.feedback.first_hits import (
    at_once,
    finished,
    first_hits_request,
    with_term_vectors,
)
from latent_ingest.connector.querying.indices.fields import read_fields
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form, hybrid_boost
from latent_ingest.connector.tuning.knobs import Settings
from latent_ingest.connector.tuning.tuned_index import TunedIndex

NDCG = "nDCG@10"


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of one setting in one form."""

    values: dict[str, float]
    """Query id → nDCG@10."""
    took: dict[str, float]
    """Query id → milliseconds in the engine, which runs one search at a time; with feedback, of
    both requests."""
    clauses: float
    """Clauses per query, mean; with feedback, of both requests."""

    @property
    def took_p50(self) -> float:
        """Median time in the engine, milliseconds."""
        return float(np.median(list(self.took.values())))

    @property
    def cost(self) -> tuple[float, float]:
        """Sort key: clauses per query, then mean time in the engine, milliseconds."""
        return self.clauses, float(np.mean(list(self.took.values())))

    def mean(self, queries: Iterable[str]) -> float:
        """Mean nDCG@10 over some queries."""
        return float(np.mean([self.values[query] for query in queries]))


class Trials:
    """Asks one set of judged questions with any settings; an `Ask` of `selection`."""

    def __init__(
        self,
        tuned: TunedIndex,
        collection: Collection,
        encoder: QueryEncoder,
        tick: Tick = lambda done: None,
        *,
        feedback: bool = False,
    ) -> None:
        """Ask nothing yet.

        Args:
            tuned: the index to search.
            collection: its judged questions.
            encoder: what encodes them, with a cache that is large enough for all.
            tick: called with the number of searches done since the last call.
            feedback: whether questions take over latent terms of their first hits.

        Raises:
            InputError: the `evaluate` extra is not installed.
        """
        index = tuned.index
        self._tuned = tuned
        self._queries, self._qrels = collection.queries, collection.qrels
        self._tick = tick
        self._feedback = feedback
        self._engine = EngineInfo.read(index.client)
        self._measures = parse_measures([NDCG])
        self._fields = read_fields(index.client, index.name)
        # Document frequencies do not change, and the index is closed now and then.
        self._rewriter = QueryRewriter.from_index(
            index.client, index.name, encoder, statistics_seconds=math.inf
        )
        self._done: dict[tuple[Settings, str], Trial] = {}
        self._warm: set[str] = set()

    def __call__(self, settings: Settings, form: str) -> Trial:
        """Return the trial of settings in a form; raises EngineError if a search fails."""
        settings = plain(settings, form)
        if (settings, form) not in self._done:
            if form not in self._warm:
                self._warm.add(form)
                self._ask(settings, form)
            self._done[settings, form] = self._ask(settings, form)
        return self._done[settings, form]

    def _ask(self, settings: Settings, form: str) -> Trial:
        self._tuned.set(settings.k1, settings.b)
        boost = hybrid_boost(self._engine, settings.k1, settings.latent_boost)
        rewriter = self._rewriter.with_settings(
            **{**settings.query_settings(), "latent_boost": boost}
        )
        ranking: Ranking = {}
        took: dict[str, float] = {}
        counted: list[int] = []
        for batch in batched(self._queries, SEARCHES):
            texts = [self._queries[query] for query in batch]
            if form == "words":
                bodies = [rewriter.words_only(text, size=DEPTH) for text in texts]
            else:
                bodies = rewriter.rewrite_many(texts, form=form, size=DEPTH)
            took |= dict.fromkeys(batch, 0.0)
            if self._feedback and form != "words":
                first = [first_hits_request(body, rewriter.field) for body in bodies]
                counted += [clauses(body, self._fields) for body in first]
                answers = self._answers(first, batch, form, source=[rewriter.field])
                bodies = []
                for query, text, answer in zip(batch, texts, answers, strict=True):
                    took[query] += answer["took"]
                    expansion = self._expansion(rewriter, answer)
                    bodies.append(
                        rewriter.rewrite(text, form=form, size=DEPTH, expansion=expansion)
                    )
            counted += [clauses(body, self._fields) for body in bodies]
            answers = self._answers(bodies, batch, form)
            for query, answer in zip(batch, answers, strict=True):
                took[query] += answer["took"]
                ranking[query] = without_itself(query, hits_of(answer))
            self._tuned.check()
            self._tick(len(batch))
        found = per_query(self._qrels, ranking, self._measures)
        values = {query: row[NDCG] for query, row in found.items()}
        return Trial(values, took, sum(counted) / len(self._queries))

    def _answers(
        self, bodies: Sequence[dict[str, Any]], queries: Sequence[str], form: str, **options: Any
    ) -> list[dict[str, Any]]:
        which = [f"query {query!r} ({form})" for query in queries]
        return search_many(self._tuned.index, bodies, which, max_concurrent_searches=1, **options)

    def _expansion(self, rewriter: QueryRewriter, answer: dict[str, Any]) -> Expansion:
        """Return the latent terms of first hits; lean indices have them in term vectors alone."""
        vectors = partial(at_once, self._tuned.index.client.mtermvectors)
        found = answer["hits"]["hits"]
        return rewriter.expansion_of(finished(with_term_vectors(found, rewriter.field, vectors)))


def plain(settings: Settings, form: str) -> Settings:
    """Reset the knobs that do not matter in a form, so that equal requests are asked once."""
    if form == "words":
        return Settings(settings.k1, settings.b)
    if not Form(form).two_phases:
        return replace(settings, head_terms=1, window=1)
    return settings
