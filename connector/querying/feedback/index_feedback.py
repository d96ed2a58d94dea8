"""Feedback of the indices that a rewriter is for: hits → expansion → more terms of a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.querying.clauses import any_of
from latent_ingest.connector.querying.feedback.expansion import Expansion
from latent_ingest.connector.querying.feedback.first_hits import (
    Hit,
    documents_of,
    no_feedback_because,
)
from latent_ingest.connector.querying.request import Filter, Question, check_body
from latent_ingest.connector.querying.term_weights import Weigh, WeightedTerm


@dataclass(frozen=True, slots=True)
class IndexFeedback:
    """Makes expansions of hits, and adds them to questions."""

    field: str
    """The latent field."""
    collapse: str | None
    """Field of which each value is one hit."""
    index: str | None
    """The name of the index, for errors."""
    indices: tuple[str, ...]
    """Names of the indices whose hits are used; empty for any."""
    fingerprint: str | None
    """Fingerprint of the model that made the indices, if known."""
    max_query_terms: int
    idf: Callable[[], NDArray[np.float32]]
    """Returns inverse document frequencies, `[n_latents]`."""

    def of_hits(
        self, hits: Sequence[Hit], *, against: Sequence[Hit] = (), by_rank: bool = True
    ) -> Expansion:
        """Return the expansion of hits; see `QueryRewriter.expansion_of`."""
        taken, notes = documents_of(hits, self.field, self.indices)
        away, _ = documents_of(against, self.field, self.indices)
        return Expansion.of(
            taken,
            self.idf(),
            fingerprint=self.fingerprint,
            against=away,
            by_rank=by_rank,
            notes=notes,
        )

    def suits(self, expansion: Expansion) -> bool:
        """Return whether an expansion may be used here; True if a model is unknown."""
        models = {expansion.fingerprint, self.fingerprint} - {None}
        return len(models) < 2

    def read(self, expansion: Expansion | str) -> Expansion:
        """Return an expansion, or that of a token; raises MismatchError for another model's."""
        if isinstance(expansion, str):
            expansion = Expansion.read(expansion)
        if not self.suits(expansion):
            raise MismatchError(
                f"the expansion is of model {expansion.fingerprint}, and {self.index} was made by "
                f"{self.fingerprint}; ask for the first hits again"
            )
        return expansion

    def added(
        self,
        expansion: Expansion | str | None,
        weigh: Weigh,
        body: Mapping[str, Any] | str | None = None,
    ) -> tuple[Expansion | None, Weigh]:
        """Return the expansion that is used, and `weigh` with its terms added to each text.

        Nothing is added if there is no expansion, or if it would not change the hits of `body`, the
        search request of the texts.
        """
        if expansion is None:
            return None, weigh
        used = self.read(expansion)
        if body is not None and (why := no_feedback_because(check_body(body))):
            used = Expansion(fingerprint=used.fingerprint, notes=(why,))

        def expanded(texts: Sequence[str]) -> list[list[WeightedTerm]]:
            idf = self.idf()
            return [
                used.added_to(own, text, idf, self.max_query_terms)
                for own, text in zip(weigh(texts), texts, strict=True)
            ]

        return used, expanded

    def like(
        self, expansion: Expansion | str, *, size: int = 10, filter: Filter = None
    ) -> dict[str, Any]:
        """Return the request body for documents like those of an expansion, without these.

        Args:
            expansion: the latent terms of the documents, or the token of them.
            size: number of hits.
            filter: query clauses that hits must match and that do not score.
        """
        expansion = self.read(expansion)
        body = Question("", [self.field], self.field, self.collapse, size, filter).body()
        weighted = expansion.weighted(self.idf())[: self.max_query_terms]
        like = any_of(weighted, self.field) if weighted else {"match_none": {}}
        ids = list(expansion.documents)
        given: list[dict[str, Any]] = [{"ids": {"values": ids}}]
        if self.collapse:
            given.append({"terms": {self.collapse: [id.rpartition("#")[0] or id for id in ids]}})
        filters = body["query"]["bool"]["filter"] if filter else []
        parts = {"must": [like], "must_not": given, "filter": filters}
        return {**body, "query": {"bool": parts}}
