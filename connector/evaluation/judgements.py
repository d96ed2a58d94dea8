"""Files of judgements: BEIR's `query document grade`, by tabs, TREC's `query 0 document grade`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latent_ingest.connector.corpus import CorpusFile
from latent_ingest.connector.errors import InputError


@dataclass(frozen=True, slots=True)
class Judgement:
    """One line of a file of judgements."""

    line: int
    """Counted from 1."""
    query: str
    document: str
    grade: int
    """How relevant; 0 and below is not."""


def read_judgements(path: Path) -> Iterator[Judgement]:
    """The judgements of a file, BEIR's or TREC's, line by line.

    Raises:
        InputError: a line is no judgement, says otherwise than one before, or there is none.
    """
    grades: dict[tuple[str, str], int] = {}
    with CorpusFile(path) as file:
        for line in file:
            content = line.content.decode("utf-8", "replace")
            parts = content.split("\t")
            if not content.strip() or (line.number == 1 and parts[-1] == "score"):
                continue
            if len(parts) != 3:
                parts = content.split()
                del parts[1:2]  # TREC's iteration, which nobody uses
            try:
                query, document, number = parts
                grade = whole(number)
            except ValueError:
                raise InputError(
                    f"{path}: line {line.number}: {content[:60]!r} is no judgement; write "
                    f"query id, document id and a whole number, by tabs, or as TREC does "
                    f"query id, 0, document id and the number"
                ) from None
            before = grades.setdefault((query, document), grade)
            if before != grade:
                raise InputError(
                    f"{path}: line {line.number}: document {document!r} has grade {grade} for "
                    f"query {query!r}, and {before} in a line above; keep one of them"
                )
            yield Judgement(line.number, query, document, grade)
    if not grades:
        raise InputError(f"{path}: no judgements")


def whole(text: str) -> int:
    """A whole number, also one written as 1.0; raises ValueError."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)
