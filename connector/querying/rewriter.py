"""Query text → the body of a search request.

query text → latent vector → weighted terms → clauses → request body

Three forms:

latent     the latent terms score, nothing else
two_phase  the heaviest latent terms retrieve, a rescore adds the rest
hybrid     words and latent terms are alternatives in one `bool`, their scores summed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.client import EngineInfo
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.mappings import LATENT_FIELD, PARENT_FIELD, WORDS_FIELD, hash_field

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

FORMS = ("hybrid", "latent", "two_phase")

# Clauses an engine takes in one request unless its operator says otherwise.
ENGINE_CLAUSES = 1024

# Latent scores are several times word scores, hence a small factor. On the training judgements of
# SciFact and the dev ones of NFCorpus (benchmarks/boost.py), nDCG@10 at .1, .15 and .2: .732 and
# .332, .731 and .336, .726 and .337; no better with k1 3 instead of 2.
LATENT_BOOST = 0.15

# BM25's k1 of word fields, in every engine unless set otherwise.
WORDS_K1 = 1.2

# Of words in several fields: the best field's score, and half of the others'. nDCG@10 of the words
# alone, in title and text, on the same judgements: .694 and .296; by cross_fields .689 and .283; in
# one field for both .699 and .289.
TIE_BREAKER = 0.5

# Of the terms of a two-phase query, those with the largest `w * idf`: 32 heads and a window of
# 200 keep 97 to 99 % of the top 10 at a twentieth of the postings.
HEAD_TERMS = 32
WINDOW = 200


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A latent term of a query."""

    term: str
    weight: float
    """`sqrt` of the pooled activation; multiplies the term's score."""


class QueryRewriter:
    """Turns questions into requests on an index of latent terms."""

    def __init__(
        self,
        encoder: LatentEncoder,
        *,
        field: str = LATENT_FIELD,
        words_fields: Sequence[str] = (WORDS_FIELD,),
        text_fields: Sequence[str] = (),
        max_query_terms: int = 512,
        latent_boost: float = LATENT_BOOST,
        collapse: str | None = None,
    ) -> None:
        """Set a rewriter up; see `from_index`, which reads what the index says.

        Args:
            encoder: the model the index was made with.
            field: where the latent terms are.
            words_fields: where the words are.
            text_fields: whose text is in the latent field.
            max_query_terms: latent terms in a request at most, the heaviest by `w * idf`.
            latent_boost: factor on latent scores in the hybrid form. On engines that keep BM25's
                factor k1 + 1 use `hybrid_boost`.
            collapse: field of which each value is hit once, as `parent_id` of an index of chunks.

        Raises:
            InputError: `max_query_terms` is out of the engine's range.
        """
        if not 1 <= max_query_terms <= ENGINE_CLAUSES:
            raise InputError(f"max_query_terms {max_query_terms}: must be 1 to {ENGINE_CLAUSES}")
        self.field = field
        self.words_fields = list(words_fields)
        self.text_fields = list(text_fields)
        self.max_query_terms = max_query_terms
        self.latent_boost = latent_boost
        self.collapse = collapse
        self.index: str | None = None
        """That `from_index` found: what an alias stood for then. Bodies are good for it alone."""
        self._encoder = encoder
        self._idf = encoder.idf()

    @classmethod
    def from_index(
        cls, client: OpenSearch, index: str, encoder: LatentEncoder, **settings: Any
    ) -> QueryRewriter:
        """A rewriter for an index, checked against its model and engine.

        Args:
            client: of the engine.
            index: its name, or an alias of it; search the `index` of the result, since the alias
                may move to an index of another model.
            encoder: must be the model the index was made with.
            settings: as for the constructor.

        Raises:
            MismatchError: no such index, not one of ours, or made by another model.
            EngineError: the engine cannot be asked.
        """
        found = IndexMeta.find(client, index)
        if found is None:
            raise MismatchError(
                f"no index {index}; make it with 'latent-ingest FILE --index {index}'"
            )
        name, meta = found
        meta.check(encoder, name)
        if meta.long == "chunks":
            settings.setdefault("collapse", PARENT_FIELD)
        settings.setdefault("latent_boost", hybrid_boost(EngineInfo.read(client), meta.k1))
        settings.setdefault("words_fields", meta.words_fields)
        settings.setdefault("text_fields", meta.text_fields)
        rewriter = cls(encoder, field=meta.latent_field, **settings)
        rewriter.index = name
        return rewriter

    def terms(self, text: str) -> list[WeightedTerm]:
        """The latent terms of a query, heaviest by `w * idf` first, at most `max_query_terms`."""
        indices, values = self._encoder.encode([text], kind="query")[0]
        w: NDArray[np.float32] = terms.weights(values)
        order = np.argsort(-w * self._idf[indices], kind="stable")[: self.max_query_terms]
        return [WeightedTerm(terms.term(int(indices[i])), float(w[i])) for i in order]

    def rewrite(
        self,
        text: str,
        *,
        form: str = "hybrid",
        size: int = 10,
        filter: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        head_terms: int = HEAD_TERMS,
        window: int = WINDOW,
    ) -> dict[str, Any]:
        """The body of a search request for a question.

        Args:
            text: the question.
            form: "hybrid", "latent" or "two_phase".
            size: hits wanted.
            filter: query clauses that hits must match and that do not score.
            head_terms: terms that retrieve, in the two-phase form.
            window: hits a shard that are rescored, in the two-phase form; at least `size`.

        Returns:
            A body for `client.search(index=..., body=...)`. Hits come without the latent field,
            and totals are not counted, which lets the engine skip documents that cannot win.

        Raises:
            InputError: an unknown form, or two_phase where hits are collapsed, which no engine
                does together.
            ModelError: the backbone gives NaN.
        """
        if form not in FORMS:
            raise InputError(f"form {form!r}: use one of {', '.join(FORMS)}")
        if form == "two_phase" and self.collapse:
            raise InputError(
                "form two_phase: engines cannot rescore hits of an index of chunks, which are "
                "collapsed to documents; use hybrid or latent"
            )
        weighted = self.terms(text)
        body = self._frame(size)
        if form == "hybrid":
            words = self._words(text)
            latent = self._any_of(weighted, boost=self.latent_boost)
            body["query"] = filtered({"bool": {"should": [words, latent]}}, filter)
        elif form == "latent":
            body["query"] = filtered(self._any_of(weighted), filter)
        else:
            body["query"] = filtered(self._any_of(weighted[:head_terms]), filter)
            if rest := weighted[head_terms:]:
                body["rescore"] = {
                    "window_size": max(window, size),
                    "query": {"rescore_query": self._any_of(rest)},
                }
        return body

    def words_only(
        self,
        text: str,
        *,
        size: int = 10,
        filter: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """The request that the words alone make, for comparison."""
        return {
            **self._frame(size),
            "query": filtered(self._words(text), filter),
        }

    def _words(self, text: str) -> dict[str, Any]:
        if len(self.words_fields) > 1:
            search = {"query": text, "fields": self.words_fields, "tie_breaker": TIE_BREAKER}
            return {"multi_match": search}
        return {"match": {self.words_fields[0]: {"query": text}}}

    def _frame(self, size: int) -> dict[str, Any]:
        frame = {
            "size": size,
            "_source": {"excludes": [self.field, hash_field(self.field)]},
            "track_total_hits": False,
        }
        return frame | ({"collapse": {"field": self.collapse}} if self.collapse else {})

    def _any_of(self, weighted: Sequence[WeightedTerm], boost: float = 1.0) -> dict[str, Any]:
        if not weighted:
            return {"match_none": {}}
        clauses = [
            {"term": {self.field: {"value": item.term, "boost": round(item.weight, 4)}}}
            for item in weighted
        ]
        scored: dict[str, Any] = {"should": clauses}
        return {"bool": scored if boost == 1.0 else {**scored, "boost": round(boost, 6)}}


def filtered(
    query: dict[str, Any], filter: dict[str, Any] | Sequence[dict[str, Any]] | None
) -> dict[str, Any]:
    """`query`, scoring as before, among the documents that pass the filters."""
    if not filter:
        return query
    clauses = [filter] if isinstance(filter, dict) else list(filter)
    return {"bool": {"must": [query], "filter": clauses}}


def hybrid_boost(engine: EngineInfo, k1: float, boost: float = LATENT_BOOST) -> float:
    """The factor on latent scores that gives the same ranking on every engine.

    Where BM25 keeps its factor k1 + 1, latent scores are k1 + 1 times and word scores 2.2 times
    what they are on OpenSearch 3, on which `boost` was measured.
    """
    return boost * (WORDS_K1 + 1) / (k1 + 1) if engine.keeps_k1_factor else boost
