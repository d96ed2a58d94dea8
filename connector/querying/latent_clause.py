"""Weighted latent terms ↔ clauses of the query language.

A latent clause is a `bool` of `term` clauses on the latent field, one a latent; words stand beside
it in one more `bool`. Both are recognised by their structure, so that nothing is rewritten twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Clause = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A latent term of a query."""

    term: str
    weight: float
    """`sqrt` of the pooled activation; multiplies the term's score."""
    idf: float = 1.0
    """By which terms are chosen, together with the weight."""


def any_of(weighted: Sequence[WeightedTerm], field: str, boost: float = 1.0) -> Clause:
    """The clause that adds the scores of `weighted`, times `boost`; at least one of them."""
    clauses = [
        {"term": {field: {"value": item.term, "boost": round(item.weight, 4)}}} for item in weighted
    ]
    scored: dict[str, Any] = {"should": clauses}
    return {"bool": scored if boost == 1.0 else {**scored, "boost": round(boost, 6)}}


def beside(words: Clause, latent: Clause, *, keep: bool, words_score: bool) -> Clause:
    """One clause in place of `words`.

    Args:
        words: the clause as it was.
        latent: what is added to it, or put in its place.
        keep: whether words alone decide what matches.
        words_score: whether the words' score counts; the form is "latent" where it does not.
    """
    if keep:
        return {"bool": {"must" if words_score else "filter": [words], "should": [latent]}}
    if words_score:
        return {"bool": {"should": [words, latent]}}
    name = named(words)
    return {"bool": {**latent["bool"], "_name": name}} if name else latent


def named(clause: Clause) -> str | None:
    """The `_name` of a clause, if it has one."""
    for content in clause.values():
        for level in (content, *(content.values() if isinstance(content, dict) else ())):
            if isinstance(level, dict) and isinstance(level.get("_name"), str):
                name: str = level["_name"]
                return name
    return None


def is_latent(clause: object, field: str) -> bool:
    """Whether a clause is of latent terms only, as `any_of` makes them."""
    if not isinstance(clause, dict) or len(clause) != 1:
        return False
    if isinstance(term := clause.get("term"), dict):
        return field in term
    scored = clause.get("bool")
    if not isinstance(scored, dict):
        return False
    should = scored.get("should")
    return isinstance(should, list) and bool(should) and all(is_latent(c, field) for c in should)


def has_latents(clause: Clause, field: str) -> bool:
    """Whether a clause is a latent one, or a `bool` with one beside its words: as `beside`'s."""
    if is_latent(clause, field):
        return True
    scored = clause.get("bool")
    should = scored.get("should") if isinstance(scored, dict) else None
    return isinstance(should, list) and any(is_latent(c, field) for c in should)
