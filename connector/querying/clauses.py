"""Clauses of the query language: the text clauses of an application, and our clauses of latents.

A latent clause is a `bool` of one `term` clause per latent; where words score too, both stand in
one more `bool`. They are recognised by this structure, so that nothing is rewritten twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from statistics import fmean as mean
from typing import Any

from latent_ingest.connector.querying.application.query_strings import (
    OPERATORS,
    Part,
    plain_words,
)
from latent_ingest.connector.querying.indices.fields import EVERY_FIELD, IndexFields
from latent_ingest.connector.querying.term_weights import WeightedTerm

Clause = dict[str, Any]

ONE_FIELD = ("match", "match_bool_prefix")
MANY_FIELDS = ("multi_match", "combined_fields", "simple_query_string", "query_string")
PHRASES = ("match_phrase", "match_phrase_prefix")
TEXT_KINDS = (*ONE_FIELD, *MANY_FIELDS, *PHRASES)

# Operators of a query string, and what may be one. A hyphen or plus inside a word is none in
# `query_string`.
QUERY_STRING_OPERATOR = re.compile(
    r'[!(){}\[\]^"~*?:\\/<>]|&&|\|\||(?<!\S)[+-]|\b(AND|OR|NOT|TO)\b'
)
SIMPLE_OPERATOR = re.compile(r'[+|"*()~\\]|(?<!\S)-')

# A part of a search template that is not rendered yet.
PLACEHOLDER = re.compile(r"\{\{.+?\}\}")

# Parts of a latent clause; the one in a rescore has a filter where words decide what matches.
LATENT_PARTS = {"should", "boost", "_name", "filter"}


@dataclass(frozen=True, slots=True)
class TextClause:
    """A clause whose text can be searched for by meaning."""

    kind: str
    """Its name in the query language."""
    text: str
    fields: tuple[str, ...]
    """The searched fields whose text is in the latent field."""
    others: tuple[str, ...]
    """The other searched fields, and patterns that match other fields."""
    boost: float
    """The boost of the clause times the mean boost of `fields`."""
    demands: str | None
    """A demand on documents beyond one of its words, such as "operator and"."""
    strict: bool = False
    """Whether words decide what it matches even where "expand" is asked for."""


def read_text_clause(
    kind: str, content: object, fed: Collection[str], known: IndexFields | None = None
) -> TextClause | str:
    """Read a clause of one of `TEXT_KINDS`; return the reason if it must be left alone."""
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
            boosts = dict(field_boosts(kind, options, known))
        except (AttributeError, TypeError, ValueError):
            return "its fields are not understood"
    if not boosts:
        return "its indices search different fields by default"
    return read_words(kind, options, boosts, fed, known)


def read_words(
    kind: str,
    options: dict[str, Any],
    boosts: dict[str, float],
    fed: Collection[str],
    known: IndexFields | None,
) -> TextClause | str:
    """Read a text clause that searches the fields in `boosts`, or return the reason not to."""
    text = options.get("query")
    if not isinstance(text, str):
        return "its query is not a text"
    if PLACEHOLDER.search(text):
        return "its query has a placeholder of a template"
    parts: list[Part] | str = [Part(text, None, 1.0)]
    operators = has_operators(kind, text, options)
    if operators:
        parts = plain_words(kind, text, escaped=options.get("escape") is True)
    if isinstance(parts, str):
        return parts
    named = dict.fromkeys((part.field for part in parts if part.field), 1.0)
    specs = {**(boosts if any(part.field is None for part in parts) else {}), **named}
    fields_of: dict[str | None, dict[str, float]] = {None: fed_boosts(boosts, fed)}
    fields_of |= {name: fed_boosts({name: 1.0}, fed) for name in named}
    words = [part for part in parts if fields_of[part.field]]
    if not words:
        return f"{listed(specs)} does not feed the latent field"
    try:
        boost = float(options.get("boost", 1.0))
    except (TypeError, ValueError):
        return "its boost is not a number"
    boost *= mean(part.boost * mean(fields_of[part.field].values()) for part in words)
    if not boost > 0:
        return "boost 0: it does not score"
    return TextClause(
        kind=kind,
        text=" ".join(part.text for part in words),
        fields=tuple(dict.fromkeys(name for part in words for name in fields_of[part.field])),
        others=other_fields(specs, fed, known),
        boost=boost,
        demands=OPERATORS if operators else demands(options),
        strict=operators,
    )


def field_boosts(
    kind: str, options: dict[str, Any], known: IndexFields | None = None
) -> Iterator[tuple[str, float]]:
    """Yield the fields or patterns of a clause on many fields, and their boosts.

    A clause that names no fields searches the index's default fields.
    """
    named = options.get("fields")
    if not named and kind == "query_string":
        named = options.get("default_field")
    if not named:
        named = EVERY_FIELD if known is None else known.default
    for spec in [named] if isinstance(named, str) else named:
        name, _, boost = spec.partition("^")
        yield name, float(boost or 1)


def words_alone(clause: Clause, known: IndexFields) -> Clause:
    """Return a text clause without the latent field, where a pattern of its fields has that, too.

    Only in an index with a question table, where the latent field finds by meaning itself: words
    then decide no more what matches, and meaning counts twice.
    """
    ((kind, options),) = clause.items()
    if not known.by_meaning or kind not in TEXT_KINDS or kind in ONE_FIELD:
        return clause
    boosts = dict(field_boosts(kind, options, known))
    wide = [spec for spec in boosts if "*" in spec and fnmatchcase(known.by_meaning, spec)]
    if not wide:
        return clause
    fields = {
        name: boost
        for spec, boost in boosts.items()
        for name in (known.matching(spec) if spec in wide else [spec])
        if name != known.by_meaning
    }
    kept = {name: value for name, value in options.items() if name != "default_field"}
    # Patterns leave out fields that cannot be searched for a text, as of numbers and places.
    lenient = {"lenient": options.get("lenient", True)}
    names = [name if boost == 1 else f"{name}^{boost:g}" for name, boost in fields.items()]
    return {kind: {**kept, **lenient, "fields": names}}


def fed_boosts(boosts: Mapping[str, float], fed: Collection[str]) -> dict[str, float]:
    """Return the boosts of the fields in `fed` that a clause with these boosts searches."""
    pairs = ((name, spec) for spec in boosts for name in fed)
    return {name: boosts[spec] for name, spec in pairs if fnmatchcase(name, spec)}


def other_fields(
    specs: Collection[str], fed: Collection[str], known: IndexFields | None
) -> tuple[str, ...]:
    """Return the fields and patterns that search fields that do not feed the latent field."""

    def has_others(spec: str) -> bool:
        if "*" not in spec:
            return spec not in fed
        if known is None:
            return not any(fnmatchcase(name, spec) for name in fed)
        return any(name not in fed for name in known.matching(spec))

    return tuple(filter(has_others, specs))


def has_operators(kind: str, text: str, options: dict[str, Any]) -> bool:
    """Return whether a query string may have operators."""
    if kind == "query_string":
        return QUERY_STRING_OPERATOR.search(text) is not None
    if kind == "simple_query_string" and options.get("flags") != "NONE":
        return SIMPLE_OPERATOR.search(text) is not None
    return False


def demands(options: dict[str, Any]) -> str | None:
    """Return what a clause demands of a document beyond one word; None if nothing."""
    for name in ("operator", "default_operator"):
        if str(options.get(name, "")).lower() == "and":
            return f"{name} and"
    if asks_for_several(options):
        return f"minimum_should_match {options['minimum_should_match']}"
    return None


def asks_for_several(options: dict[str, Any]) -> bool:
    """Return whether `minimum_should_match` may be above 1; null is no minimum."""
    minimum = options.get("minimum_should_match")
    return minimum is not None and str(minimum) not in ("0", "1")


def listed(names: Collection[str]) -> str:
    """Return the first three names, for a message."""
    first = list(names)[:3]
    return ", ".join(first) + (", ..." if len(names) > len(first) else "")


def any_of(weighted: Sequence[WeightedTerm], field: str, boost: float = 1.0) -> Clause:
    """Return the clause that sums the scores of latent terms, times `boost`; one must match.

    Each term carries the boost: Lucene skips documents in a `bool` inside another only if it has
    no boost of its own.
    """
    boosts = distinct(item.weight * boost for item in weighted)
    terms = zip(weighted, boosts, strict=True)
    return {
        "bool": {"should": [{"term": {field: {"value": t.term, "boost": b}}} for t, b in terms]}
    }


def distinct(boosts: Iterable[float]) -> Iterator[float]:
    """Yield the boosts with 7 digits, those that occur twice raised by a millionth.

    OpenSearch's `search.query_rewriting` would merge 16 or more terms of equal boost into one
    clause, which gives all of its documents the same score.
    """
    seen: set[float] = set()
    raised: dict[float, float] = {}  # boost → the next one, as weights of a table are often equal
    for boost in boosts:
        free = raised.get(boost, boost)
        while (rounded := in_7_digits(free)) in seen:
            free *= 1 + 1e-6
        seen.add(rounded)
        raised[boost] = free * (1 + 1e-6)
        yield rounded


@lru_cache(maxsize=4096)
def in_7_digits(number: float) -> float:
    """Return a number with 7 digits. Cached, as weights of a table are few and come again."""
    return float(f"{number:.7g}")


def beside(words: Clause, latent: Clause, *, keep: bool, words_score: bool) -> Clause:
    """Return one clause in place of a text clause, which the latent clause joins or replaces."""
    if keep:
        return {"bool": {"must" if words_score else "filter": [words], "should": [latent]}}
    if words_score:
        return {"bool": {"should": [words, latent]}}
    name = named(words)
    return {"bool": {**latent["bool"], "_name": name}} if name else latent


def named(clause: Clause) -> str | None:
    """Return the `_name` of a text clause; None if it has none."""
    ((_, content),) = clause.items()
    levels = [content, *content.values()]
    names = (level.get("_name") for level in levels if isinstance(level, dict))
    return next((name for name in names if isinstance(name, str)), None)


def has_latents(clause: Clause, field: str) -> bool:
    """Return whether a clause has the structure that `any_of` or `beside` makes.

    A `bool` with more clauses than these is an application's own, and is rewritten.
    """
    parts = bool_of(clause)
    if is_latent(parts, field):
        return True
    should = parts.get("should", [])
    words = [*should[:-1], *parts.get("must", []), *parts.get("filter", [])]
    ours = len(words) == 1 and bool(should) and parts.keys() <= {"should", "must", "filter"}
    return ours and is_latent(bool_of(should[-1]), field)


def is_latent(parts: dict[str, Any], field: str) -> bool:
    """Return whether a `bool` has only latent terms, apart from a filter."""
    should = parts.get("should", [])
    terms = [clause.get("term") if isinstance(clause, dict) else None for clause in should]
    latents = (isinstance(term, dict) and field in term for term in terms)
    return bool(terms) and all(latents) and parts.keys() <= LATENT_PARTS


def bool_of(clause: object) -> dict[str, Any]:
    """Return the parts of a `bool`; empty for other clauses, and if a part is not a list."""
    parts = clause.get("bool") if isinstance(clause, dict) and len(clause) == 1 else None
    if not isinstance(parts, dict):
        return {}
    lists = all(isinstance(parts.get(name, []), list) for name in ("must", "filter", "should"))
    return parts if lists else {}
