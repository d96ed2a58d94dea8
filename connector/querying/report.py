"""What a rewriting did: the clauses it changed, those it left alone and why, what was pruned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True, slots=True)
class RewrittenClause:
    """A text clause that now scores by meaning."""

    path: str
    """In the request as it was given: `query.bool.must[0].match`."""
    fields: tuple[str, ...]
    """Those it searches that feed the latent field."""
    other_fields: tuple[str, ...]
    """Others that it searched, and patterns of others; see `others`."""
    form: str
    matching: str
    """"expand" or "keep"."""
    terms: int
    """Latent terms in the request, of all phases."""
    share: float
    """Of the weight of all latent terms of its text, `w * idf`, that of those in the request."""
    notes: tuple[str, ...] = ()

    def others(self) -> str:
        """What becomes of fields that do not feed the latent field."""
        names = ", ".join(
            f"the rest of {name}" if any(fnmatchcase(fed, name) for fed in self.fields) else name
            for name in self.other_fields
        )
        if self.form.startswith("hybrid"):
            return f"by words alone in {names}"
        if self.matching == "keep":
            return f"no longer scored by {names}"
        return f"no longer searched: {names}"

    def line(self, matching: str) -> str:
        """For a person to read, who knows the matching of the request."""
        pruned = "" if self.share == 1 else f", {self.share:.0%} of the weight"
        line = f"{self.path}: {self.form}, {self.terms} latent terms{pruned}"
        if self.matching != matching:
            line += f", matching {self.matching}"
        others = [self.others()] if self.other_fields else []
        return "; ".join([line, *others, *self.notes])


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
        yield from (clause.line(self.matching) for clause in self.rewritten)
        yield from self._rest()

    def losses(self) -> Iterator[str]:
        """Those of the lines that say what was pruned, left alone, or done otherwise."""
        yield from (clause.line(self.matching) for clause in self.rewritten if clause.share < 1)
        yield from self._rest()

    def _rest(self) -> Iterator[str]:
        for left in self.untouched:
            yield f"{left.path}: left alone: {left.reason}"
        yield from self.notes

    def to_json(self) -> dict[str, Any]:
        """For a program to read."""
        return asdict(self)
