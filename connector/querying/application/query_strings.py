"""Plain words of query strings, the texts in which people and frameworks write operators.

The engine itself goes on reading the text. What is read here only chooses latent terms, so whatever
is in doubt is left alone: ranges, regular expressions, fuzzy words, texts that cannot be parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS = "its query has operators"
ONLY_PHRASES = "a phrase stays a phrase"

# Parts of a tree of luqum that are not searched word by word.
IN_DOUBT = {"From", "Fuzzy", "Range", "Regex", "To"}

# Operators of Lucene that luqum lacks, outside quotes: those that stand alone mean nothing.
QUOTED = r'"(?:\\.|[^"\\])*"|\\.'
LUCENE_ONLY = re.compile(
    rf"(?P<same>{QUOTED})|(?P<alone>(?<!\S)[-+](?=\s)|!(?=\s)|(?<!\w)')|(?P<negation>!)"
    r"|(?<![^\s()])(?:(?P<both>&&)|(?P<either>\|\|))(?![^\s()])"
)
WRITTEN = {"alone": " ", "negation": " NOT ", "both": " AND ", "either": " OR "}

# What QueryParser.escape of Lucene escapes.
SPECIAL = re.compile(r'([\\+\-!():^\[\]"{}~*?|&/])')

# Operators of `simple_query_string` that leave more than plain words.
SIMPLE_IN_DOUBT = re.compile(r"[*~()\\]|(?<!\S)-")
SIMPLE_PHRASE = re.compile(r'"[^"]*"')


class InDoubt(Exception):
    """A query string that is left alone; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Part:
    """A word of a query string, or a phrase."""

    text: str
    field: str | None
    """The field or pattern that the text names for it; None for the fields of the clause."""
    boost: float
    """Product of the boosts that the text gives it."""
    phrase: bool = False


def plain_words(kind: str, text: str, *, escaped: bool = False) -> list[Part] | str:
    """Return the words of a `query_string` or `simple_query_string` that documents may have.

    Words that must not match, parts of words (`patt*`) and words of boost 0 are left out. If there
    are only phrases, or something is in doubt, return the reason to leave the text alone.

    Args:
        kind: "query_string" or "simple_query_string".
        text: the query.
        escaped: whether the engine escapes all operators but AND, OR and NOT.
    """
    try:
        if kind == "simple_query_string":
            parts = list(parts_of_simple(text))
        else:
            parts = list(parts_of(parsed(SPECIAL.sub(r"\\\1", text) if escaped else text)))
    except InDoubt as doubt:
        return str(doubt)
    except RecursionError:
        return OPERATORS
    parts = [part for part in parts if part.boost > 0 and re.search(r"\w", part.text)]
    if parts and all(part.phrase for part in parts):
        return ONLY_PHRASES
    return parts or "its query has no plain words"


def parsed(text: str) -> Any:
    """Return luqum's tree of a text in Lucene's syntax; raises InDoubt."""
    from luqum.thread import parse  # 40 ms, and many applications write no operators

    def written(found: re.Match[str]) -> str:
        return WRITTEN.get(str(found.lastgroup), found[0])

    try:
        return parse(LUCENE_ONLY.sub(written, text))
    except (ValueError, ArithmeticError) as error:
        raise InDoubt("its query has operators that cannot be parsed") from error


def parts_of(node: Any, field: str | None = None, boost: float = 1.0) -> Iterator[Part]:
    """Yield the words and phrases in a tree of luqum that may match; raises InDoubt."""
    kind = type(node).__name__
    if kind in IN_DOUBT:
        raise InDoubt(f"its query has operators: {node}")
    if kind in ("Not", "Prohibit"):
        return
    if kind == "SearchField":
        field = unescaped(node.name)
    elif kind == "Boost":
        boost *= float(node.force)
    elif kind == "Phrase":
        yield Part(unescaped(node.value[1:-1]), field, boost, phrase=True)
    elif kind == "Word":
        word = re.sub(
            r"(?<!\\)\?+$", "", node.value
        )  # the end of a question; matches a letter more
        if not re.search(r"[*?]", re.sub(r"\\.", "", word)):
            yield Part(unescaped(word), field, boost)
    for child in node.children:
        yield from parts_of(child, field, boost)


def parts_of_simple(text: str) -> Iterator[Part]:
    """Yield the words and phrases of a `simple_query_string`; raises InDoubt."""
    if SIMPLE_IN_DOUBT.search(text):
        raise InDoubt(OPERATORS)
    for phrase in SIMPLE_PHRASE.findall(text):
        yield Part(phrase[1:-1], None, 1.0, phrase=True)
    for word in re.split(r'[\s+|"]+', SIMPLE_PHRASE.sub(" ", text)):
        yield Part(word, None, 1.0)


def unescaped(text: str) -> str:
    """Return a text without the backslashes that escape its letters."""
    return re.sub(r"\\(.)", r"\1", text)
