"""What the options of a request, beside its query, mean for a rewriting of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Hits that engines count exactly, and rescore at most, unless told otherwise.
COUNTED_HITS = 10_000
LARGEST_WINDOW = 10_000

DEFAULT_SIZE = 10

BY_SCORE: tuple[list[str], ...] = ([], ["_score"])


def matching_for(body: dict[str, Any]) -> tuple[str, str]:
    """The matching that suits a request, and why."""
    totals = str(body.get("track_total_hits")).lower()  # engines take "true" and "20000" too
    if body.get("aggs") or body.get("aggregations"):
        return "keep", "the request aggregates"
    if totals == "true" or (totals.isdecimal() and int(totals) > COUNTED_HITS):
        return "keep", "the request asks for exact totals"
    if asks_for_none(body):
        return "keep", "the request asks for no hits, so for their number"
    if sort_keys(body)[:1] not in BY_SCORE:
        return "keep", "the hits are sorted by something else than their scores"
    return "expand", "the request neither aggregates, nor sorts, nor asks for exact totals"


def one_phase_because(body: dict[str, Any], keep: bool) -> str | None:
    """Why hits cannot be rescored, if they cannot."""
    if sort_keys(body) not in BY_SCORE:
        return "engines do not rescore sorted hits"
    for name in ("collapse", "search_after"):
        if body.get(name) is not None:
            return f"engines do not rescore hits with {name}"
    if body.get("indices_boost"):
        return "indices_boost does not count where hits are rescored"
    if asks_for_none(body):
        return "no hits are asked for"
    if "min_score" in body and not keep:
        return "min_score is compared before hits are rescored"
    return None


def asks_for_none(body: dict[str, Any]) -> bool:
    """Whether a request wants no hits."""
    return str(body.get("size")) == "0"


def sort_keys(body: dict[str, Any]) -> list[str]:
    """What hits are sorted by; lowest scores first is not `_score`."""
    sort = body.get("sort") or []
    keys = []
    for entry in sort if isinstance(sort, list) else [sort]:
        for key, order in entry.items() if isinstance(entry, dict) else [(entry, None)]:
            order = order.get("order") if isinstance(order, dict) else order
            upwards = key == "_score" and str(order).lower() == "asc"
            keys.append("_score, lowest first" if upwards else str(key))
    return keys


def window_for(body: dict[str, Any], window: int) -> int:
    """Hits a shard to rescore: all that the request pages through, `window` at least."""
    try:
        last = int(body.get("from") or 0) + int(body.get("size", DEFAULT_SIZE))
    except (TypeError, ValueError):
        last = DEFAULT_SIZE
    return max(window, min(last, LARGEST_WINDOW))


def with_min_score_of(query: Any, words: Any, min_score: Any) -> dict[str, Any]:
    """`query` among the documents that score `min_score` in `words`."""
    scored = {"function_score": {"query": once_more(words), "min_score": min_score}}
    return {"bool": {"must": [query], "filter": [scored]}}


def once_more(query: Any) -> Any:
    """A copy of a query that can stand in the same request: without the `inner_hits` of `nested`
    and the like, which engines take once."""
    if isinstance(query, (list, tuple)):
        return [once_more(part) for part in query]
    if not isinstance(query, dict):
        return query
    left_out = "inner_hits" if "query" in query else None
    return {name: once_more(part) for name, part in query.items() if name != left_out}


def filtered(
    query: dict[str, Any], filter: dict[str, Any] | Sequence[dict[str, Any]] | None
) -> dict[str, Any]:
    """`query`, scoring as before, among the documents that pass the filters."""
    if not filter:
        return query
    clauses = [filter] if isinstance(filter, dict) else list(filter)
    return {"bool": {"must": [query], "filter": clauses}}
