"""Files of TREC topics: query ids and texts by tabs, in TREC's own tags, or in XML."""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Iterator
from pathlib import Path

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
