"""Request bodies: the one for a question, and the options of one that is rewritten."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.body import NO_TEXT, FoundClause, Path, shown
from latent_ingest.connector.querying.clause_limit import room_for
from latent_ingest.connector.querying.clauses import (
    TEXT_KINDS,
    Clause,
    TextClause,
    fed_boosts,
    field_boosts,
    other_fields,
)
from latent_ingest.connector.querying.indices.fields import IndexFields
from latent_ingest.connector.querying.scoring import AUTO, MATCHINGS, Form, Scoring
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

# Parts of a request in which a script sees every document that the query finds, and clauses there
# whose keys are names of fields.
SCRIPTED = ("query", "post_filter", "rescore")
SCRIPTS = {"minimum_should_match_script", "script", "script_score"}
LEAVES = {*TEXT_KINDS, *NO_TEXT} - {"terms_set"}

NO_HITS = "no hits are asked for"

# A string of JSON, or a comment, which engines accept in bodies.
STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)

# Keys of a request for a search template.
TEMPLATE_KEYS = {"source", "id", "params", "explain", "profile"}

Filter = dict[str, Any] | Sequence[dict[str, Any]] | None


def read_body(text: str) -> Any:
    """Return the JSON of a request body; like engines, accept a byte order mark and comments.

    Raises:
        ValueError: it is not JSON.
    """
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except ValueError:
        without = STRING_OR_COMMENT.sub(
            lambda found: found[0] if found[0].startswith('"') else " ", text
        )
        return json.loads(without)


def check_body(body: object) -> dict[str, Any]:
    """Return the body of a search, or that which a string of JSON holds; else InputError."""
    if isinstance(body, str):
        try:
            body = read_body(body)
        except ValueError as error:
            raise InputError(f"the request body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InputError(
            f"the request body is of type {type(body).__name__}; it must be an object like "
            '{"query": {"match": {"text": "..."}}}'
        )
    if body.keys() & {"source", "id"} and TEMPLATE_KEYS.issuperset(body):
        raise InputError(
            "the request body is a search template; render it first (POST _render/template) and "
            "rewrite what that returns"
        )
    return body


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
    auto: bool = False
    """Whether the form in two phases is used where it costs less."""
    n_documents: int = 0
    """Documents of the index, for the cost of a form; 0 if unknown."""
    skips: bool = True
    """Whether the engine skips in blocks, for the cost of a form."""

    def __post_init__(self) -> None:
        if self.matching not in (None, *MATCHINGS):
            raise InputError(f"matching {self.matching!r}: use expand or keep")

    def asked(
        self, form: str, matching: str | None, head_terms: int | None, window: int | None
    ) -> Target:
        """Return the target for one request, with the options that are not None."""
        scoring = replace(
            self.scoring,
            head_terms=self.scoring.head_terms if head_terms is None else head_terms,
            window=self.scoring.window if window is None else window,
        )
        asked = Form.HYBRID if form == AUTO else Form(form)
        return replace(self, form=asked, auto=form == AUTO, matching=matching, scoring=scoring)

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

    def body(self) -> dict[str, Any]:
        """Return the request body that searches its words; hits lack the latent field."""
        query = self.words
        if self.filter:
            filters = [self.filter] if isinstance(self.filter, dict) else list(self.filter)
            query = {"bool": {"must": [query], "filter": filters}}
        return {
            "size": self.size,
            "_source": {"excludes": [self.latent_field, hash_field(self.latent_field)]},
            "track_total_hits": False,
            **({"collapse": {"field": self.collapse}} if self.collapse else {}),
            "query": query,
        }

    def found(self, target: Target) -> FoundClause:
        """Return the clause of its words, as it is found in `body`."""
        ((kind, content),) = self.words.items()
        try:
            boosts = (
                dict(field_boosts(kind, content))
                if kind == "multi_match"
                else {self.fields[0]: 1.0}
            )
        except ValueError as error:
            raise InputError(f"words_fields {', '.join(self.fields)}: {error}") from error
        fed = fed_boosts(boosts, target.fed)
        clause = TextClause(
            kind=kind,
            text=self.text,
            fields=tuple(fed),
            others=other_fields(boosts, target.fed, target.known_fields),
            boost=sum(fed.values()) / len(fed) if fed else 1.0,
            demands=None,
        )
        path: Path = ("query", "bool", "must", 0) if self.filter else ("query",)
        return FoundClause(path, shown((*path, kind)), clause, query=("query",), factor=1.0)


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
    if runs_script(body):
        return "keep", "a script may fail on documents that words do not find"
    return "expand", "the request neither aggregates, nor sorts, nor asks for exact totals"


def runs_script(body: dict[str, Any]) -> bool:
    """Return whether a request runs a script, or another function that a missing field fails."""
    waiting = [body.get(name) for name in SCRIPTED]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            factor = part.get("field_value_factor")
            if part.keys() & SCRIPTS or (isinstance(factor, dict) and "missing" not in factor):
                return True
            waiting += [value for name, value in part.items() if name not in LEAVES]
    return bool(body.get("script_fields"))


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


def least_window(body: dict[str, Any]) -> int:
    """Return the hits per shard to rescore at least: the size of a page.

    It is the same on every page, whatever `from` is: with a window that grows, hits would move from
    page to page, so that some come twice and others never.
    """
    try:
        size = int(body.get("size", DEFAULT_SIZE))
    except (TypeError, ValueError):
        size = DEFAULT_SIZE
    return min(size, LARGEST_WINDOW)
