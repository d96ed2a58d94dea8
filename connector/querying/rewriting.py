"""One search request → the same with its text clauses scored by meaning, and a report.

request body → text clauses → their latent terms → shares of what the engine takes
→ one clause in place of each → request body

Four forms:

hybrid            words stay, latent terms are added at a small boost
latent            latent terms in place of words
two_phase         latent; the heaviest terms retrieve, a rescore adds the rest
hybrid_two_phase  hybrid, its latent terms in two phases
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
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
from latent_ingest.connector.querying.clause_limit import room_for, shares
from latent_ingest.connector.querying.clauses import Clause, WeightedTerm, any_of, beside
from latent_ingest.connector.querying.fields import IndexFields
from latent_ingest.connector.querying.report import (
    RewriteReport,
    RewrittenClause,
    UntouchedClause,
)
from latent_ingest.connector.querying.request import (
    matching_for,
    once_more,
    one_phase_because,
    window_for,
    with_min_score_of,
)
from latent_ingest.mappings import hash_field

FORMS = ("hybrid", "latent", "two_phase", "hybrid_two_phase")
MATCHINGS = ("expand", "keep")

# What a form of two phases is in one.
ONE_PHASE = {"two_phase": "latent", "hybrid_two_phase": "hybrid"}

# nDCG@10 on the training judgements of SciFact and the dev ones of NFCorpus, with 64, 96, 128, 192
# and 512: latent .702, .706, .712, .714, .714 (claims of 20 words) and .330 for all of them (a few
# words); hybrid .734, .735, .736, .736, .736.
MAX_QUERY_TERMS = 192

# Of the terms of a two-phase query, those with the largest `w * idf`: 32 heads and a window of
# 200 keep 97 to 99 % of the top 10 at a twentieth of the postings.
HEAD_TERMS = 32
WINDOW = 200

Weigh = Callable[[Sequence[str]], Sequence[Sequence[WeightedTerm]]]
"""Texts → the latent terms of each, heaviest by `w * idf` first."""


@dataclass(frozen=True, slots=True)
class Target:
    """The index that requests are rewritten for."""

    latent_field: str
    fed: Collection[str]
    """Fields whose text is in the latent field."""
    latent_boost: float
    """Factor on latent scores beside words."""
    max_query_terms: int
    """Latent terms of a clause at most."""
    max_clauses: int
    """That the engine takes in one query."""
    known_fields: IndexFields | None = None
    """All of the index; none if unknown."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks for."""

    form: str = "hybrid"
    matching: str | None = None
    """None for the one that suits the request."""
    head_terms: int = HEAD_TERMS
    window: int = WINDOW

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"form {self.form!r}: use one of {', '.join(FORMS)}")
        if self.matching not in (None, *MATCHINGS):
            raise InputError(f"matching {self.matching!r}: use expand or keep")
        for name, number in (("head_terms", self.head_terms), ("window", self.window)):
            if number < 1:
                raise InputError(f"{name} {number}: must be at least 1")


@dataclass(slots=True)
class Plan:
    """What becomes of one clause."""

    found: FoundClause
    form: str
    keep: bool
    """Whether its words decide what it matches."""
    notes: list[str]
    terms: Sequence[WeightedTerm] = ()
    """Of its text, all."""
    heads: int = 0
    """How many of them, the heaviest, are in the clause."""
    tail: int = 0
    """How many of the next are in the rescore."""

    @property
    def words_score(self) -> bool:
        return self.form.startswith("hybrid")

    @property
    def words_stay(self) -> bool:
        return self.words_score or self.keep

    @property
    def two_phases(self) -> bool:
        return self.form in ONE_PHASE


def rewritten(
    body: object, target: Target, wish: Wish, weigh: Weigh
) -> tuple[dict[str, Any], RewriteReport]:
    """The body with its text clauses rewritten, and the report; `body` is not changed.

    Raises:
        InputError: the body is not an object.
    """
    if not isinstance(body, dict):
        raise InputError(
            f"the request body is of type {type(body).__name__}; it must be an object like "
            '{"query": {"match": {"text": "..."}}}'
        )
    try:
        given: dict[str, Any] = copied(body)
    except RecursionError:  # some 150 clauses in one another, which engines take
        left = (UntouchedClause("query", "nested too deeply to be looked into"),)
        return dict(body), RewriteReport(wish.form, *matching_of(wish, body), (), left, ())
    matching, why = matching_of(wish, given)
    keep = matching == "keep"
    walk = BodyWalk(target.latent_field, target.fed, keep, target.known_fields)
    walk.walk(given)
    obstacle = one_phase_because(given, keep)
    plans = [plan_of(found, wish, keep, obstacle) for found in walk.found]
    weigh_terms(plans, weigh)
    share_clauses(plans, given, target, wish)
    used = [plan for plan in plans if plan.heads]

    notes = []
    if obstacle and used and wish.form in ONE_PHASE:
        notes.append(f"{ONE_PHASE[wish.form]} instead of {wish.form}: {obstacle}")
    result = with_clauses(given, used, target, wish)
    if "min_score" in given and any(not plan.found.rescoring for plan in used):
        if keep:
            limit = result.pop("min_score")
            result["query"] = with_min_score_of(result["query"], body["query"], limit)
            notes.append("min_score: moved into a filter, where it is compared with word scores")
        else:
            notes.append("min_score: compared with scores that have the latent terms in them")
    highlight = result.get("highlight")
    if isinstance(highlight, dict) and any(
        not (plan.words_stay or plan.found.rescoring) for plan in used
    ):
        # The words that are no longer in the query are marked all the same.
        words = {"highlight_query": once_more(body["query"])}
        result["highlight"] = words | highlight
    if "_source" not in result and "stored_fields" not in result:
        hidden = [target.latent_field, hash_field(target.latent_field)]
        result["_source"] = {"excludes": hidden}
    report = RewriteReport(
        form=wish.form,
        matching=matching,
        why=why,
        rewritten=tuple(reported(plan) for plan in used),
        untouched=(
            *walk.untouched,
            *(UntouchedClause(plan.found.name, empty(plan)) for plan in plans if not plan.heads),
        ),
        notes=tuple(notes),
    )
    return result, report


def matching_of(wish: Wish, body: Clause) -> tuple[str, str]:
    """The matching that is asked for, or that suits the request, and why."""
    return (wish.matching, "as asked for") if wish.matching else matching_for(body)


def plan_of(found: FoundClause, wish: Wish, keep: bool, obstacle: str | None) -> Plan:
    """The form of one clause, and whether its words decide what it matches."""
    form, notes = wish.form, []
    if form in ONE_PHASE and (obstacle or found.factor is None):
        form = ONE_PHASE[form]
        if not obstacle:
            notes.append(
                "in one phase, since it rescores"
                if found.rescoring
                else "in one phase, since its score is not simply added to that of each hit"
            )
    demands, as_wished = found.clause.demands, wish.matching == "expand"
    if demands is None and found.one_of_several and not as_wished:
        demands = "its bool asks for several clauses"
    words_decide = demands is not None and (not as_wished or form in ("latent", "two_phase"))
    if words_decide:
        notes.append(f"{demands}: its words decide what it matches")
    # A rescore matches nothing, it only scores.
    return Plan(found, form, words_decide or (keep and not found.rescoring), notes)


def weigh_terms(plans: Sequence[Plan], weigh: Weigh) -> None:
    """Find the latent terms of all texts, each text once."""
    texts = list(dict.fromkeys(plan.found.clause.text for plan in plans))
    weighed = dict(zip(texts, weigh(texts), strict=True)) if texts else {}
    for plan in plans:
        plan.terms = weighed[plan.found.clause.text]


def share_clauses(plans: Sequence[Plan], body: Clause, target: Target, wish: Wish) -> None:
    """Divide what the engine takes, beside what is in the request, among the clauses."""
    queries: dict[Path, list[Plan]] = {}
    for plan in plans:
        queries.setdefault(plan.found.query, []).append(plan)
    for path, some in queries.items():
        gone = [value_at(body, plan.found.path) for plan in some if not plan.words_stay]
        # Under a `min_score` the words may be there once more, in a filter.
        times = 2 if "min_score" in body else 1
        room = room_for(
            [value_at(body, path)] * times, gone, target.max_clauses, target.known_fields
        )
        most = [wish.head_terms if plan.two_phases else target.max_query_terms for plan in some]
        wanted = [
            min(len(plan.terms), target.max_query_terms, limit)
            for plan, limit in zip(some, most, strict=True)
        ]
        for plan, given in zip(some, shares(wanted, room), strict=True):
            plan.heads = given
    two = [plan for plan in plans if plan.two_phases and plan.heads]
    wanted = [min(len(plan.terms), target.max_query_terms) - plan.heads for plan in two]
    words = [value_at(body, plan.found.path) for plan in two if plan.keep]
    room = room_for(words, [], target.max_clauses, target.known_fields)
    for plan, given in zip(two, shares(wanted, room), strict=True):
        plan.tail = given


def with_clauses(body: Clause, plans: Sequence[Plan], target: Target, wish: Wish) -> Clause:
    """The body, changed in place: one clause for each of the plans, and their second phase."""
    second = []
    for plan in plans:
        words = value_at(body, plan.found.path)
        boost = plan.found.clause.boost * (target.latent_boost if plan.words_score else 1.0)
        latent = any_of(plan.terms[: plan.heads], target.latent_field, boost)
        put(
            body,
            plan.found.path,
            beside(words, latent, keep=plan.keep, words_score=plan.words_score),
        )
        if plan.tail:
            rest = plan.terms[plan.heads : plan.heads + plan.tail]
            factor = 1.0 if plan.found.factor is None else plan.found.factor
            added = any_of(rest, target.latent_field, boost * factor)
            if plan.keep:
                added["bool"]["filter"] = [once_more(words)]
            second.append(added)
    if second:
        query = second[0] if len(second) == 1 else {"bool": {"should": second}}
        ours = {"window_size": window_for(body, wish.window), "query": {"rescore_query": query}}
        theirs = body.get("rescore") or []
        theirs = theirs if isinstance(theirs, list) else [theirs]
        body["rescore"] = [ours, *theirs] if theirs else ours
    return body


def empty(plan: Plan) -> str:
    """Why a clause gets no latent terms."""
    if plan.terms:
        return "no room for latent terms beside the clauses that are in the request"
    return "its text has no latent terms"


def reported(plan: Plan) -> RewrittenClause:
    """One line of the report."""
    weight = sum(item.weight * item.idf for item in plan.terms)
    kept = plan.terms[: plan.heads + plan.tail]
    clause = plan.found.clause
    return RewrittenClause(
        path=plan.found.name,
        fields=clause.fields,
        other_fields=clause.others,
        form=plan.form,
        matching="keep" if plan.keep else "expand",
        terms=len(kept),
        share=sum(item.weight * item.idf for item in kept) / weight if weight else 1.0,
        notes=tuple(plan.notes),
    )
