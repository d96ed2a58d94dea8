"""The text clauses of a search request that score, each with its path; a walk over plain dicts.

request body → clauses found, clauses left alone → the same body with some of them replaced

Filters, `must_not`, `post_filter`, aggregations, `suggest` and `highlight` are never looked into.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from latent_ingest.connector.querying.latent_clause import Clause, has_latents
from latent_ingest.connector.querying.rewrite_report import UntouchedClause
from latent_ingest.connector.querying.text_clause import TEXT_KINDS, TextClause, read_text_clause

Path = tuple[str | int, ...]

# Compound clauses but `bool` → where the clauses are of which they make a score.
SCORED_PARTS = {
    "boosting": "positive",
    "dis_max": "queries",
    "function_score": "query",
    "hybrid": "queries",
    "script_score": "query",
}

# Clauses without text, which nobody needs to be told of.
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
    """The path as people write it, with the clause's kind."""
    clause: TextClause
    query: Path
    """Path of the query that it is in: the request's own, or that of a rescore."""
    factor: float | None
    """By which its score is multiplied before it is added to that of every hit; none where it is
    not simply added, so that no second phase could add more of it."""

    @property
    def rescoring(self) -> bool:
        """Whether it only scores anew what another query has found."""
        return self.query[0] == "rescore"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is, and what becomes of the score of a clause there."""

    path: Path
    query: Path
    factor: float | None = 1.0
    required: bool = True
    """Whether all hits match here."""

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
    """Whether what matches must stay, so that nothing may be added under a `min_score`."""
    found: list[FoundClause] = field(default_factory=list)
    untouched: list[UntouchedClause] = field(default_factory=list)

    def walk(self, body: Mapping[str, Any]) -> None:
        """Look through `query` and `rescore`."""
        if "query" in body:
            self._query(body["query"], _Place(("query",), ("query",)))
        for at, entry in clauses(body.get("rescore")):
            query = entry.get("query") if isinstance(entry, dict) else None
            if isinstance(query, dict) and "rescore_query" in query:
                path = ("rescore", *at, "query", "rescore_query")
                self._query(query["rescore_query"], _Place(path, path, factor=None))

    def _query(self, query: object, place: _Place) -> None:
        if not isinstance(query, dict) or len(query) != 1:
            if query:
                self._leave(place, "", "not understood")
            return
        ((kind, content),) = query.items()
        if has_latents(query, self.latent_field):
            self._leave(place, kind, "has latent terms already")
        elif kind in TEXT_KINDS:
            self._text(kind, content, place)
        elif kind == "bool" and isinstance(content, dict):
            self._bool(content, place)
        elif kind == "nested" and isinstance(content, dict):
            self._nested(content, place)
        elif kind in SCORED_PARTS and isinstance(content, dict):
            self._compound(kind, content, place)
        elif kind not in NO_TEXT:
            reason = "it does not score" if kind == "constant_score" else "no clause known here"
            self._leave(place, kind, reason)

    def _text(self, kind: str, content: object, place: _Place) -> None:
        clause = read_text_clause(kind, content, self.fed)
        if isinstance(clause, str):
            self._leave(place, kind, clause)
        else:
            self._find(place, kind, clause)

    def _bool(self, content: dict[str, Any], place: _Place) -> None:
        must, should = (clauses(content.get(name)) for name in ("must", "should"))
        factor = product(place.factor, content.get("boost"))
        if not place.required and (
            must
            or content.keys() & {"filter", "must_not", "mustNot"}
            or str(content.get("minimum_should_match", 1)) not in ("0", "1")
        ):
            factor = None  # other hits than its own must not get its score
        for name, parts in (("must", must), ("should", should)):
            for at, part in parts:
                required = place.required and name == "must"
                where = place.part("bool", name, *at, required=required, factor=factor)
                self._query(part, where)

    def _compound(self, kind: str, content: dict[str, Any], place: _Place) -> None:
        if kind == "function_score" and content.get("boost_mode") == "replace":
            self._leave(place, kind, "boost_mode replace: its text does not score")
        elif self.keep and "min_score" in content:
            self._leave(place, kind, "its min_score would let other documents pass")
        else:
            part = SCORED_PARTS[kind]
            for at, query in clauses(content.get(part)):
                self._query(query, place.part(kind, part, *at))

    def _nested(self, content: dict[str, Any], place: _Place) -> None:
        """A nested text clause is one clause: latent terms are of the whole document."""
        query = content.get("query")
        kind, inner = next(iter(query.items())) if isinstance(query, dict) and query else ("", None)
        if kind not in TEXT_KINDS:
            self._leave(place, "nested", "latent terms are of the whole document, not of a part")
            return
        clause = read_text_clause(kind, inner, self.fed)
        boost = product(1.0, content.get("boost"))
        if isinstance(clause, str):
            self._leave(place, f"nested.query.{kind}", clause)
        elif content.get("score_mode") == "none" or not boost:
            self._leave(place, "nested", "it does not score")
        else:
            demands = "inner_hits" if "inner_hits" in content else clause.demands
            self._find(
                place, "nested", replace(clause, boost=clause.boost * boost, demands=demands)
            )

    def _find(self, place: _Place, kind: str, clause: TextClause) -> None:
        name = shown((*place.path, kind))
        self.found.append(FoundClause(place.path, name, clause, place.query, place.factor))

    def _leave(self, place: _Place, kind: str, reason: str) -> None:
        self.untouched.append(UntouchedClause(shown((*place.path, *kind.split())), reason))


def clauses(value: object) -> list[tuple[Path, object]]:
    """The clauses under a name, which may be one or a list, with the rest of their path."""
    if isinstance(value, list):
        return [((i,), clause) for i, clause in enumerate(value)]
    return [] if value is None else [((), value)]


def product(factor: float | None, boost: object) -> float | None:
    """`factor` times a boost; none where either is no number."""
    if factor is None or boost is None:
        return factor
    return factor * boost if isinstance(boost, (int, float)) else None


def copied(value: Any) -> Any:
    """A copy of plain data, with tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {name: copied(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    return value


def value_at(body: Any, path: Path) -> Any:
    """What is at `path`."""
    for step in path:
        body = body[step]
    return body


def put(body: Clause, path: Path, clause: Clause) -> None:
    """Put `clause` in place of what is at `path`."""
    value_at(body, path[:-1])[path[-1]] = clause


def shown(path: Path) -> str:
    """A path as people write it: `query.bool.must[0]`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).lstrip(".")
