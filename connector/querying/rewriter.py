"""Questions, and requests that applications have, → requests that score by latent terms.

query text → latent vector → weighted terms; see `rewriting` for what becomes of a request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.asked_indices import AskedIndices
from latent_ingest.connector.querying.boost import LATENT_BOOST, hybrid_boost
from latent_ingest.connector.querying.clause_limit import ENGINE_CLAUSES, read_clause_limit
from latent_ingest.connector.querying.clauses import WeightedTerm
from latent_ingest.connector.querying.fields import IndexFields, fed_fields, read_fields
from latent_ingest.connector.querying.query_encoder import (
    CacheInfo,
    NotKept,
    QueryEncoder,
    in_encoding_thread,
)
from latent_ingest.connector.querying.question import (
    check_question,
    rewritten_question,
    words_clause,
)
from latent_ingest.connector.querying.report import RewriteReport
from latent_ingest.connector.querying.request import filtered
from latent_ingest.connector.querying.rewriting import (
    HEAD_TERMS,
    MAX_QUERY_TERMS,
    WINDOW,
    Target,
    Weigh,
    Wish,
    rewritten,
)
from latent_ingest.connector.querying.term_weights import (
    STATISTICS_SECONDS,
    IndexStatistics,
    Weigher,
)
from latent_ingest.mappings import LATENT_FIELD, PARENT_FIELD, WORDS_FIELD, hash_field

if TYPE_CHECKING:
    from opensearchpy.helpers.search import Search

    from latent_ingest.connector.encoding.encoder import LatentEncoder


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
        self._fields: IndexFields | None = None
        self._weigh = Weigher(QueryEncoder.of(encoder))
        self._weigh.query_k = query_k

    @classmethod
    def from_index(
        cls,
        client: OpenSearch,
        index: str,
        encoder: LatentEncoder | QueryEncoder | None = None,
        **settings: Any,
    ) -> QueryRewriter:
        """A rewriter for an index, checked against its model and engine.

        Args:
            client: of the engine.
            index: its name, an alias, a pattern, or several with commas, which are asked together
                if they agree; search the `index` of the result, since an alias may move to an
                index of another model.
            encoder: must be the model the index was made with, by default the one that ships. One
                that is not loaded yet is checked when the first question comes.
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
            text: the question. So many words that not all latent terms fit in beside them are
                left out: latent terms alone score then.
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
        phases: dict[str, Any] = {"head_terms": head_terms, "window": window}
        wanted: dict[str, Any] = {"form": form, "size": size, "filter": filter}
        return self._of_question(text, self._weigh, **wanted, **phases)[0]

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
                scores, asks for exact totals or for no hits; and for single clauses that demand
                more than one word, as by `operator: and`, or of which a `bool` demands several.
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
        phases: dict[str, Any] = {"head_terms": head_terms, "window": window}
        wanted: dict[str, Any] = {"form": form, "matching": matching, "fields": fields}
        return self._of_body(body, self._weigh, **wanted, **phases)[0]

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
        new: Search = search.extra()
        new.update_from_dict({name: v for name, v in body.items() if given.get(name) != v})
        if "min_score" in given and "min_score" not in body:
            new = new.extra(min_score=0)  # it cannot be taken away
        return new

    def rewrite_many(self, texts: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """`rewrite` of several questions, in their order, which are encoded together.

        Args:
            texts: the questions.
            options: as for `rewrite`, for all of them.
        """
        terms_of = dict(zip(texts, self._weigh(texts), strict=True))
        return [
            self._of_question(text, lambda some: [terms_of[t] for t in some], **options)[0]
            for text in texts
        ]

    def rewrite_and_report(
        self, asked: str | dict[str, Any], **options: Any
    ) -> tuple[dict[str, Any], RewriteReport]:
        """The request, and what was done: which clauses, which not and why, what was pruned.

        Args:
            asked: a question, or the body of a request.
            options: as for `rewrite`, or for `rewrite_body`.
        """
        return self._rewritten(asked, self._weigh, **options)

    async def rewrite_async(self, asked: str | dict[str, Any], **options: Any) -> dict[str, Any]:
        """`rewrite`, or `rewrite_body`, for an event loop, which goes on while a thread encodes."""
        try:
            return self._rewritten(asked, self._weigh.kept, **options)[0]
        except NotKept:
            work = partial(self.rewrite_and_report, asked, **options)
            return (await in_encoding_thread(work))[0]

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

    def _rewritten(
        self, asked: str | dict[str, Any], weigh: Weigh, **options: Any
    ) -> tuple[dict[str, Any], RewriteReport]:
        if isinstance(asked, str):
            return self._of_question(asked, weigh, **options)
        return self._of_body(asked, weigh, **options)

    def _of_question(
        self,
        text: str,
        weigh: Weigh,
        *,
        form: str = "hybrid",
        size: int = 10,
        filter: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        **phases: int | None,
    ) -> tuple[dict[str, Any], RewriteReport]:
        check_question(text)
        wish = Wish(form, "expand", **self._phases(**phases))
        if form.endswith("two_phase") and self.collapse:
            raise InputError(
                f"form {form}: engines cannot rescore hits of an index of chunks, which are "
                "collapsed to documents; use hybrid or latent"
            )
        body, words = self.words_only(text, size=size, filter=filter), self._words(text)
        return rewritten_question(body, words, self._target(None), wish, weigh)

    def _of_body(
        self,
        body: dict[str, Any],
        weigh: Weigh,
        *,
        form: str = "hybrid",
        matching: str | None = None,
        fields: Sequence[str] | Mapping[str, str] | None = None,
        **phases: int | None,
    ) -> tuple[dict[str, Any], RewriteReport]:
        wish = Wish(form, matching, **self._phases(**phases))
        return rewritten(body, self._target(fields), wish, weigh)

    def _phases(self, head_terms: int | None = None, window: int | None = None) -> dict[str, Any]:
        return {
            "head_terms": self.head_terms if head_terms is None else head_terms,
            "window": self.window if window is None else window,
        }

    @cached_property
    def _fed(self) -> Collection[str]:
        return self._fed_by(None)

    def _fed_by(self, fields: Sequence[str] | Mapping[str, str] | None) -> Collection[str]:
        feeding = [*self.text_fields, *self.words_fields]
        return fed_fields(self.field, feeding, self._fields, fields)

    def _target(self, fields: Sequence[str] | Mapping[str, str] | None) -> Target:
        return Target(
            latent_field=self.field,
            fed=self._fed if fields is None else self._fed_by(fields),
            latent_boost=self.latent_boost,
            max_query_terms=self.max_query_terms,
            max_clauses=self.max_clauses,
            known_fields=self._fields,
        )

    def _words(self, text: str) -> dict[str, Any]:
        return words_clause(text, self.words_fields)

    def _frame(self, size: int) -> dict[str, Any]:
        frame = {
            "size": size,
            "_source": {"excludes": [self.field, hash_field(self.field)]},
            "track_total_hits": False,
        }
        return frame | ({"collapse": {"field": self.collapse}} if self.collapse else {})
