"""Weighted latent terms ↔ clauses of the query language.

A latent clause is a `bool` of `term` clauses on the latent field, one a latent; words stand beside
it in one more `bool`. Both are recognised by their structure, so that nothing is rewritten twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Clause = dict[str, Any]

# What is in a clause of latent terms, which a second phase has among the documents of a filter.
LATENT_PARTS = {"should", "boost", "_name", "filter"}


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


def has_latents(clause: Clause, field: str) -> bool:
    """Whether a clause is one that `any_of` or `beside` makes: of latent terms, or words with such.

    More clauses in a `bool` than these are an application's own, and are looked into.
    """
    parts = bool_of(clause)
    if is_latent(parts, field):
        return True
    should = parts.get("should", [])
    words = [*should[:-1], *parts.get("must", []), *parts.get("filter", [])]
    ours = len(words) == 1 and bool(should) and parts.keys() <= {"should", "must", "filter"}
    return ours and is_latent(bool_of(should[-1]), field)


def is_latent(parts: dict[str, Any], field: str) -> bool:
    """Whether a `bool` is of latent terms only, but for a filter."""
    should = parts.get("should", [])
    terms = [clause.get("term") if isinstance(clause, dict) else None for clause in should]
    latents = (isinstance(term, dict) and field in term for term in terms)
    return bool(terms) and all(latents) and parts.keys() <= LATENT_PARTS


def bool_of(clause: object) -> dict[str, Any]:
    """What a `bool` is made of; nothing where it is none, or has parts that are no lists."""
    parts = clause.get("bool") if isinstance(clause, dict) and len(clause) == 1 else None
    if not isinstance(parts, dict):
        return {}
    lists = all(isinstance(parts.get(name, []), list) for name in ("must", "filter", "should"))
    return parts if lists else {}
