"""Questions, and requests that applications have, → requests that score by latent terms.

query text → latent vector → weighted terms; see `rewriting` for what becomes of a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector.client import EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.asked_indices import AskedIndices
from latent_ingest.connector.querying.boost import LATENT_BOOST, hybrid_boost
from latent_ingest.connector.querying.clause_limit import (
    ENGINE_CLAUSES,
    count_clauses,
    read_clause_limit,
)
from latent_ingest.connector.querying.fields import fed_fields, read_fields
from latent_ingest.connector.querying.latent_clause import WeightedTerm
from latent_ingest.connector.querying.query_encoder import (
    CacheInfo,
    QueryEncoder,
    in_encoding_thread,
)
from latent_ingest.connector.querying.request import filtered
from latent_ingest.connector.querying.rewrite_report import RewriteReport
from latent_ingest.connector.querying.rewriting import (
    HEAD_TERMS,
    MAX_QUERY_TERMS,
    WINDOW,
    Target,
    Weigh,
    Wish,
    rewritten,
)
from latent_ingest.connector.querying.statistics import STATISTICS_SECONDS, IndexStatistics
from latent_ingest.connector.querying.weighing import Weigher
from latent_ingest.mappings import LATENT_FIELD, PARENT_FIELD, WORDS_FIELD, hash_field

if TYPE_CHECKING:
    from opensearchpy.helpers.search import Search

    from latent_ingest.connector.encoding.encoder import LatentEncoder

# A form without the words' scores.
LATENT_ALONE = {"hybrid": "latent", "hybrid_two_phase": "two_phase"}

# Of words in several fields: the best field's score, and half of the others'. nDCG@10 of the words
# alone, in title and text, on the same judgements: .694 and .296; by cross_fields .689 and .283; in
# one field for both .699 and .289.
TIE_BREAKER = 0.5


class QueryRewriter:
    """Turns questions into requests on an index of latent terms. For any number of threads."""

    def __init__(
        self,
        encoder: LatentEncoder | QueryEncoder,
        *,
        field: str = LATENT_FIELD,
        words_fields: Sequence[str] = (WORDS_FIELD,),
        text_fields: Sequence[str] = (),
        max_query_terms: int = MAX_QUERY_TERMS,
        max_clauses: int = ENGINE_CLAUSES,
        latent_boost: float = LATENT_BOOST,
        head_terms: int = HEAD_TERMS,
        window: int = WINDOW,
        query_k: int | None = None,
        collapse: str | None = None,
    ) -> None:
        """Set a rewriter up; see `from_index`, which reads what the index says.

        Args:
            encoder: the model the index was made with. A `QueryEncoder` is loaded when the first
                question comes, and may be shared by several rewriters.
            field: where the latent terms are.
            words_fields: where the words of a question are looked up.
            text_fields: others whose text is in the latent field; clauses on them are rewritten.
            max_query_terms: latent terms of a question at most, the heaviest by `w * idf`.
            max_clauses: that the engine takes in one query, with those that are in a request.
            latent_boost: factor on latent scores in the hybrid form. On engines that keep BM25's
                factor k1 + 1 use `hybrid_boost`.
            head_terms: terms that retrieve, in forms of two phases.
            window: hits a shard that are rescored, in forms of two phases.
            query_k: latents a token of a question, when fewer than the model's are wanted.
            collapse: field of which each value is hit once, as `parent_id` of an index of chunks.

        Raises:
            InputError: `max_query_terms` is out of the engine's range.
        """
        most = max(max_clauses, ENGINE_CLAUSES)
        if not 1 <= max_query_terms <= most:
            raise InputError(f"max_query_terms {max_query_terms}: must be 1 to {most}")
        self.field = field
        self.words_fields = list(words_fields)
        self.text_fields = list(text_fields)
        self.max_query_terms = max_query_terms
        self.max_clauses = max_clauses
        self.latent_boost = latent_boost
        self.head_terms = head_terms
        self.window = window
        self.collapse = collapse
        self.index: str | None = None
        """Where `from_index` wants bodies to be sent: what an alias stood for then."""
        self.indices: tuple[str, ...] = ()
        """Names of the indices that these are. Bodies are good for them alone."""
        self._fields: Mapping[str, bool] | None = None
        self._weigh = Weigher(QueryEncoder.of(encoder))
        self._weigh.query_k = query_k

    @classmethod
    def from_index(
        cls,
        client: OpenSearch,
        index: str,
        encoder: LatentEncoder | QueryEncoder,
        **settings: Any,
    ) -> QueryRewriter:
        """A rewriter for an index, checked against its model and engine.

        Args:
            client: of the engine.
            index: its name, an alias, a pattern, or several with commas, which are asked together
                if they agree; search the `index` of the result, since an alias may move to an
                index of another model.
            encoder: must be the model the index was made with. One that is not loaded yet is
                checked when the first question comes.
            settings: as for the constructor, in place of those that `latent-ingest tune` has left
                in the index; and `statistics_seconds`, how old the index's document
                frequencies may be, by which terms are chosen; none to choose by the model's.

        Raises:
            MismatchError: no such index, not one of ours, or made by another model; or several
                that do not agree.
            EngineError: the engine cannot be asked.
        """
        asked = AskedIndices.read(client, index)
        rewriter = cls.for_indices(client, asked, QueryEncoder.of(encoder), **settings)
        if rewriter.statistics:
            rewriter.statistics.refresh()
        return rewriter

    @classmethod
    def for_indices(
        cls,
        client: OpenSearch,
        asked: AskedIndices,
        encoder: QueryEncoder,
        *,
        statistics_seconds: float | None = STATISTICS_SECONDS,
        **settings: Any,
    ) -> QueryRewriter:
        """As `from_index`, for indices that were read; their statistics come in the background."""
        if encoder.loaded:
            asked.check(encoder.load())
        asked.check_alike()
        meta = asked.meta
        if meta.long == "chunks":
            settings.setdefault("collapse", PARENT_FIELD)
        tuned = dict(meta.query_settings or {})
        boost = tuned.pop("latent_boost", LATENT_BOOST)
        settings.setdefault("latent_boost", hybrid_boost(EngineInfo.read(client), meta.k1, boost))
        settings = {**tuned, **settings}
        settings.setdefault("words_fields", asked.words_fields)
        settings.setdefault("text_fields", meta.text_fields)
        settings.setdefault("max_clauses", read_clause_limit(client))
        rewriter = cls(encoder, field=meta.latent_field, **settings)
        rewriter.index = asked.target
        rewriter.indices = tuple(asked.metas)
        rewriter._fields = read_fields(client, asked.target)
        if statistics_seconds is not None:
            rewriter._weigh.statistics = IndexStatistics(
                client, rewriter.indices, meta.latent_field, meta.n_latents, statistics_seconds
            )
        rewriter._weigh.unchecked = None if encoder.loaded else asked
        return rewriter

    @property
    def encoder(self) -> LatentEncoder:
        """The model, loaded now if it was not yet; raises as `rewrite`."""
        return self._weigh.model()

    @property
    def statistics(self) -> IndexStatistics | None:
        """Document frequencies of the index; without them, those of the model choose terms."""
        return self._weigh.statistics

    def cache_info(self) -> CacheInfo:
        """Hits and misses of the encodings that are kept."""
        return self._weigh.queries.cache_info()

    def terms(self, text: str) -> list[WeightedTerm]:
        """The latent terms of a query, heaviest by `w * idf` first, at most `max_query_terms`."""
        return self._weigh([text])[0][: self.max_query_terms]

    def rewrite(
        self,
        text: str,
        *,
        form: str = "hybrid",
        size: int = 10,
        filter: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        head_terms: int | None = None,
        window: int | None = None,
    ) -> dict[str, Any]:
        """The body of a search request for a question.

        Args:
            text: the question. Words of more than the engine takes are left out: latent terms
                alone score then.
            form: "hybrid", "latent", "two_phase" or "hybrid_two_phase".
            size: hits wanted.
            filter: query clauses that hits must match and that do not score.
            head_terms: terms that retrieve, in forms of two phases; by default the rewriter's.
            window: hits a shard that are rescored, in forms of two phases; at least `size`.

        Returns:
            A body for `client.search(index=..., body=...)`. Hits come without the latent field,
            and totals are not counted, which lets the engine skip documents that cannot win.

        Raises:
            InputError: an empty question, an unknown form, or two phases where hits are
                collapsed, which no engine does together.
            ModelError: the backbone gives NaN.
            MismatchError: the model is loaded now, and did not make the index.
        """
        options: dict[str, Any] = {"head_terms": head_terms, "window": window, "filter": filter}
        return self._rewrite(text, self._weigh, form=form, size=size, **options)

    def rewrite_many(self, texts: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """`rewrite` of several questions, in their order, which are encoded together.

        Args:
            texts: the questions.
            options: as for `rewrite`, for all of them.
        """
        terms_of = dict(zip(texts, self._weigh(texts), strict=True))
        return [
            self._rewrite(text, lambda some: [terms_of[t] for t in some], **options)
            for text in texts
        ]

    async def rewrite_async(self, text: str, **options: Any) -> dict[str, Any]:
        """`rewrite` for an event loop, which goes on while a thread encodes."""
        if self._weigh.queries.keeps(text, self._weigh.query_k):
            return self.rewrite(text, **options)
        return await in_encoding_thread(partial(self.rewrite, text, **options))

    async def rewrite_body_async(self, body: dict[str, Any], **options: Any) -> dict[str, Any]:
        """`rewrite_body` for an event loop, which goes on while a thread encodes."""
        return await in_encoding_thread(partial(self.rewrite_body, body, **options))

    def _rewrite(
        self,
        text: str,
        weigh: Weigh,
        *,
        size: int = 10,
        filter: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        form: str = "hybrid",
        **settings: int | None,
    ) -> dict[str, Any]:
        wish = Wish(form=form, matching="expand", **self._phases(**settings))
        if not any(letter.isprintable() and not letter.isspace() for letter in text):
            raise InputError("the question is empty; write one")
        if form.endswith("two_phase") and self.collapse:
            raise InputError(
                f"form {form}: engines cannot rescore hits of an index of chunks, which are "
                "collapsed to documents; use hybrid or latent"
            )
        body = self.words_only(text, size=size, filter=filter)
        if count_clauses(self._words(text), None)[0] > self.max_clauses:
            wish = replace(wish, form=LATENT_ALONE.get(form, form))
        return rewritten(body, self._target(None), wish, weigh)[0]

    def rewrite_body(
        self,
        body: dict[str, Any],
        *,
        form: str = "hybrid",
        matching: str | None = None,
        fields: Sequence[str] | Mapping[str, str] | None = None,
        head_terms: int | None = None,
        window: int | None = None,
    ) -> dict[str, Any]:
        """A request that an application has, its text clauses scored by meaning.

        Text clauses are rewritten where they score, each into one clause in its place; filters,
        aggregations and all else stay. A body that was rewritten comes back as it is.

        Args:
            body: of a search request; it is not changed.
            form: as for `rewrite`. Where hits cannot be rescored, the form in one phase.
            matching: "expand": documents without a common word are hits too. "keep": words decide
                what matches, and latent terms only score, so that totals and aggregations stay.
                Without it, "keep" where the request aggregates, sorts by something else than
                scores, asks for exact totals or for no hits, and where a clause demands more than
                one word, as by `operator: and`.
            fields: those on which clauses are rewritten, or a mapping of them to the latent field.
                Without it, all whose text is in the latent field.
            head_terms: as for `rewrite`, for each clause.
            window: as for `rewrite`.

        Returns:
            The new body. Hits come without the latent field unless the body has its own `_source`.

        Raises:
            InputError: the body is not an object, or an unknown form, matching or field.
            ModelError: the backbone gives NaN.
        """
        settings = {"form": form, "matching": matching, "head_terms": head_terms, "window": window}
        return self.rewrite_and_report(body, fields=fields, **settings)[0]

    def rewrite_and_report(
        self,
        body: dict[str, Any],
        *,
        fields: Sequence[str] | Mapping[str, str] | None = None,
        **settings: Any,
    ) -> tuple[dict[str, Any], RewriteReport]:
        """`rewrite_body`, and what it did: which clauses, which not and why, what was pruned."""
        phases = self._phases(settings.pop("head_terms", None), settings.pop("window", None))
        return rewritten(body, self._target(fields), Wish(**settings, **phases), self._weigh)

    def rewrite_search(self, search: Search, **settings: Any) -> Search:
        """`rewrite_body` for a `Search` of opensearch-py; a new one, of the same index and classes.

        Args:
            search: it is not changed.
            settings: as for `rewrite_body`.

        Raises:
            InputError: as `rewrite_body`.
        """
        given = search.to_dict()
        body = self.rewrite_body(given, **settings)
        new: Search = search.extra(**({"rescore": body["rescore"]} if "rescore" in body else {}))
        if "query" in body:
            new.query = body["query"]
        if "_source" not in given and "_source" in body:
            new = new.source(excludes=body["_source"]["excludes"])
        if "min_score" in given and "min_score" not in body:
            new = new.extra(min_score=0)  # it cannot be taken away
        return new

    def _phases(self, head_terms: int | None = None, window: int | None = None) -> dict[str, Any]:
        return {
            "head_terms": self.head_terms if head_terms is None else head_terms,
            "window": self.window if window is None else window,
        }

    def _target(self, fields: Sequence[str] | Mapping[str, str] | None) -> Target:
        return Target(
            latent_field=self.field,
            fed=fed_fields(
                self.field, [*self.text_fields, *self.words_fields], self._fields, fields
            ),
            latent_boost=self.latent_boost,
            max_query_terms=self.max_query_terms,
            max_clauses=self.max_clauses,
            known_fields=self._fields,
        )

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
