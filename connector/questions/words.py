"""Texts → their words, as the analyzer of an index finds them.

Both must find the same words in any text, whatever version of Unicode a Python or a Java knows. So
what is a letter, and which letter it becomes, is written out here, character by character;
`question_analyzer` gives the engine the same classes and the same letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator, Sequence

# Characters of words, as a class of regular expressions of both Python and Java: ASCII, Latin,
# accents, Greek and Cyrillic, Armenian, Hebrew, Arabic, scripts of India, Thai, others below
# U+2000, Hangul. Without the punctuation between them, and without scripts that have no spaces
# between words (CJK): these end a word, as all other characters do.
LETTERS = (
    r"0-9A-Za-z\u00ad\u00b5"
    r"\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af"
    r"\u0300-\u036f"
    r"\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u0481"
    r"\u0483-\u0559\u0560-\u0588"
    r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7-\u05f2"
    r"\u0610-\u061a\u0620-\u0669\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06fc\u06ff"
    r"\u0710-\u07f5\u0800-\u0963\u0966-\u096f\u0971-\u0df3"
    r"\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59"
    r"\u0e81-\u0f00\u0f18-\u0f39\u0f3e-\u0fbc\u1000-\u1049\u1050-\u10fa\u10fc-\u135f"
    r"\u1369-\u166c\u166f-\u167f\u1681-\u1734\u1740-\u17d3\u17d7-\u17e9\u180b-\u1fbc\u1fbe"
    r"\u1fc2-\u1fcc\u1fd0-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ffc"
    r"\u200c\u200d\u2060\ufeff\u2c60-\u2c7f\uac00-\ud7a3\ufb00-\ufb06"
)

# Characters within words that are not seen: soft hyphen, joiners, and accents as characters.
UNSEEN = "\u00ad\u200c\u200d\u2060\ufeff"
ACCENTS = "".join(map(chr, range(0x300, 0x370)))

# Letters with upper case or accents, and ligatures: ASCII, Latin, Greek, Cyrillic, Armenian. No
# Unicode after 13.0, which every Python here knows, adds to these.
CASED = (
    *range(0x41, 0x5B),
    *range(0xB5, 0x588),
    *range(0x1E00, 0x2000),
    *range(0x2C60, 0x2C80),
    *range(0xFB00, 0xFB07),
)

# Longer words are mostly parts of formulas and addresses.
LONGEST_WORD = 40

# Letters of the longest entry of a table: a side of an engine's rule has at most 256 characters.
LONGEST_ENTRY = 256

# Letters of a word from which on it also stands for longer words: "cucumber" for "cucumbers".
STEM_LETTERS = 5

_word = re.compile(f"[{LETTERS}]+")


def plain(letter: str) -> str:
    """Return a letter in lower case, without accents: "É" → "e", "ß" → "ss"."""
    parts = unicodedata.normalize("NFD", letter)
    bare = "".join(part for part in parts if part not in ACCENTS).casefold()
    return "".join(_word.findall(bare))


PLAIN = {
    **dict.fromkeys([*UNSEEN, *ACCENTS], ""),
    **{
        chr(code): plain(chr(code))
        for code in CASED
        if _word.fullmatch(chr(code)) and plain(chr(code)) != chr(code)
    },
}
"""Characters of words that are written otherwise in the table, and how."""

_plain = str.maketrans(PLAIN)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case and without accents."""
    return [word for word in _words(text) if word]


def is_stem(entry: str) -> bool:
    """Whether an entry of a table also stands for longer words that the table lacks."""
    return len(entry) >= STEM_LETTERS and " " not in entry


def entry_for(word: str, table: Container[str]) -> str | None:
    """Return the entry of a word in a table: the word itself, or the longest stem that begins it.

    None if the table has neither.
    """
    if word in table:
        return word
    longest = min(len(word) - 1, LONGEST_ENTRY)
    stems = (word[:end] for end in range(longest, STEM_LETTERS - 1, -1))
    return next((stem for stem in stems if stem in table), None)


def parts_of(
    word: str, table: Container[str], pieces: Container[str]
) -> tuple[str | None, Sequence[str]]:
    """Return the longest word of a table that begins another, and the pieces of the rest.

    None and no pieces if the table has no word that begins it, or it has more than `LONGEST_WORD`
    letters. Of the rest, from left to right, the longest piece; letters that begin no piece are
    left out.
    """
    if len(word) > LONGEST_WORD:
        return None, []
    first = next((word[:end] for end in range(len(word) - 1, 0, -1) if word[:end] in table), None)
    found: list[str] = []
    at = len(first or word)
    while at < len(word):
        ends = range(len(word), at, -1)
        piece = next((word[at:end] for end in ends if word[at:end] in pieces), "")
        found += [piece] if piece else []
        at += len(piece) or 1
    return first, found


def entries_in(
    text: str, table: Container[str], longest: int
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the entries of a table that a text has, and their words in the text.

    From left to right, the longest first.

    Args:
        text: of which no word is in two entries.
        table: words, and phrases as words with a space between them.
        longest: most words of a phrase in the table.
    """
    words = _words(text)
    at = 0
    while at < len(words):
        for end in range(min(at + longest, len(words)), at, -1):
            some = words[at:end]
            entry = " ".join(some) if len(some) > 1 else entry_for(some[0], table)
            if entry is not None and entry in table:
                yield entry, some
                break
        else:
            end = at + 1
        at = end


def _words(text: str) -> list[str]:
    """As `words_of`; of characters that are not seen, an empty word is left."""
    # The letters of ASCII are those of `_plain`, three times as fast.
    return [run.lower() if run.isascii() else run.translate(_plain) for run in _word.findall(text)]
