"""Request bodies for endpoints other than `_search`, which take a query and little else.

Where documents are counted, changed or deleted, nothing scores: the query gets no latent terms, so
that it matches what its words match. Where a query is explained or validated, it is that of the
search, in one phase.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.clauses import bool_of, has_latents
from latent_ingest.connector.querying.report import RewriteReport
from latent_ingest.connector.querying.request import Target, check_body
from latent_ingest.connector.querying.rewriting import rewritten
from latent_ingest.connector.querying.term_weights import Weigh

SEARCH = "_search"

# Parts of a search that change neither which documents match nor how many.
SHOWN = {
    "_source", "aggregations", "aggs", "docvalue_fields", "explain", "fields", "from", "highlight",
    "include_named_queries_score", "indices_boost", "profile", "rescore", "script_fields",
    "seq_no_primary_term", "size", "stats", "stored_fields", "suggest", "track_scores",
    "track_total_hits", "version",
}  # fmt: skip

# Parts without which other documents would match, and that no endpoint but `_search` takes.
OTHERS = {"knn", "pit", "retriever", "sub_searches"}


@dataclass(frozen=True, slots=True)
class Matching:
    """An endpoint for all documents that match."""

    does: str
    """What it does to them."""
    left_out: Set[str] = frozenset()
    """Parts that are left out, besides `SHOWN`."""
    refused: Set[str] = frozenset()
    """Parts without which other documents would match, besides `OTHERS`."""


# The total of a search counts what is collapsed, and the pages before.
COUNTED = frozenset({"collapse", "search_after", "sort", "terminate_after", "timeout"})
ALTERED = frozenset({"collapse", "search_after"})

MATCHING = {
    "_count": Matching("count", left_out=COUNTED, refused=frozenset({"slice"})),
    "_delete_by_query": Matching("delete", refused=ALTERED),
    "_update_by_query": Matching("update", refused=ALTERED),
}
SCORING = ("_explain", "_validate/query")
ENDPOINTS = (SEARCH, *MATCHING, *SCORING)


def rewritten_for(
    endpoint: str, body: object, target: Target, weigh: Weigh
) -> tuple[dict[str, Any], RewriteReport]:
    """Return a request body for an endpoint, and the report; `body` is not changed.

    Raises:
        InputError: as `rewritten`; or the endpoint is unknown, or would match other documents than
            the words of the body.
    """
    if endpoint not in ENDPOINTS:
        raise InputError(f"endpoint {endpoint!r}: use one of {', '.join(ENDPOINTS)}")
    if endpoint == SEARCH:
        return rewritten(body, target, weigh)
    given = check_body(body)
    if endpoint in MATCHING:
        return matching_body(endpoint, given, target)
    made, report = rewritten(given, replace(target, form=target.form.one_phase, auto=False), weigh)
    notes = [f"min_score: {endpoint} shows the query without it"] * ("min_score" in made)
    if target.form.two_phases:
        notes.append(f"{target.form.one_phase} instead of {target.form}: {endpoint} rescores none")
    notes += left_out(endpoint, given.keys() - {"query", "min_score"})
    return {name: made[name] for name in made.keys() & {"query"}}, replace(
        report,
        form=target.form,
        rewritten=tuple(one for one in report.rewritten if one.path.startswith("query")),
        untouched=tuple(one for one in report.untouched if one.path.startswith("query")),
        notes=(*report.notes, *notes),
    )


def matching_body(
    endpoint: str, given: dict[str, Any], target: Target
) -> tuple[dict[str, Any], RewriteReport]:
    """Return the body for an endpoint for all documents that match, with the words as they are."""
    rules = MATCHING[endpoint]
    if target.matching == "expand":
        raise InputError(
            f"matching 'expand': {endpoint} would {rules.does} documents without a common word; "
            "leave it out"
        )
    if too_much := sorted(given.keys() & (OTHERS | rules.refused)):
        raise InputError(
            f"{too_much[0]}: {endpoint} does not take it, and would {rules.does} other documents "
            "without it; send a body that does not need it"
        )
    if widened(given.get("query"), target.latent_field):
        raise InputError(
            f"the query has latent terms already, so {endpoint} would {rules.does} documents "
            "without a common word; give the body as it was before it was rewritten"
        )
    dropped = given.keys() & (SHOWN | rules.left_out)
    body = {name: part for name, part in given.items() if name not in dropped}
    narrower = {name: body.pop(name) for name in ("min_score", "post_filter") if name in body}
    if narrower:
        body["query"] = narrowed(body.get("query") or {"match_all": {}}, **narrower)
    notes = [f"{name}: moved into the query" for name in narrower]
    notes += left_out(endpoint, dropped)
    why = f"{endpoint} scores no hits, so it gets no latent terms"
    return body, RewriteReport(target.form, "keep", why, (), (), tuple(notes))


def narrowed(query: Any, min_score: Any = None, post_filter: Any = None) -> dict[str, Any]:
    """Return a query for the documents that also pass a `min_score` and a `post_filter`."""
    if min_score is not None:
        query = {"function_score": {"query": query, "min_score": min_score}}
    filters = {"filter": [post_filter]} if post_filter else {}
    return {"bool": {"must": [query], **filters}}


def widened(query: object, latent_field: str) -> bool:
    """Return whether a query has a clause that latent terms match without its words."""
    waiting = [query]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            if not has_latents(part, latent_field):
                waiting += part.values()
            elif not bool_of(part).keys() & {"must", "filter"}:
                return True
    return False


def left_out(endpoint: str, names: Set[str]) -> list[str]:
    """Return the note on parts that an endpoint does not take, if any."""
    return [f"left out, since {endpoint} has no use for it: {', '.join(sorted(names))}"] * bool(
        names
    )
