"""What a rewriting did: the clauses it changed, those it left alone and why, what was pruned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RewrittenClause:
    """A text clause that now scores by meaning."""

    path: str
    """In the request as it was given: `query.bool.must[0].match`."""
    fields: tuple[str, ...]
    """Those it searches that feed the latent field."""
    other_fields: tuple[str, ...]
    """Those it searches too, by words alone."""
    form: str
    matching: str
    """"expand" or "keep"."""
    terms: int
    """Latent terms in the request, of all phases."""
    share: float
    """Of the weight of all latent terms of its text, `w * idf`, that of those in the request."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UntouchedClause:
    """A clause that is as it was."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class RewriteReport:
    """What became of one request."""

    form: str
    """That was asked for."""
    matching: str
    """"expand": documents without a common word are found too; "keep": words decide."""
    why: str
    """Why that `matching`."""
    rewritten: tuple[RewrittenClause, ...]
    untouched: tuple[UntouchedClause, ...]
    """Text clauses, and unknown ones, where clauses score; filters are not looked into."""
    notes: tuple[str, ...]
    """What else differs from what was asked for: fallbacks, and options with another meaning."""

    def lines(self) -> Iterator[str]:
        """For a person to read."""
        yield f"matching: {self.matching} ({self.why})"
        for clause in self.rewritten:
            pruned = "" if clause.share == 1 else f", {clause.share:.0%} of the weight"
            line = f"{clause.path}: {clause.form}, {clause.terms} latent terms{pruned}"
            if clause.matching != self.matching:
                line += f", matching {clause.matching}"
            if clause.other_fields:
                line += f"; by words alone in {', '.join(clause.other_fields)}"
            yield "; ".join([line, *clause.notes])
        for left in self.untouched:
            yield f"{left.path}: left alone: {left.reason}"
        yield from self.notes

    def to_json(self) -> dict[str, Any]:
        """For a program to read."""
        return asdict(self)
