"""Files of TREC topics: query ids and texts by tabs, in TREC's own tags, or in XML.

Files of judgements: BEIR's `query document grade`, by tabs, TREC's `query 0 document grade`.
"""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latent_ingest.connector.corpus import CorpusFile
from latent_ingest.connector.errors import InputError

# Tags of TREC's older topics are not closed: a field ends where the next tag begins.
TOP = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
TITLE = re.compile(r"<title>\s*(?:Topic:)?([^<]*)", re.IGNORECASE)

# Newer ones: `<topic number="1"><query>...</query>`; some have a title in place of the query.
TOPIC = re.compile(r"<topic\s+number=\"([^\"]+)\"[^>]*>(.*?)</topic>", re.DOTALL | re.IGNORECASE)
QUERY = re.compile(r"<(?:query|title)>([^<]*)", re.IGNORECASE)


def read_topics(path: Path) -> dict[str, str]:
    """Query id → text: the short form that users type, TREC's title, not its description.

    Raises:
        InputError: the file cannot be read, or a topic has no number or no text.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if tops := TOP.findall(text):
        pairs = [(first_in(NUMBER, top), first_in(TITLE, top)) for top in tops]
    elif topics := TOPIC.findall(text):
        pairs = [(number, first_in(QUERY, topic) or topic) for number, topic in topics]
    else:
        pairs = list(rows(path, text))
    for place, (number, words) in enumerate(pairs, 1):
        if not number.strip() or not words.strip():
            raise InputError(f"{path}: topic {number or place} has no number or no text")
    if not pairs:
        raise InputError(f"{path}: no topics")
    return {number.strip(): " ".join(html.unescape(words).split()) for number, words in pairs}


def first_in(pattern: re.Pattern[str], text: str) -> str:
    """What a pattern's group holds; empty where it does not match."""
    found = pattern.search(text)
    return found[1] if found else ""


def rows(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Query ids and texts by tabs; further columns are left out."""
    for number, row in enumerate(text.splitlines(), 1):
        parts = row.split("\t")
        if row.strip() and len(parts) < 2:
            raise InputError(
                f"{path}: line {number}: {row[:60]!r} is no topic; write query id and text by a "
                f"tab, or TREC's <top> tags"
            )
        if row.strip():
            yield parts[0], parts[1]


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
