"""Readers of query files and judgement files.

Topics: query id and text separated by a tab, TREC's tags, or XML. Judgements (qrels): BEIR's
`query document grade` separated by tabs, or TREC's `query 0 document grade`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latent_ingest.connector.corpus_file import CorpusFile
from latent_ingest.connector.errors import InputError

# Older TREC topics do not close their tags: a field ends where the next tag begins.
TOP = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
TITLE = re.compile(r"<title>\s*(?:Topic:)?([^<]*)", re.IGNORECASE)

# Newer TREC topics: `<topic number="1"><query>...</query>`; some have a title instead of a query.
TOPIC = re.compile(r"<topic\s+number=\"([^\"]+)\"[^>]*>(.*?)</topic>", re.DOTALL | re.IGNORECASE)
QUERY = re.compile(r"<(?:query|title)>([^<]*)", re.IGNORECASE)


def read_topics(path: Path) -> dict[str, str]:
    """Read a topics file (plain or .gz) as query id → text; of TREC topics, the title.

    Raises:
        InputError: the file cannot be read, or a topic has no number or no text.
    """
    with CorpusFile(path) as file:
        text = b"\n".join(line.content for line in file).decode("utf-8", "replace")
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
    """Return the first group of the first match; "" if the pattern does not match."""
    found = pattern.search(text)
    return found[1] if found else ""


def rows(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Yield query id and text of each line of a tab-separated file; further columns are ignored."""
    for number, row in enumerate(text.splitlines(), 1):
        parts = row.split("\t")
        if row.strip() and len(parts) < 2:
            raise InputError(
                f"{path}: line {number}: {row[:60]!r} is not a topic; separate query id and text "
                f"by a tab, or use TREC's <top> tags"
            )
        if row.strip():
            yield parts[0], parts[1]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One line of a judgement file."""

    line: int
    """Line number, from 1."""
    query: str
    document: str
    grade: int
    """Degree of relevance; 0 and below is not relevant."""


def read_judgements(path: Path) -> Iterator[Judgement]:
    """Yield the judgements of a file, BEIR's or TREC's, line by line.

    Raises:
        InputError: a line is not a judgement or contradicts an earlier line, or the file has none.
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
                del parts[1:2]  # TREC's iteration, which is unused
            try:
                query, document, number = parts
                grade = whole(number)
            except ValueError:
                raise InputError(
                    f"{path}: line {line.number}: {content[:60]!r} is not a judgement; write "
                    f"query id, document id and an integer separated by tabs, or as in TREC "
                    f"query id, 0, document id and the integer"
                ) from None
            before = grades.setdefault((query, document), grade)
            if before != grade:
                raise InputError(
                    f"{path}: line {line.number}: document {document!r} has grade {grade} for "
                    f"query {query!r}, and {before} in an earlier line; keep one of them"
                )
            yield Judgement(line.number, query, document, grade)
    if not grades:
        raise InputError(f"{path}: no judgements")


def whole(text: str) -> int:
    """Parse an integer, which may be written as 1.0; raises ValueError."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)
