"""Questions, and request bodies of applications → request bodies that score by latent terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.application.endpoints import SEARCH, rewritten_for
from latent_ingest.connector.querying.application.search_object import rewritten_search
from latent_ingest.connector.querying.body import copied
from latent_ingest.connector.querying.clause_limit import ENGINE_CLAUSES, read_clause_limit
from latent_ingest.connector.querying.feedback.expansion import Expansion
from latent_ingest.connector.querying.feedback.first_hits import Hit, first_hits_request
from latent_ingest.connector.querying.feedback.index_feedback import IndexFeedback
from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
from latent_ingest.connector.querying.indices.fields import fed_fields
from latent_ingest.connector.querying.indices.source import Source
from latent_ingest.connector.querying.indices.statistics import STATISTICS_SECONDS, IndexStatistics
from latent_ingest.connector.querying.query_encoder import (
    CacheInfo,
    NotCached,
    QueryEncoder,
    in_encoding_thread,
)
from latent_ingest.connector.querying.report import TABLE, RewriteReport
from latent_ingest.connector.querying.request import Filter, Question, Target
from latent_ingest.connector.querying.rewriting import rewritten_question
from latent_ingest.connector.querying.scoring import (
    AUTO,
    HEAD_TERMS,
    LATENT_BOOST,
    MAX_QUERY_TERMS,
    WINDOW,
    Scoring,
    hybrid_boost,
)
from latent_ingest.connector.querying.term_weights import UnknownWords, Weigh, Weigher, WeightedTerm
from latent_ingest.mappings import LATENT_FIELD, PARENT_FIELD, WORDS_FIELD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from opensearchpy.helpers.search import Search

    from latent_ingest.connector.encoding.encoder import LatentEncoder


class QueryRewriter:
    """Rewrites questions and request bodies for an index of latent terms.

    It is read-only and thread-safe; `with_settings` returns another one.
    """

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
        source: Source | None = None,
    ) -> None:
        """Create a rewriter; `from_index` reads these settings from the index.

        Args:
            encoder: the model that made the index. A `QueryEncoder` is loaded on first use, and
                may be shared by several rewriters.
            field: the latent field.
            words_fields: fields in which the words of a question are searched.
            text_fields: other fields whose text is in the latent field.
            max_query_terms: maximum number of latent terms per text, the heaviest by `w * idf`.
            max_clauses: most clauses that the engine accepts in one query.
            latent_boost: factor on latent scores in hybrid forms. Use `hybrid_boost` for engines
                that keep BM25's factor k1 + 1.
            head_terms: latent terms that retrieve, in forms of two phases.
            window: hits per shard that are rescored, in forms of two phases.
            query_k: latents per token of a question; defaults to the model's k.
            collapse: field of which each value is one hit, as `parent_id` in an index of chunks.
            source: what `from_index` has read of the index.

        Raises:
            InputError: a setting is out of range.
        """
        most = max(max_clauses, ENGINE_CLAUSES)
        if not 1 <= max_query_terms <= most:
            raise InputError(f"max_query_terms {max_query_terms}: must be 1 to {most}")
        source = source or Source()
        self.scoring: Final = Scoring(latent_boost, max_query_terms, head_terms, window, query_k)
        self.latent_boost: Final = latent_boost
        self.max_query_terms: Final = max_query_terms
        self.head_terms: Final = head_terms
        self.window: Final = window
        self.field: Final = field
        self.words_fields: Final = list(words_fields)
        self.text_fields: Final = list(text_fields)
        self.max_clauses: Final = max_clauses
        self.collapse: Final = collapse
        self.index: Final = source.index
        """The name to send request bodies to: the indices that an alias stood for."""
        self.indices: Final = source.indices
        """Names of these indices. Request bodies are valid for them alone."""
        self._source = source
        known: Mapping[str, bool] = source.fields or {}
        # In numbers and keywords, words are searched only if they are words fields.
        texts = [name for name in text_fields if known.get(name, True)]
        self._feeding = list(dict.fromkeys([*texts, *words_fields]))
        fed = fed_fields(field, self._feeding, source.fields)
        self._target = Target(
            field,
            fed,
            source.fields,
            max_clauses,
            self.scoring,
            skips=source.engine.skips_in_blocks,
        )
        queries = QueryEncoder.of(encoder)
        self._queries = queries
        weigh = Weigher(
            queries,
            source.statistics,
            source.unchecked,
            query_k,
            source.table,
            source.n_latents,
        )
        self.feedback: Final = IndexFeedback(
            field,
            collapse,
            source.index,
            source.indices,
            source.fingerprint,
            max_query_terms,
            weigh.idf,
        )
        """Makes expansions of hits."""
        self._weigh = weigh

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "_weigh") and not name.startswith("_"):
            raise AttributeError(f"{name} is read-only; use with_settings({name}=...)")
        super().__setattr__(name, value)

    @classmethod
    def from_index(
        cls,
        client: OpenSearch | Client,
        index: str,
        encoder: LatentEncoder | QueryEncoder | str | Path | None = None,
        *,
        questions: str | None = None,
        **settings: Any,
    ) -> QueryRewriter:
        """Create a rewriter for an index, checked against its model and engine.

        Args:
            client: client of opensearch-py or `elasticsearch`.
            index: an index, an alias, a pattern, or several of these with commas, which must
                agree. Search the `index` of the rewriter, since an alias may move to an index of
                another model.
            encoder: the model that made the index, or its folder; defaults to minilm-32k.
                One that is not loaded yet is checked when it is loaded.
            questions: as for `QueryEncoder`, whose own is the default. By "table", questions are
                encoded by the question table of the index, which needs no model folder; by that of
                the model folder if the index has none. "engine" is the same without reading the
                table: each question is looked up by a request, so it suits few questions.
            settings: as for the constructor; they override those that `latent-ingest tune` stored
                in the index. And `statistics_seconds`: seconds after which the document
                frequencies of the index are read again; None to use those of the model.

        Raises:
            InputError: the client cannot be used, or a setting is out of range.
            MismatchError: an index does not exist, was not made by latent-ingest, or was made by
                another model; or several do not agree.
            EngineError: the engine cannot be reached, or refuses.
        """
        client = adapted(client)
        asked = AskedIndices.read(client, index)
        if questions is not None:
            if isinstance(encoder, QueryEncoder):
                raise InputError("give questions to the QueryEncoder, or a model instead of it")
            encoder = QueryEncoder(encoder, questions=questions)
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
        """Like `from_index`, for indices that were read; statistics are read in the background."""
        source = Source.read(client, asked, encoder, statistics_seconds)
        meta = asked.meta
        tuned = {"latent_boost": LATENT_BOOST, **(meta.query_settings or {})}
        boost = hybrid_boost(source.engine, meta.k1, tuned["latent_boost"])
        read = {
            "field": meta.latent_field,
            "words_fields": asked.words_fields,
            "text_fields": meta.text_fields,
            "collapse": PARENT_FIELD if meta.long == "chunks" else None,
            "max_clauses": read_clause_limit(client),
            "source": source,
        }
        return cls(encoder, **{**read, **tuned, "latent_boost": boost, **settings})

    def with_settings(self, **settings: Any) -> QueryRewriter:
        """Return a rewriter with other settings, which shares the encoder and the statistics.

        Args:
            settings: as for the constructor; all others stay as they are.
        """
        names = ("field", "words_fields", "text_fields", "max_clauses", "collapse")
        same: dict[str, Any] = {name: getattr(self, name) for name in names}
        same |= {**asdict(self.scoring), "source": self._source}
        return QueryRewriter(self._queries, **{**same, **settings})

    @property
    def encoder(self) -> LatentEncoder:
        """The model, which is loaded now if it was not yet; raises as `rewrite`."""
        return self._weigh.model()

    @property
    def fingerprint(self) -> str | None:
        """Digest of the model that made the index; None without an index."""
        return self._source.fingerprint

    @property
    def statistics(self) -> IndexStatistics | None:
        """Document frequencies of the index; if None, those of the model choose terms."""
        return self._source.statistics

    def cache_info(self) -> CacheInfo:
        """Return the hits and misses of the cache of encodings."""
        return self._queries.cache_info()

    def terms(self, text: str) -> list[WeightedTerm]:
        """Return the latent terms of a question, heaviest by `w * idf` first."""
        return list(self._weigh([text])[0][: self.max_query_terms])

    def rewrite(
        self,
        text: str,
        *,
        form: str = AUTO,
        size: int = 10,
        filter: Filter = None,
        head_terms: int | None = None,
        window: int | None = None,
        expansion: Expansion | str | None = None,
    ) -> dict[str, Any]:
        """Return the request body for a question.

        Args:
            text: the question. If its words leave too little room for latent terms, latent terms
                alone score.
            form: "hybrid", "latent", "two_phase", "hybrid_two_phase", or "auto": hybrid, in one
                phase or two, whichever costs an engine less by the index's document frequencies.
            size: number of hits.
            filter: query clauses that hits must match and that do not score.
            head_terms: defaults to the `head_terms` of the rewriter.
            window: defaults to the `window` of the rewriter, or to `size` if that is larger.
            expansion: latent terms that the question takes over from documents, see `expand`, or
                the token of them.

        Returns:
            A body for `client.search(index=..., body=...)`. Hits come without the latent field,
            and totals are not counted, so that the engine can skip documents that cannot win.

        Raises:
            InputError: an empty question, an unknown form, or two phases in an index of chunks,
                since no engine rescores collapsed hits.
            ModelError: the model cannot be loaded, or gives NaN.
            MismatchError: the model is loaded now, and did not make the index; or the expansion is
                of another model.
        """
        of = partial(self._of_question, text, self._weigh, form, size, filter, head_terms, window)
        return of(expansion)[0]

    def rewrite_body(
        self,
        body: dict[str, Any] | str,
        *,
        form: str = AUTO,
        matching: str | None = None,
        fields: Sequence[str] | Mapping[str, str] | None = None,
        head_terms: int | None = None,
        window: int | None = None,
        endpoint: str = SEARCH,
        expansion: Expansion | str | None = None,
    ) -> dict[str, Any]:
        """Return a request body of an application with its text clauses scored by meaning.

        Each text clause that scores is replaced by one clause; filters, aggregations and all else
        stay. A body that was rewritten is returned as it is.

        Args:
            body: body of a search request, or its JSON; it is not changed.
            form: as for `rewrite`. If hits cannot be rescored, the form in one phase is used.
            matching: "expand": documents without a common word match too. "keep": words decide
                what matches, and latent terms only score, so that totals and aggregations stay.
                Defaults to "keep" if the request aggregates, is not sorted by score, asks for
                exact totals or for no hits, or runs a script; and for single clauses that demand
                more than one word, as by `operator: and`, or if a `bool` demands several of them.
                Words always decide for query strings with operators.
            fields: fields on which clauses are rewritten, or a mapping of them to the latent
                field; defaults to all fields whose text is in the latent field.
            head_terms: as for `rewrite`, per clause.
            window: as for `rewrite`.
            endpoint: what the body is for: "_search", or "_count", "_delete_by_query",
                "_update_by_query", "_explain" or "_validate/query". The new body has only what
                this takes; for the first three of these, it matches what the words match.
            expansion: as for `rewrite`, for each clause.

        Returns:
            The new body. Hits come without the latent field unless the body has its own `_source`.

        Raises:
            InputError: the body is not an object, or is a search template; or an unknown form,
                matching, field or endpoint; or the endpoint would match other documents.
            ModelError: the model cannot be loaded, or gives NaN.
            MismatchError: as for `rewrite`.
        """
        of = partial(self._of_body, body, self._weigh, form, matching, fields, head_terms, window)
        return of(endpoint, expansion)[0]

    def rewrite_search(self, search: Search, **settings: Any) -> Search:
        """Return `rewrite_body` of a `Search` of opensearch-py: a new one, of the same classes.

        Args:
            search: the search; it is not changed.
            settings: as for `rewrite_body`.
        """
        return rewritten_search(search, partial(self.rewrite_body, **settings))

    def rewrite_many(self, texts: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """Return `rewrite` of several questions, in their order; they are encoded together.

        Args:
            texts: the questions.
            options: as for `rewrite`, for all of them.
        """
        terms_of = dict(zip(texts, self._weigh(texts), strict=True))

        def known(some: Sequence[str]) -> list[list[WeightedTerm]]:
            return [terms_of[text] for text in some]

        return [self._of_question(text, known, **options)[0] for text in texts]

    def rewrite_and_report(
        self, asked: str | dict[str, Any], **options: Any
    ) -> tuple[dict[str, Any], RewriteReport]:
        """Return the request body and a report: clauses rewritten or not and why, terms pruned.

        Args:
            asked: a question, or a request body.
            options: as for `rewrite`, or as for `rewrite_body`.
        """
        body, report = self._rewritten(asked, self._weigh, **options)
        if self.table and report.texts:
            report = replace(
                report,
                questions="table",
                table=self.table,
                **self._weigh.unknown(report.texts)._asdict(),
            )
        return body, report

    @property
    def table(self) -> str | None:
        """The question table that encodes questions, in words; None if the model does."""
        if not self._queries.by_table:
            return None
        table = self._weigh.by_table
        return table.described if table else TABLE

    def idf(self) -> NDArray[np.float32]:
        """Return the idf of each latent, `[n_latents]`: that of the index, else the model's."""
        return self._weigh.idf()

    def unknown(self, text: str) -> UnknownWords:
        """Return the words of a question that the table lacks; none if the model encodes.

        The analyzer of the index leaves all of these out, so that plain queries search for them by
        words alone.
        """
        return self._weigh.unknown([text])

    async def rewrite_async(self, asked: str | dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return `rewrite` or `rewrite_body` without blocking the event loop: a thread encodes."""
        return (await self.rewrite_and_report_async(asked, **options))[0]

    async def rewrite_and_report_async(
        self, asked: str | dict[str, Any], **options: Any
    ) -> tuple[dict[str, Any], RewriteReport]:
        """Return the request body of `rewrite_async`, and its report."""
        try:
            return self._rewritten(asked, self._weigh.cached, **options)
        except NotCached:
            work = partial(self.rewrite_and_report, asked, **options)
            return await in_encoding_thread(work)

    def first_hits_request(self, asked: str | dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return the request for the first hits, whose latent terms `expand` takes over.

        Args:
            asked: a question, or a request body.
            options: as for `rewrite`, or as for `rewrite_body`.
        """
        return first_hits_request(self._rewritten(asked, self._weigh, **options)[0], self.field)

    def expand(
        self, asked: str | dict[str, Any], hits: Sequence[Hit], **options: Any
    ) -> dict[str, Any]:
        """Return the request body for a question that takes over latent terms of its first hits.

        Args:
            asked: a question, or a request body.
            hits: the hits of the response to `first_hits_request`; or others whose `_source` has
                the latent field, the best first.
            options: as for `rewrite`, or as for `rewrite_body`.

        Returns:
            The body. It is that of `rewrite` or `rewrite_body` if the hits hold no latent terms;
            `rewrite_and_report` with `expansion_of(hits)` says so.
        """
        expansion = self.expansion_of(hits)
        return self._rewritten(asked, self._weigh, **options, expansion=expansion)[0]

    def expansion_of(
        self,
        hits: Sequence[Hit],
        *,
        against: Sequence[Hit] = (),
        by_rank: bool = True,
    ) -> Expansion:
        """Return the latent terms that a question takes over from hits, as for `expand`.

        Args:
            hits: hits whose `_source` has the latent field; those of other indices are left out.
            against: hits whose latent terms are taken away.
            by_rank: whether later hits count for less.
        """
        return self.feedback.of_hits(hits, against=against, by_rank=by_rank)

    def words_only(self, text: str, *, size: int = 10, filter: Filter = None) -> dict[str, Any]:
        """Return the request body that searches the words of a question alone, to compare."""
        return self._question(text, size, filter).body()

    def _question(self, text: str, size: int, filter: Filter) -> Question:
        with suppress(RecursionError):  # some 150 nested clauses are not copied
            filter = copied(filter)
        return Question(text, self.words_fields, self.field, self.collapse, size, filter)

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
        form: str = AUTO,
        size: int = 10,
        filter: Filter = None,
        head_terms: int | None = None,
        window: int | None = None,
        expansion: Expansion | str | None = None,
    ) -> tuple[dict[str, Any], RewriteReport]:
        target = self._asked(form, "expand", head_terms, window)
        used, weigh = self.feedback.added(expansion, weigh)
        body, report = rewritten_question(self._question(text, size, filter), target, weigh)
        return body, replace(report, feedback=used)

    def _asked(
        self, form: str, matching: str | None, head_terms: int | None, window: int | None
    ) -> Target:
        """Return the target of one request; its cost is that of the index as it is now."""
        known = self.statistics.frequencies if self.statistics else None
        target = replace(self._target, n_documents=known.n_documents if known else 0)
        return target.asked(form, matching, head_terms, window)

    def _of_body(
        self,
        body: dict[str, Any] | str,
        weigh: Weigh,
        form: str = AUTO,
        matching: str | None = None,
        fields: Sequence[str] | Mapping[str, str] | None = None,
        head_terms: int | None = None,
        window: int | None = None,
        endpoint: str = SEARCH,
        expansion: Expansion | str | None = None,
    ) -> tuple[dict[str, Any], RewriteReport]:
        target = self._asked(form, matching, head_terms, window)
        if fields is not None:
            fed = fed_fields(self.field, self._feeding, self._source.fields, fields)
            target = replace(target, fed=fed)
        used, weigh = self.feedback.added(expansion, weigh, body if endpoint == SEARCH else None)
        made, report = rewritten_for(endpoint, body, target, weigh)
        return made, replace(report, feedback=used)
