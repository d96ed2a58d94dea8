"""Walk over a request body: finds the text clauses that score, each with its path.

Filters, `must_not`, `post_filter`, aggregations, `suggest` and `highlight` are never looked into.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from latent_ingest.connector.querying.clauses import (
    TEXT_KINDS,
    Clause,
    TextClause,
    asks_for_several,
    bool_of,
    has_latents,
    is_latent,
    read_text_clause,
)
from latent_ingest.connector.querying.indices.fields import IndexFields
from latent_ingest.connector.querying.report import UntouchedClause

Path = tuple[str | int, ...]

# Compound clause other than `bool` → the name of the clauses from which it makes its score.
SCORED_PARTS = {
    "boosting": "positive",
    "dis_max": "queries",
    "function_score": "query",
    "hybrid": "queries",
    "script_score": "query",
}

# Parts of a request that search beside its query.
OTHER_SEARCHES = {"retriever", "knn", "sub_searches"}

UNDER_MIN_SCORE = "its min_score would let other documents pass"

# Clauses without text, which are not reported.
NO_TEXT = {
    "distance_feature", "exists", "fuzzy", "geo_bounding_box", "geo_distance", "geo_polygon",
    "geo_shape", "ids", "match_all", "match_none", "prefix", "range", "rank_feature", "regexp",
    "script", "term", "terms", "terms_set", "wildcard", "xy_shape",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundClause:
    """A text clause that scores."""

    path: Path
    name: str
    """The path as `query.bool.must[0].match`."""
    clause: TextClause
    query: Path
    """Path of the query that contains it: that of the request, or of a rescore."""
    factor: float | None
    """Factor on its score before it is added to the score of every hit. None if it is not simply
    added, so that a second phase cannot add to it."""
    one_of_several: bool = False
    """Whether a `bool` around it asks for several clauses together."""

    @property
    def rescoring(self) -> bool:
        """Whether the clause only rescores hits of another query."""
        return self.query[0] == "rescore"


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the body, and what becomes of the score of a clause there."""

    path: Path
    query: Path
    factor: float | None = 1.0
    required: bool = True
    """Whether all hits match a clause there."""

    def part(
        self, *steps: str | int, factor: float | None = None, required: bool = False
    ) -> _Place:
        return _Place((*self.path, *steps), self.query, factor, required)


@dataclass(slots=True)
class BodyWalk:
    """Collects the text clauses of a body."""

    latent_field: str
    fed: Collection[str]
    """Fields whose text is in the latent field."""
    keep: bool
    """Whether words decide what matches, so that nothing may be added under a `min_score`."""
    known: IndexFields | None = None
    """All fields of the index, if known."""
    found: list[FoundClause] = field(default_factory=list)
    untouched: list[UntouchedClause] = field(default_factory=list)
    rescored: list[Any] = field(default_factory=list)
    """Clauses to whose scores a rescore adds latent terms already."""

    def walk(self, body: Mapping[str, Any]) -> None:
        """Walk through `query` and `rescore`, and note what else searches or is misplaced."""
        self.rescored = list(rescored(body, self.latent_field))
        for name in body:
            if name in OTHER_SEARCHES:
                self._leave(_Place((name,), (name,)), "no clause known here")
            elif name == "bool" or name in TEXT_KINDS:
                self._leave(_Place((name,), (name,)), 'it stands outside "query"')
        query, place = body.get("query"), _Place(("query",), ("query",))
        if self.keep and "min_score" in body and isinstance(query, dict) and "hybrid" in query:
            # Engines accept it only at the top, so not beside a filter by its scores.
            self._leave(place, UNDER_MIN_SCORE, "hybrid")
        else:
            self._query(query, place)
        for at, entry in clauses(body.get("rescore")):
            query = entry.get("query") if isinstance(entry, dict) else None
            if isinstance(query, dict) and "rescore_query" in query:
                path = ("rescore", *at, "query", "rescore_query")
                self._query(query["rescore_query"], _Place(path, path, factor=None))

    def _query(self, query: object, place: _Place) -> None:
        if not isinstance(query, dict) or len(query) != 1:
            if query:
                self._leave(place, "not understood")
            return
        ((kind, content),) = query.items()
        if has_latents(query, self.latent_field) or (
            self.rescored and copied(query, inner_hits=False) in self.rescored
        ):
            self._leave(place, "has latent terms already", kind)
        elif kind in TEXT_KINDS:
            clause = read_text_clause(kind, content, self.fed, self.known)
            if isinstance(clause, str):
                self._leave(place, clause, kind)
            else:
                self._find(place, kind, clause)
        elif kind in NO_TEXT:
            return
        elif kind not in ("bool", "nested", *SCORED_PARTS) or not isinstance(content, dict):
            reason = "it does not score" if kind == "constant_score" else "no clause known here"
            self._leave(place, reason, kind)
        elif product(1.0, content.get("boost")) == 0:
            self._leave(place, "boost 0: it does not score", kind)
        elif kind == "bool":
            self._bool(content, place)
        elif kind == "nested":
            self._nested(content, place)
        else:
            self._compound(kind, content, place)

    def _bool(self, content: dict[str, Any], place: _Place) -> None:
        factor = product(place.factor, content.get("boost"))
        if not place.required and (
            clauses(content.get("must"))
            or content.keys() & {"filter", "must_not", "mustNot"}
            or asks_for_several(content)
        ):
            factor = None  # hits that do not match the bool must not get its score
        must, should = (self._parts(name, content, place, factor) for name in ("must", "should"))
        one_more = bool(should) and str(content.get("minimum_should_match")) == "1"
        if len(must) + one_more > 1:
            self._ask_together(must)
        if (must and one_more) or asks_for_several(content):
            self._ask_together(should)

    def _parts(
        self, name: str, content: dict[str, Any], place: _Place, factor: float | None
    ) -> list[slice]:
        """Walk through the `must` or `should` of a `bool`; return the slices of `found` by part."""
        found, required = [], place.required and name == "must"
        for at, part in clauses(content.get(name)):
            first = len(self.found)
            where = place.part("bool", name, *at, required=required, factor=factor)
            self._query(part, where)
            if len(self.found) > first:
                found.append(slice(first, len(self.found)))
        return found

    def _ask_together(self, parts: list[slice]) -> None:
        """Note that a `bool` asks for more than one part whose text is rewritten.

        By latent terms, nearly every document matches each part, so nothing would be left of what
        they demand together. Parts without such text still demand.
        """
        for part in parts:
            self.found[part] = [replace(one, one_of_several=True) for one in self.found[part]]

    def _compound(self, kind: str, content: dict[str, Any], place: _Place) -> None:
        if kind == "function_score" and str(content.get("boost_mode")).lower() == "replace":
            self._leave(place, "boost_mode replace: its text does not score", kind)
        elif self.keep and "min_score" in content:
            self._leave(place, UNDER_MIN_SCORE, kind)
        else:
            part = SCORED_PARTS[kind]
            for at, query in clauses(content.get(part)):
                self._query(query, place.part(kind, part, *at))

    def _nested(self, content: dict[str, Any], place: _Place) -> None:
        """Treat a nested text clause as one clause: latent terms are of the whole document."""
        query = content.get("query")
        kind, inner = next(iter(query.items())) if isinstance(query, dict) and query else ("", None)
        if kind not in TEXT_KINDS:
            self._leave(place, "latent terms are of the whole document, not of a part", "nested")
            return
        clause = read_text_clause(kind, inner, self.fed, self.known)
        if isinstance(clause, str):
            self._leave(place, clause, "nested", "query", kind)
            return
        boost = product(clause.boost, content.get("boost"))
        if content.get("score_mode") == "none" or boost is None:
            self._leave(place, "it does not score", "nested")
        else:
            demands = "inner_hits" if "inner_hits" in content else clause.demands
            self._find(place, "nested", replace(clause, boost=boost, demands=demands))

    def _find(self, place: _Place, kind: str, clause: TextClause) -> None:
        name = shown((*place.path, kind))
        self.found.append(FoundClause(place.path, name, clause, place.query, place.factor))

    def _leave(self, place: _Place, reason: str, *kinds: str) -> None:
        self.untouched.append(UntouchedClause(shown((*place.path, *kinds)), reason))


def clauses(value: object) -> list[tuple[Path, object]]:
    """Return the clauses in a value, one or a list, each with the rest of its path."""
    if isinstance(value, list):
        return [((i,), clause) for i, clause in enumerate(value)]
    return [] if value is None else [((), value)]


def rescored(body: Mapping[str, Any], latent_field: str) -> Iterator[Any]:
    """Yield the words to whose scores our second phase adds latent terms."""
    for _, entry in clauses(body.get("rescore")):
        query = entry.get("query") if isinstance(entry, dict) else None
        ours = query.get("rescore_query") if isinstance(query, dict) else None
        for part in (ours, *bool_of(ours).get("should", ())):
            if is_latent(bool_of(part), latent_field):
                yield from bool_of(part).get("filter", ())


def product(factor: float | None, boost: object) -> float | None:
    """Return `factor` times a boost; None if either is not a number."""
    if factor is None or boost is None:
        return factor
    try:
        return factor * float(boost)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def copied(value: Any, *, inner_hits: bool = True) -> Any:
    """Return a deep copy of plain data, with tuples as lists, as in JSON.

    A query that stands in a request twice must be without `inner_hits` the second time.
    """
    if isinstance(value, (list, tuple)):
        return [copied(part, inner_hits=inner_hits) for part in value]
    if not isinstance(value, Mapping):
        return value
    left_out = None if inner_hits or "query" not in value else "inner_hits"
    return {
        name: copied(part, inner_hits=inner_hits)
        for name, part in value.items()
        if name != left_out
    }


def value_at(body: Any, path: Path) -> Any:
    """Return the value at a path."""
    for step in path:
        body = body[step]
    return body


def put(body: Clause, path: Path, clause: Clause) -> None:
    """Replace the value at a path."""
    value_at(body, path[:-1])[path[-1]] = clause


def shown(path: Path) -> str:
    """Return a path as `query.bool.must[0]`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).lstrip(".")
