"""Report of a rewritten request: clauses changed, clauses left alone and why, terms pruned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from latent_ingest.connector.querying.feedback.expansion import Expansion
from latent_ingest.connector.querying.scoring import Form

AS_ASKED = "as asked for"

# The question table of a model folder, as reports name it.
TABLE = "by the table of words"


@dataclass(frozen=True, slots=True)
class RewrittenClause:
    """A text clause that was rewritten."""

    path: str
    """Path in the request as given: `query.bool.must[0].match`."""
    fields: tuple[str, ...]
    """The searched fields whose text is in the latent field."""
    other_fields: tuple[str, ...]
    """The other searched fields, and patterns that match other fields; see `others`."""
    form: Form
    matching: str
    """"expand" or "keep"."""
    terms: int
    """Number of latent terms in the request, in all phases."""
    share: float
    """Share of the weight `w * idf` of all latent terms of its text that these terms have."""
    notes: tuple[str, ...] = ()

    def others(self) -> str:
        """Return what becomes of fields that do not feed the latent field."""
        names = ", ".join(
            f"the rest of {name}" if any(fnmatchcase(fed, name) for fed in self.fields) else name
            for name in self.other_fields
        )
        if self.form.words_score:
            return f"by words alone in {names}"
        if self.matching == "keep":
            return f"no longer scored by {names}"
        return f"no longer searched: {names}"

    def line(self, matching: str) -> str:
        """Return a line to read; it names the matching if it is not that of the request."""
        pruned = "" if self.share == 1 else f", {self.share:.0%} of the weight"
        line = f"{self.path}: {self.form}, {self.terms} latent terms{pruned}"
        if self.matching != matching:
            line += f", matching {self.matching}"
        others = [self.others()] if self.other_fields else []
        return "; ".join([line, *others, *self.notes])


@dataclass(frozen=True, slots=True)
class UntouchedClause:
    """A clause that was left alone."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class RewriteReport:
    """Report of one rewritten request."""

    form: Form
    """The form that was asked for, or that `auto` chose."""
    matching: str
    """"expand": documents without a common word match too; "keep": words decide what matches."""
    why: str
    """The reason for the matching."""
    rewritten: tuple[RewrittenClause, ...]
    untouched: tuple[UntouchedClause, ...]
    """Text clauses and unknown clauses that score; filters are not looked into."""
    notes: tuple[str, ...]
    """Other differences from what was asked for: fallbacks, and options with another meaning."""
    form_why: str = AS_ASKED
    """The reason for the form."""
    texts: tuple[str, ...] = ()
    """The texts that were encoded, each once."""
    questions: str = "model"
    """What encoded the texts: "model" or "table"."""
    table: str = TABLE
    """The table that encoded the texts, in words."""
    lacking: tuple[str, ...] = ()
    """Words that the table lacks, which words alone search."""
    borrowed: tuple[str, ...] = ()
    """Words that the table of the model's folder has, and that of the index lacks."""
    pieced: tuple[str, ...] = ()
    """Words that no table has, and that are encoded by their parts."""
    feedback: Expansion | None = None
    """Latent terms that the texts took over from documents; None if not asked for."""

    def lines(self) -> Iterator[str]:
        """Yield the report in lines to read."""
        yield f"matching: {self.matching} ({self.why})"
        if self.questions == "table" and not self.lacking:
            yield f"questions: {self.table}"
        if self.form_why != AS_ASKED or self.form.two_phases:
            yield f"form: {self.form} ({self.form_why})"
        if self.feedback:
            yield from self.feedback.lines()
        yield from (clause.line(self.matching) for clause in self.rewritten)
        yield from self._rest()

    def losses(self) -> Iterator[str]:
        """Yield only the lines that say what was pruned, left alone, or done differently."""
        yield from (clause.line(self.matching) for clause in self.rewritten if clause.share < 1)
        yield from self._rest()

    def _rest(self) -> Iterator[str]:
        for left in self.untouched:
            yield f"{left.path}: left alone: {left.reason}"
        yield from self.notes
        if self.borrowed:
            words = ", ".join(self.borrowed)
            yield f"questions: by the model's table, since that of the index lacks it: {words}"
        if self.pieced:
            yield f"questions: by their parts, since no table has them: {', '.join(self.pieced)}"
        if self.lacking:
            words = ", ".join(self.lacking)
            yield f"questions: {self.table}, which lacks {words}: searched as words alone"

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)
