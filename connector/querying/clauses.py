"""What one text clause of the query language says: its text, its fields, its boost, its demands.

Weighted latent terms ↔ clauses of the query language.

A latent clause is a `bool` of `term` clauses on the latent field, one a latent; words stand beside
it in one more `bool`. Both are recognised by their structure, so that nothing is rewritten twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from latent_ingest.connector.querying.fields import IndexFields

ONE_FIELD = ("match", "match_bool_prefix")
MANY_FIELDS = ("multi_match", "combined_fields", "simple_query_string", "query_string")
PHRASES = ("match_phrase", "match_phrase_prefix")
TEXT_KINDS = (*ONE_FIELD, *MANY_FIELDS, *PHRASES)

# What has a meaning of its own in a query string. Wherever it is unsure, it is one: the clause is
# then left alone. A hyphen or a plus inside a word is none in `query_string`.
QUERY_STRING_OPERATOR = re.compile(
    r'[!(){}\[\]^"~*?:\\/<>]|&&|\|\||(?<!\S)[+-]|\b(AND|OR|NOT|TO)\b'
)
SIMPLE_OPERATOR = re.compile(r'[+|"*()~\\]|(?<!\S)-')


@dataclass(frozen=True, slots=True)
class TextClause:
    """A clause whose text can be asked for by meaning."""

    kind: str
    """Its name in the query language."""
    text: str
    fields: tuple[str, ...]
    """Those it searches that feed the latent field."""
    others: tuple[str, ...]
    """Those that do not, and patterns that stand for such."""
    boost: float
    """Its own, times the mean of those of `fields`."""
    demands: str | None
    """What it asks of a document beyond one of its words, such as "operator and"."""


def read_text_clause(
    kind: str, content: object, fed: Collection[str], known: IndexFields | None = None
) -> TextClause | str:
    """What a clause of one of `TEXT_KINDS` says, or why it is left alone.

    Args:
        kind: its name in the query language.
        content: what the name stands before.
        fed: fields whose text is in the latent field.
        known: all fields of the index, if they are known.
    """
    if not isinstance(content, dict):
        return "not understood"
    if kind in PHRASES:
        return "a phrase stays a phrase"
    if kind in ONE_FIELD:
        if len(content) != 1:
            return "not understood"
        ((field, options),) = content.items()
        options = options if isinstance(options, dict) else {"query": options}
        boosts = {field: 1.0}
    else:
        options = content
        if str(options.get("type", "")).startswith("phrase"):
            return "a phrase stays a phrase"
        try:
            boosts = dict(field_boosts(kind, options))
        except (AttributeError, TypeError, ValueError):
            return "its fields are not understood"
    text = options.get("query")
    if not isinstance(text, str):
        return "its query is not a text"
    if operators(kind, text, options):
        return "its query has operators"
    found = {
        name: boost for spec, boost in boosts.items() for name in fed if fnmatchcase(name, spec)
    }
    if not found:
        return f"{listed(boosts)} does not feed the latent field"
    try:
        boost = float(options.get("boost", 1.0)) * sum(found.values()) / len(found)
    except (TypeError, ValueError):
        return "its boost is not a number"
    if not boost > 0:
        return "boost 0: it does not score"
    others = tuple(spec for spec in boosts if searches_others(spec, fed, known))
    return TextClause(kind, text, tuple(found), others, boost, demands(options))


def field_boosts(kind: str, options: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Field or pattern → boost, of a clause on many fields; all fields where it names none."""
    named = options.get("fields")
    if not named:
        named = (options.get("default_field") if kind == "query_string" else None) or "*"
    for spec in [named] if isinstance(named, str) else named:
        name, _, boost = spec.partition("^")
        yield name, float(boost or 1)


def searches_others(spec: str, fed: Collection[str], known: IndexFields | None) -> bool:
    """Whether a field or pattern stands for fields that do not feed the latent field."""
    if "*" not in spec:
        return spec not in fed
    if known is None:
        return not any(fnmatchcase(name, spec) for name in fed)
    return any(name not in fed for name in known.matching(spec))


def operators(kind: str, text: str, options: dict[str, Any]) -> bool:
    """Whether a query string is more than plain words."""
    if kind == "query_string":
        return QUERY_STRING_OPERATOR.search(text) is not None
    if kind == "simple_query_string" and options.get("flags") != "NONE":
        return SIMPLE_OPERATOR.search(text) is not None
    return False


def demands(options: dict[str, Any]) -> str | None:
    """What the options of a clause ask of a document beyond one word."""
    for name in ("operator", "default_operator"):
        if str(options.get(name, "")).lower() == "and":
            return f"{name} and"
    if asks_for_several(options):
        return f"minimum_should_match {options['minimum_should_match']}"
    return None


def asks_for_several(options: dict[str, Any]) -> bool:
    """Whether `minimum_should_match` may be above 1; it is none where it is null."""
    minimum = options.get("minimum_should_match")
    return minimum is not None and str(minimum) not in ("0", "1")


def listed(names: Collection[str]) -> str:
    """A few names for a message."""
    first = list(names)[:3]
    return ", ".join(first) + (", ..." if len(names) > len(first) else "")


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
