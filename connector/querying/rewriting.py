"""Rewriting of a request body: its text clauses score by latent terms as well.

request body → text clauses → their latent terms → the clauses that the engine accepts, shared
→ one clause in place of each → request body, report
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.body import (
    BodyWalk,
    FoundClause,
    Path,
    copied,
    put,
    value_at,
)
from latent_ingest.connector.querying.clause_limit import count_clauses, shares
from latent_ingest.connector.querying.clauses import Clause, any_of, beside, words_alone
from latent_ingest.connector.querying.report import (
    AS_ASKED,
    RewriteReport,
    RewrittenClause,
    UntouchedClause,
)
from latent_ingest.connector.querying.request import (
    Question,
    Target,
    check_body,
    check_question,
    least_window,
    matching_for,
    one_phase_because,
)
from latent_ingest.connector.querying.scoring import (
    BLOCK,
    POSTING,
    POSTING_NOT_SKIPPED,
    RESCORING_BLOCK,
    RESCORING_TERM,
    TERM,
    WORTH_TWO_PHASES,
    Form,
    Scoring,
)
from latent_ingest.connector.querying.term_weights import Weigh, WeightedTerm, share_of
from latent_ingest.mappings import hash_field


@dataclass(slots=True)
class Plan:
    """How one clause is rewritten."""

    found: FoundClause
    form: Form
    keep: bool
    """Whether its words decide what it matches."""
    notes: list[str]
    terms: Sequence[WeightedTerm] = ()
    """All latent terms of its text."""
    heads: int = 0
    """Number of terms in the clause, the heaviest."""
    wide: int = 0
    """Number of the next terms, which rescore the whole window."""
    narrow: int = 0
    """Number of the rest, which rescore its first hits."""

    @property
    def used(self) -> int:
        return self.heads + self.wide + self.narrow

    @property
    def rescoring(self) -> tuple[slice, slice]:
        """The terms that rescore the whole window, and those that rescore its first hits."""
        at = self.heads + self.wide
        return slice(self.heads, at), slice(at, self.used)

    @property
    def words_stay(self) -> bool:
        return self.form.words_score or self.keep

    @property
    def words_retrieve(self) -> bool:
        """Whether words alone retrieve, and the rescore has all latent terms.

        Words then decide what matches, so heads would save nothing: all that match would be scored.
        """
        return self.keep and self.form is Form.HYBRID_TWO_PHASE

    def rewritten(self) -> RewrittenClause:
        """Return the entry of the report for a clause that has latent terms."""
        clause, used = self.found.clause, self.used
        return RewrittenClause(
            path=self.found.name,
            fields=clause.fields,
            other_fields=clause.others,
            form=self.form,
            matching="keep" if self.keep else "expand",
            terms=used,
            share=share_of(self.terms, used),
            notes=tuple(self.notes),
        )

    def untouched(self) -> UntouchedClause:
        """Return the entry of the report for a clause that has none."""
        no_room = "no room for latent terms beside the other clauses of the request"
        reason = no_room if self.terms else "its text has no latent terms"
        return UntouchedClause(self.found.name, reason)


def rewritten(body: object, target: Target, weigh: Weigh) -> tuple[dict[str, Any], RewriteReport]:
    """Return the body with its text clauses rewritten, and the report; `body` is not changed.

    Raises:
        InputError: the body is not an object, or is a search template.
    """
    body = check_body(body)
    asked = (target.matching, AS_ASKED) if target.matching else None
    try:
        result: dict[str, Any] = copied(body)
    except RecursionError:  # some 150 nested clauses, which engines accept
        left = (UntouchedClause("query", "nested too deeply to be looked into"),)
        return dict(body), RewriteReport(target.form, *(asked or matching_for(body)), (), left, ())
    matching, why = asked or matching_for(result)
    walk = BodyWalk(target.latent_field, target.fed, matching == "keep", target.known_fields)
    walk.walk(result)
    given = body
    if target.known_fields and target.known_fields.by_meaning:
        for found in walk.found:
            put(result, found.path, words_alone(value_at(result, found.path), target.known_fields))
        given = copied(result)
    report = rewrite_clauses(result, given, walk.found, target, weigh, matching, why)
    return result, replace(report, untouched=(*walk.untouched, *report.untouched))


def rewritten_question(
    question: Question, target: Target, weigh: Weigh
) -> tuple[dict[str, Any], RewriteReport]:
    """Return the request body that scores a question by latent terms, and the report.

    Raises:
        InputError: the question is empty, or hits of an index of chunks would be rescored.
    """
    check_question(question.text)
    asked = target.form
    if asked.two_phases and question.collapse:
        raise InputError(
            f"form {asked}: engines cannot rescore hits of an index of chunks, which are "
            "collapsed to documents; use hybrid or latent"
        )
    body, notes = question.body(), []
    n_words, _ = count_clauses(question.words, target.known_fields)
    room = target.room_for([body["query"]], [question.words])
    # Words score while all latent terms that a question may have fit in beside them; if the engine
    # accepts few clauses, while words need at most half of these.
    if asked.words_score and n_words > max(room - target.scoring.max_query_terms, room // 2):
        target = replace(target, form=asked.latent_only)
        notes.append(
            f"{target.form} instead of {asked}: beside {n_words:,} words there is too little room"
        )
    found = [question.found(target)]
    report = rewrite_clauses(body, body, found, target, weigh, "expand", AS_ASKED)
    form = report.form if target.auto else asked
    return body, replace(report, form=form, notes=(*notes, *report.notes))


def rewrite_clauses(
    body: Clause,
    given: Clause,
    found: Sequence[FoundClause],
    target: Target,
    weigh: Weigh,
    matching: str,
    why: str,
) -> RewriteReport:
    """Rewrite the clauses found in `body`, a copy of `given`; return the report."""
    keep = matching == "keep"
    obstacle = one_phase_because(body, keep)
    texts = list(dict.fromkeys(clause.clause.text for clause in found))
    weighed = dict(zip(texts, weigh(texts), strict=True)) if texts else {}

    def planned(target: Target) -> list[Plan]:
        plans = [plan_of(clause, target, keep, obstacle) for clause in found]
        for plan in plans:
            plan.terms = weighed[plan.found.clause.text]
        share_clauses(plans, body, target)
        return plans

    plans, form_why = planned(target), AS_ASKED
    if target.auto:
        known = "one phase costs less" if target.n_documents else "document frequencies are unknown"
        form_why = f"auto: {obstacle or known}"
    if target.auto and target.n_documents and not obstacle:
        postings = {text: postings_of(terms, target.n_documents) for text, terms in weighed.items()}
        in_two = replace(target, form=target.form.two_phase)
        others = planned(in_two)
        windows = windows_for(others, body, target.scoring)
        one, two = (cost(some, postings, windows, skips=target.skips) for some in (plans, others))
        if two < one * WORTH_TWO_PHASES:
            plans, target = others, in_two
            form_why = (
                f"auto: latent terms take some {two / 1000:.0f} ms instead of "
                f"{one / 1000:.0f} ms in an index of {target.n_documents:,} documents"
            )
    form = target.form
    used = [plan for plan in plans if plan.used]
    put_clauses(body, used, target)
    notes = adapt_options(body, given, used, target.latent_field, keep)
    if obstacle and used and form.two_phases:
        notes = [f"{form.one_phase} instead of {form}: {obstacle}", *notes]
    return RewriteReport(
        form=form,
        form_why=form_why,
        matching=matching,
        why=why,
        rewritten=tuple(plan.rewritten() for plan in used),
        untouched=tuple(plan.untouched() for plan in plans if not plan.used),
        notes=tuple(notes),
        texts=tuple(texts),
    )


def plan_of(found: FoundClause, target: Target, keep: bool, obstacle: str | None) -> Plan:
    """Choose the form of one clause, and whether its words decide what it matches."""
    form, notes = target.form, []
    if form.two_phases and (obstacle or found.factor is None):
        form = form.one_phase
        if not obstacle:
            notes.append(
                "in one phase, since it rescores"
                if found.rescoring
                else "in one phase, since its score is not simply added to that of each hit"
            )
    demands, expand_asked = found.clause.demands, target.matching == "expand"
    if demands is None and found.one_of_several and not expand_asked:
        demands = "its bool asks for several clauses"
    may_expand = expand_asked and form.words_score and not found.clause.strict
    words_decide = demands is not None and not may_expand
    if words_decide:
        notes.append(f"{demands}: its words decide what it matches")
    # A rescore matches nothing, it only scores.
    return Plan(found, form, words_decide or (keep and not found.rescoring), notes)


def share_clauses(plans: Sequence[Plan], body: Clause, target: Target) -> None:
    """Share the clauses that the engine accepts beside those of the request among the plans."""
    scoring = target.scoring
    queries: dict[Path, list[Plan]] = {}
    for plan in plans:
        queries.setdefault(plan.found.query, []).append(plan)
    for path, some in queries.items():
        removed = [value_at(body, plan.found.path) for plan in some if not plan.words_stay]
        # With a `min_score`, a filter may repeat the words.
        times = 2 if "min_score" in body else 1
        room = target.room_for([value_at(body, path)] * times, removed)
        most = min(scoring.max_query_terms, scoring.head_terms)
        wanted = [
            0
            if plan.words_retrieve
            else min(len(plan.terms), most if plan.form.two_phases else scoring.max_query_terms)
            for plan in some
        ]
        for plan, given in zip(some, shares(wanted, room), strict=True):
            plan.heads = given
    two = [plan for plan in plans if plan.form.two_phases and (plan.heads or plan.words_retrieve)]
    wanted = [min(len(plan.terms), scoring.max_query_terms) - plan.heads for plan in two]
    room = target.room_for([value_at(body, plan.found.path) for plan in two if plan.keep])
    for plan, given in zip(two, shares(wanted, room), strict=True):
        plan.wide = min(given, max(0, scoring.wide_terms - plan.heads))
        plan.narrow = given - plan.wide


def postings_of(terms: Sequence[WeightedTerm], n_documents: int) -> list[float]:
    """Return the number of documents that have each term, from its idf."""
    # idf = ln((N + 1) / (n + .5)), or 0 for a term that no document has.
    return [(n_documents + 1) / exp(term.idf) if term.idf else 0.0 for term in terms]


def cost(
    plans: Sequence[Plan],
    postings: Mapping[str, Sequence[float]],
    windows: tuple[int, int],
    *,
    skips: bool = True,
) -> float:
    """Return the microseconds that latent terms take about, in an index of one shard.

    Args:
        plans: how the clauses are rewritten.
        postings: text of a clause → documents that have each of its terms.
        windows: hits that are rescored, and those of them that all terms rescore.
        skips: whether the engine skips in blocks.
    """
    total = 0.0
    for plan in plans:
        found = postings[plan.found.clause.text]
        of_heads = sum(found[: plan.heads])
        posting = POSTING if skips and not plan.keep else POSTING_NOT_SKIPPED
        total += TERM * plan.heads + posting * of_heads
        for window, some in zip(windows, plan.rescoring, strict=True):
            blocks = sum(min(window, n / BLOCK) for n in found[some])
            total += RESCORING_TERM * len(found[some]) + RESCORING_BLOCK * blocks
    return total


def windows_for(plans: Sequence[Plan], body: Clause, scoring: Scoring) -> tuple[int, int]:
    """Return `Scoring.windows` of a request."""
    words_retrieve = any(plan.words_retrieve for plan in plans)
    return scoring.windows(least_window(body), words_retrieve=words_retrieve)


def put_clauses(body: Clause, plans: Sequence[Plan], target: Target) -> None:
    """Replace the clauses of the plans in `body`, and add their second phase to it."""
    field = target.latent_field
    phases: tuple[list[Clause], list[Clause]] = ([], [])
    for plan in plans:
        words, score = value_at(body, plan.found.path), plan.form.words_score
        boost = plan.found.clause.boost * (target.scoring.latent_boost if score else 1.0)
        if plan.heads:
            latent = any_of(plan.terms[: plan.heads], field, boost)
            put(body, plan.found.path, beside(words, latent, keep=plan.keep, words_score=score))
        factor = 1.0 if plan.found.factor is None else plan.found.factor
        for phase, some in zip(phases, plan.rescoring, strict=True):
            if rest := plan.terms[some]:
                added = any_of(rest, field, boost * factor)
                if plan.keep:
                    added["bool"]["filter"] = [copied(words, inner_hits=False)]
                phase.append(added)
    ours = [
        {
            "window_size": window,
            "query": {"rescore_query": some[0] if len(some) == 1 else {"bool": {"should": some}}},
        }
        for window, some in zip(windows_for(plans, body, target.scoring), phases, strict=True)
        if some
    ]
    if ours:
        theirs = body.get("rescore") or []
        every = [*ours, *(theirs if isinstance(theirs, list) else [theirs])]
        body["rescore"] = every if len(every) > 1 else every[0]


def adapt_options(
    body: Clause, given: Clause, plans: Sequence[Plan], latent_field: str, keep: bool
) -> list[str]:
    """Adapt `min_score`, `highlight` and `_source` of the rewritten body; return notes."""
    notes = []
    if "min_score" in body and any(not plan.found.rescoring for plan in plans):
        if keep:
            scored = {
                "query": copied(given["query"], inner_hits=False),
                "min_score": body.pop("min_score"),
            }
            filters = [{"function_score": scored}]
            body["query"] = {"bool": {"must": [body["query"]], "filter": filters}}
            notes.append("min_score: moved into a filter, where it is compared with word scores")
        else:
            notes.append("min_score: compared with scores that include latent terms")
    highlight = body.get("highlight")
    if isinstance(highlight, dict) and any(
        not (plan.words_stay or plan.found.rescoring) for plan in plans
    ):
        # Words that are no longer in the query are highlighted all the same.
        body["highlight"] = {
            "highlight_query": copied(given["query"], inner_hits=False),
            **highlight,
        }
    if "_source" not in body and "stored_fields" not in body:
        body["_source"] = {"excludes": [latent_field, hash_field(latent_field)]}
    return notes
