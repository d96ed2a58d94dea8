"""The words of English texts, as the engines' analyzer `english` makes them.

text → tokens (Unicode word boundaries) → without 's → lower case → without stop words → stems

The stems are those of Porter's algorithm (An algorithm for suffix stripping, 1980), with the two
later changes of Porter that Lucene has.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from unicodedata import category

# The stop words of Lucene's EnglishAnalyzer.
STOP_WORDS = {
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they",
    "this", "to", "was", "will", "with",
}  # fmt: skip

# Scripts in which each character is a token, and characters that count for Python alone as
# letters: powers, fractions, numbers in circles.
_SINGLE = "\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_NUMBERS = (
    "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070\u2074-\u207e\u2080-\u208e\u2150-\u215f\u2189"
    "\u2460-\u249b\u24ea-\u24ff\u2776-\u2793"
)
# Vowels, accents and other signs that belong to the letter before them.
_MARKS = "\u00ad\u200c\u200d" + "".join(
    sign for sign in map(chr, range(0x300, 0x10000)) if category(sign) in ("Mn", "Mc", "Me")
)
_LETTER = rf"(?![{_SINGLE}{_NUMBERS}])[^\W\d_]"
_ATOM = rf"(?:{_LETTER}|[\d_])[{_MARKS}]*"
# What joins letters, digits, or both within a word.
_JOINS_BOTH = ".'\u2018\u2019\u2024\ufe52\uff07\uff0e"
_JOINS_LETTERS = ":\u00b7\u0387\u055f\u05f4\u2027\ufe13\ufe55\uff1a"
_JOINS_DIGITS = ",;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b"
_HEBREW = "\u05d0-\u05ea"
TOKEN = re.compile(
    rf"[{_SINGLE}]|{_ATOM}(?:{_ATOM}"
    rf"|(?<=[^\W\d_]|[{_MARKS}])[{_JOINS_BOTH}{_JOINS_LETTERS}](?={_LETTER})"
    rf"|(?<=\d)[{_JOINS_BOTH}{_JOINS_DIGITS}](?=\d)"
    rf'|(?<=[{_HEBREW}])"(?=[{_HEBREW}]))*'
)
POSSESSIVE = re.compile("['\u2019\uff07][sS]$")

# Longer tokens are cut, as by Lucene.
LONGEST = 255


def words_of(text: str) -> list[str]:
    """The words of a text in their order, stemmed, without stop words.

    Unlike the engines' analyzer, it leaves emoji out.
    """
    found = []
    for token in TOKEN.findall(text):
        if not token.strip("_"):
            continue
        for start in range(0, len(token), LONGEST):
            word = lower(POSSESSIVE.sub("", token[start : start + LONGEST]))
            if word not in STOP_WORDS:
                found.append(stem(word))
    return found


def lower(word: str) -> str:
    """The word in lower case, letter by letter: without the rules of Greek and Turkish."""
    if word.isascii():
        return word.lower()
    return "".join("i" if letter == "İ" else letter.lower() for letter in word)


# Steps 2, 3 and 4 of Porter's algorithm: ending → what replaces it. The longest that fits counts.
STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize",
    "bli": "ble", "alli": "al", "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize",
    "ation": "ate", "ator": "ate", "alism": "al", "iveness": "ive", "fulness": "ful",
    "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
STEP_3 = {
    "icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": "",
}  # fmt: skip
STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(100_000)
def stem(word: str) -> str:
    """The stem of a word in lower case: "matching" → "match"."""
    if len(word) <= 2:
        return word
    word = step_1(word)
    word = replaced(word, STEP_2)
    word = replaced(word, STEP_3)
    for ending in longest_first(STEP_4):
        if word.endswith(ending):
            rest = word[: -len(ending)]
            if measure(rest) > 1 and (ending != "ion" or rest.endswith(("s", "t"))):
                word = rest
            break
    if word.endswith("e"):
        rest = word[:-1]
        if measure(rest) > 1 or (measure(rest) == 1 and not ends_short(rest)):
            word = rest
    if word.endswith("ll") and measure(word) > 1:
        word = word[:-1]
    return word


def step_1(word: str) -> str:
    """Without plurals, -ed and -ing; y after a vowel becomes i."""
    if word.endswith(("sses", "ies")) or (word.endswith("s") and not word.endswith("ss")):
        word = word[:-2] if word.endswith(("sses", "ies")) else word[:-1]
    if word.endswith("eed"):
        if measure(word[:-3]) > 0:
            word = word[:-1]
    else:
        for ending in ("ed", "ing"):
            if word.endswith(ending) and has_vowel(word[: -len(ending)]):
                word = without_ending(word[: -len(ending)])
                break
    if word.endswith("y") and has_vowel(word[:-1]):
        word = word[:-1] + "i"
    return word


def without_ending(rest: str) -> str:
    """What is left of a word after -ed or -ing was removed."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if len(rest) > 1 and rest[-1] == rest[-2] and is_consonant(rest, len(rest) - 1):
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if measure(rest) == 1 and ends_short(rest) else rest


def replaced(word: str, endings: dict[str, str]) -> str:
    """The word with one of the endings replaced, if a measure above zero is left before it."""
    for ending in longest_first(tuple(endings)):
        if word.endswith(ending):
            rest = word[: -len(ending)]
            return rest + endings[ending] if measure(rest) > 0 else word
    return word


@lru_cache
def longest_first(endings: tuple[str, ...]) -> list[str]:
    """The endings in the order in which they are tried."""
    return sorted(endings, key=len, reverse=True)


def is_consonant(word: str, at: int) -> bool:
    """Whether a letter is a consonant; y is one at the start and after a vowel."""
    if word[at] == "y":
        return at == 0 or not is_consonant(word, at - 1)
    return word[at] not in "aeiou"


def measure(word: str) -> int:
    """Number of times that a consonant follows a vowel."""
    kinds = [is_consonant(word, at) for at in range(len(word))]
    return sum(after and not before for before, after in pairwise(kinds))


def has_vowel(word: str) -> bool:
    """Whether a part of a word has a vowel."""
    return not all(is_consonant(word, at) for at in range(len(word)))


def ends_short(word: str) -> bool:
    """Whether it ends with consonant, vowel and a consonant other than w, x and y."""
    if len(word) < 3 or word[-1] in "wxy":
        return False
    last = len(word) - 1
    return (
        is_consonant(word, last)
        and not is_consonant(word, last - 1)
        and is_consonant(word, last - 2)
    )
