"""Request bodies: the one for a question, and the options of one that is rewritten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.asked_indices import IndexFields
from latent_ingest.connector.querying.clause_limit import count_clauses, room_for
from latent_ingest.connector.querying.clauses import (
    Clause,
    any_of,
    beside,
    fed_boosts,
    field_boosts,
    other_fields,
)
from latent_ingest.connector.querying.report import (
    RewriteReport,
    RewrittenClause,
    UntouchedClause,
)
from latent_ingest.connector.querying.scoring import MATCHINGS, Form, Scoring
from latent_ingest.connector.querying.term_weights import Weigh, WeightedTerm, share_of
from latent_ingest.mappings import hash_field

# Hits that engines count exactly, and rescore at most, unless told otherwise.
COUNTED_HITS = 10_000
LARGEST_WINDOW = 10_000

DEFAULT_SIZE = 10

BY_SCORE: tuple[list[str], ...] = ([], ["_score"])

# Score of words in several fields: that of the best field, and half of the others'. nDCG@10 of
# words alone in title and text, on the training judgements of SciFact and the dev judgements of
# NFCorpus: .694 and .296; cross_fields .689 and .283; one field for both .699 and .289.
TIE_BREAKER = 0.5

NO_HITS = "no hits are asked for"

Filter = dict[str, Any] | Sequence[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Target:
    """The index that a request is for, and how the request is to score."""

    latent_field: str
    fed: Collection[str]
    """Fields whose text is in the latent field."""
    known_fields: IndexFields | None
    """All fields of the index; None if unknown."""
    max_clauses: int
    """Most clauses that the engine accepts in one query."""
    scoring: Scoring
    form: Form = Form.HYBRID
    matching: str | None = None
    """"expand" or "keep"; None for the one that suits the request."""

    def __post_init__(self) -> None:
        if self.matching not in (None, *MATCHINGS):
            raise InputError(f"matching {self.matching!r}: use expand or keep")

    def asked(
        self,
        form: str,
        matching: str | None,
        head_terms: int | None = None,
        window: int | None = None,
    ) -> Target:
        """Return the target for one request, with the options that are not None."""
        target = replace(self, form=Form(form), matching=matching)
        phases = {"head_terms": head_terms, "window": window}
        given = {name: number for name, number in phases.items() if number is not None}
        return replace(target, scoring=replace(self.scoring, **given)) if given else target

    def room_for(self, queries: Sequence[object], removed: Sequence[object] = ()) -> int:
        """Return how many clauses may be added; see `clause_limit.room_for`."""
        return room_for(queries, removed, self.max_clauses, self.known_fields)


def check_question(text: str) -> None:
    """Raise InputError if a question is empty."""
    if not any(letter.isprintable() and not letter.isspace() for letter in text):
        raise InputError("the question is empty; write one")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the request body around its query."""

    text: str
    fields: Sequence[str]
    """Fields in which its words are searched."""
    latent_field: str
    collapse: str | None
    """Field of which each value is one hit."""
    size: int
    """Number of hits."""
    filter: Filter
    """Clauses that hits must match and that do not score."""

    @property
    def words(self) -> Clause:
        """The clause that searches its words."""
        if len(self.fields) == 1:
            return {"match": {self.fields[0]: {"query": self.text}}}
        options = {"query": self.text, "fields": list(self.fields), "tie_breaker": TIE_BREAKER}
        return {"multi_match": options}

    def filtered(self, query: Clause) -> Clause:
        """Return `query` with its scores unchanged, restricted to documents that match `filter`."""
        if not self.filter:
            return query
        filters = [self.filter] if isinstance(self.filter, dict) else list(self.filter)
        return {"bool": {"must": [query], "filter": filters}}

    def body(self, query: Clause) -> dict[str, Any]:
        """Return the request body with a query; hits come without the latent field."""
        frame: dict[str, Any] = {
            "size": self.size,
            "_source": {"excludes": [self.latent_field, hash_field(self.latent_field)]},
            "track_total_hits": False,
        }
        if self.collapse:
            frame["collapse"] = {"field": self.collapse}
        return {**frame, "query": self.filtered(query)}

    def rewritten(self, target: Target, weigh: Weigh) -> tuple[dict[str, Any], RewriteReport]:
        """Return the request body that scores by latent terms, and the report."""
        check_question(self.text)
        if target.form.two_phases and self.collapse:
            raise InputError(
                f"form {target.form}: engines cannot rescore hits of an index of chunks, which "
                "are collapsed to documents; use hybrid or latent"
            )
        words, scoring = self.words, target.scoring
        every = weigh([self.text])[0]
        terms = every[: scoring.max_query_terms]
        form, notes = self._form_beside(words, target)
        room = target.room_for([self.filtered(words)], [] if form.words_score else [words])
        if form.two_phases and self.size == 0 and terms and room:
            notes.append(f"{form.one_phase} instead of {form}: {NO_HITS}")
            form = form.one_phase
        heads = terms[: min(room, scoring.head_terms if form.two_phases else room)]
        tail = terms[len(heads) :][: target.max_clauses] if form.two_phases and heads else []
        boosts = self._boosts()
        fed = fed_boosts(boosts, target.fed)
        boost = sum(fed.values()) / len(fed) if fed else 1.0
        boost *= scoring.latent_boost if form.words_score else 1.0
        latent = any_of(heads, target.latent_field, boost)
        query = beside(words, latent, keep=False, words_score=form.words_score) if heads else words
        body = self.body(query)
        if tail:
            rescored = {"rescore_query": any_of(tail, target.latent_field, boost)}
            body["rescore"] = {"window_size": window_for(body, scoring.window), "query": rescored}
        clause = RewrittenClause(
            path=self._path,
            fields=tuple(fed),
            other_fields=other_fields(boosts, target.fed, target.known_fields),
            form=form,
            matching="expand",
            terms=len(heads) + len(tail),
            share=share_of(every, len(heads) + len(tail)),
        )
        rewritten = (clause,) if heads else ()
        untouched = () if heads else (UntouchedClause(self._path, why_no_latents(terms)),)
        asked = ("expand", "as asked for")
        return body, RewriteReport(target.form, *asked, rewritten, untouched, tuple(notes))

    @property
    def _path(self) -> str:
        """The path of the words in the request body of words alone."""
        (kind,) = self.words
        return f"query.bool.must[0].{kind}" if self.filter else f"query.{kind}"

    def _boosts(self) -> dict[str, float]:
        """Return field or pattern → boost."""
        if len(self.fields) == 1:
            return {self.fields[0]: 1.0}
        try:
            return dict(field_boosts("multi_match", {"fields": self.fields}))
        except ValueError as error:
            raise InputError(f"words_fields {', '.join(self.fields)}: {error}") from error

    def _form_beside(self, words: Clause, target: Target) -> tuple[Form, list[str]]:
        """Return the form of the request, and a note if words leave no room for latent terms.

        Words score while all latent terms that a question may have fit in beside them; if the
        engine accepts few clauses, while words need at most half of these.
        """
        n_words, _ = count_clauses(words, target.known_fields)
        room = target.room_for([self.filtered(words)], [words])
        form = target.form
        if not form.words_score or n_words <= max(room - target.scoring.max_query_terms, room // 2):
            return form, []
        alone = form.latent_only
        note = f"{alone} instead of {form}: beside {n_words:,} words there is too little room"
        return alone, [note]


def why_no_latents(terms: Sequence[WeightedTerm]) -> str:
    """Return the reason why a clause gets no latent terms."""
    if terms:
        return "no room for latent terms beside the other clauses of the request"
    return "its text has no latent terms"


def matching_for(body: dict[str, Any]) -> tuple[str, str]:
    """Return the matching that suits a request, and the reason."""
    totals = str(body.get("track_total_hits")).lower()  # engines accept "true" and "20000" too
    if body.get("aggs") or body.get("aggregations"):
        return "keep", "the request aggregates"
    if totals == "true" or (totals.isdecimal() and int(totals) > COUNTED_HITS):
        return "keep", "the request asks for exact totals"
    if asks_for_none(body):
        return "keep", "the request asks for no hits, only for their number"
    if sort_keys(body)[:1] not in BY_SCORE:
        return "keep", "the hits are not sorted by score"
    return "expand", "the request neither aggregates, nor sorts, nor asks for exact totals"


def one_phase_because(body: dict[str, Any], keep: bool) -> str | None:
    """Return the reason why hits cannot be rescored; None if they can."""
    if sort_keys(body) not in BY_SCORE:
        return "engines do not rescore sorted hits"
    for name in ("collapse", "search_after"):
        if body.get(name) is not None:
            return f"engines do not rescore hits with {name}"
    if body.get("indices_boost"):
        return "indices_boost does not count where hits are rescored"
    if asks_for_none(body):
        return NO_HITS
    if "min_score" in body and not keep:
        return "min_score is compared before hits are rescored"
    return None


def asks_for_none(body: dict[str, Any]) -> bool:
    """Return whether a request asks for no hits."""
    return str(body.get("size")) == "0"


def sort_keys(body: dict[str, Any]) -> list[str]:
    """Return the sort keys of a request; the lowest score first is not `_score`."""
    sort = body.get("sort") or []
    keys = []
    for entry in sort if isinstance(sort, list) else [sort]:
        for key, order in entry.items() if isinstance(entry, dict) else [(entry, None)]:
            order = order.get("order") if isinstance(order, dict) else order
            upwards = key == "_score" and str(order).lower() == "asc"
            keys.append("_score, lowest first" if upwards else str(key))
    return keys


def window_for(body: dict[str, Any], window: int) -> int:
    """Return the hits per shard to rescore: all that the request pages through, or `window`."""
    try:
        last = int(body.get("from") or 0) + int(body.get("size", DEFAULT_SIZE))
    except (TypeError, ValueError):
        last = DEFAULT_SIZE
    return max(window, min(last, LARGEST_WINDOW))


def with_min_score_of(query: Any, words: Any, min_score: Any) -> dict[str, Any]:
    """Restrict `query` to documents that score at least `min_score` by `words`."""
    scored = {"function_score": {"query": once_more(words), "min_score": min_score}}
    return {"bool": {"must": [query], "filter": [scored]}}


def once_more(query: Any) -> Any:
    """Copy a query for the same request, without `inner_hits`, which engines accept once."""
    if isinstance(query, (list, tuple)):
        return [once_more(part) for part in query]
    if not isinstance(query, dict):
        return query
    left_out = "inner_hits" if "query" in query else None
    return {name: once_more(part) for name, part in query.items() if name != left_out}
