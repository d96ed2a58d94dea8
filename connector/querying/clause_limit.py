"""The engine's limit of clauses in one query, the clauses of a query, and the room that is left."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.querying.clauses import (
    ONE_FIELD,
    PHRASES,
    TEXT_KINDS,
    field_boosts,
)
from latent_ingest.connector.querying.indices.asked_indices import raise_if_unanswered
from latent_ingest.connector.querying.indices.fields import IndexFields

SETTING = "indices.query.bool.max_clause_count"

# The default of engines, which is assumed if the settings may not be read.
ENGINE_CLAUSES = 1024

# Each match becomes one term in most analyzers: a word, or a character of a script without spaces.
WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af]+")

# Default for the most terms that a fuzzy word becomes; hardly any has so many.
FUZZY_EXPANSIONS = 50

# A clause on numbers or dates counts as two: one by the index and one by its stored values.
VALUE = 2

# Default for the terms that `more_like_this` searches.
SIMILAR = 25

# Latent terms that are tried however many terms the fuzzy words of a request may become.
BESIDE_FUZZY = 64

# Fields assumed for a pattern if those of the index are unknown.
UNKNOWN_FIELDS = 16


def read_clause_limit(client: OpenSearch, otherwise: int = ENGINE_CLAUSES) -> int:
    """Return the number of clauses that every node of a cluster accepts in one query.

    Returns `otherwise` if the settings may not be read; raises EngineError if the engine cannot be
    reached.
    """
    only = {"filter_path": f"**.{SETTING}"}
    with engine_errors(client):
        try:
            told = client.cluster.get_settings(include_defaults=True, params=only)
            nodes = client.nodes.info(metric="settings", params=only).get("nodes", {})
        except TransportError as error:
            raise_if_unanswered(error)
            return otherwise
    for level in ("transient", "persistent"):
        if limit := limit_in(told.get(level)):
            return limit
    own = [limit_in(node.get("settings")) for node in nodes.values()]
    own.append(limit_in(told.get("defaults")))
    return min((limit for limit in own if limit), default=ENGINE_CLAUSES)


def limit_in(settings: Any) -> int | None:
    """Return the limit in some settings; None if they lack it."""
    for name in SETTING.split("."):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return int(settings) if settings else None


def room_for(
    queries: Sequence[object],
    removed: Sequence[object],
    limit: int,
    known: IndexFields | None,
) -> int:
    """Return how many clauses may be added to some queries, less parts of them that are removed.

    The clauses of a text are estimated, rather too high: each word is one term per field, each
    fuzzy word as many as it may become. Still, some latent terms always fit beside fuzzy words.
    """
    sure, possible = count_clauses(queries, known)
    sure_removed, possible_removed = count_clauses(removed, known)
    room = limit - sure + sure_removed
    return max(0, room - possible + possible_removed, min(BESIDE_FUZZY, room))


def count_clauses(query: object, known: IndexFields | None) -> tuple[int, int]:
    """Return the clauses of a query, and the clauses that its fuzzy words may add."""
    counted = list(counts_of_parts(query, known))
    return sum(sure for sure, _ in counted), sum(possible for _, possible in counted)


def counts_of_parts(query: object, known: IndexFields | None) -> Iterator[tuple[int, int]]:
    """Yield `count_clauses` of the innermost clauses of a query, or of a list of queries."""
    if isinstance(query, (list, tuple)):
        for part in query:
            yield from counts_of_parts(part, known)
    for kind, content in query.items() if isinstance(query, dict) else ():
        values = list(content.values()) if isinstance(content, dict) else []
        parts = [part for part in values if holds_clauses(part)]
        if kind in TEXT_KINDS and isinstance(content, dict):
            yield count_terms(kind, content, known)
        elif kind in ("term", "terms_set"):
            is_text = known and values and any(known.get(name) for name in content)
            yield (1 if is_text else VALUE) * max(1, sum(map(size_of_set, values))), 0
        elif kind == "fuzzy":
            yield 1, sum(map(expansions_of, values))
        elif kind == "more_like_this" and isinstance(content, dict):
            most = content.get("max_query_terms", SIMILAR)
            yield most if isinstance(most, int) else SIMILAR, 0
        elif parts:
            yield from counts_of_parts(parts, known)
        else:
            yield VALUE, 0


def size_of_set(options: object) -> int:
    """Return the number of terms of a `terms_set`, each a clause."""
    terms = options.get("terms") if isinstance(options, dict) else None
    return len(terms) if isinstance(terms, list) else 0


def holds_clauses(part: object) -> bool:
    """Return whether a value looks like a clause or a list of clauses."""
    if isinstance(part, list):
        return any(holds_clauses(item) for item in part)
    return isinstance(part, dict) and any(isinstance(value, dict) for value in part.values())


def count_terms(kind: str, content: dict[str, Any], known: IndexFields | None) -> tuple[int, int]:
    """Return the terms of a text clause, and the terms that fuzziness may add."""
    options, fields = content, 1
    if kind in ONE_FIELD or kind in PHRASES:
        first = next(iter(content.values()), None)
        options = first if isinstance(first, dict) else {"query": first}
    else:
        fields = count_fields(kind, content, known)
    text = str(options.get("query", ""))
    terms = max(1, len(WORD.findall(text))) * max(1, fields)
    fuzzy = "fuzziness" in options or (kind.endswith("query_string") and "~" in text)
    return terms, terms * expansions_of(options) if fuzzy else 0


def expansions_of(options: object) -> int:
    """Return the most terms that a fuzzy word with these options may become."""
    options = options if isinstance(options, dict) else {}
    most = options.get("max_expansions", options.get("fuzzy_max_expansions"))
    return most if isinstance(most, int) else FUZZY_EXPANSIONS


def count_fields(kind: str, content: dict[str, Any], known: IndexFields | None) -> int:
    """Return the number of fields that a clause on many fields searches."""
    try:
        specs = [spec for spec, _ in field_boosts(kind, content, known)]
    except (AttributeError, TypeError, ValueError):
        return 1
    patterns = [spec for spec in specs if "*" in spec]
    if known is None:
        return len(specs) - len(patterns) + UNKNOWN_FIELDS * bool(patterns)
    matched = {name for spec in patterns for name in known.matching(spec)}
    return len(specs) - len(patterns) + len(matched)


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """Divide `room` evenly, giving each at most the number it wants."""
    given = [0] * len(wanted)
    left = room
    for waiting, i in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        given[i] = min(wanted[i], left // (len(wanted) - waiting))
        left -= given[i]
    return given
