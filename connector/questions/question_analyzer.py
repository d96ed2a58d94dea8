"""The table of an index, in its settings: an analyzer that turns a question into latent terms.

The analyzer is the search analyzer of the latent field, of parts that every engine has: mappings/
questions.json. Its char filters rewrite the text, one after the other:

    text                  Fractured bone loss?
    latent_words          ¦Fractured¦ ¦bone¦ ¦loss¦
    latent_letters        ¦fractured¦ ¦bone¦ ¦loss¦
    latent_table          f55¦d¦ f812×3 f4975 ¦loss¦   one rule for each word
    latent_unknown        f55 f812×3 f4975             words without a rule
    latent_weights        f55 f812×× f4975
    latent_repeats        f55 f812 f812 f812 f4975

A rule of a word of five letters or more stands for each longer word without a rule that begins with
it: its left side has no bar at the end, so that `¦fracture => f55¦` leaves what follows, `d¦`, as a
word without a rule. A char filter takes the longest left side.

A `match` adds up repeated terms, so a latent's weight is the sum of its weights over the words. A
text of nothing but latent terms is left as it is. `table_of` reads the table back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.questions.words import LETTERS, PLAIN, is_stem, words_of
from latent_ingest.connector.terms import latent_of, term
from latent_ingest.mappings import question_analysis

Weights = Mapping[int, int]
"""The latents of a word and their integer weights, 1 to 9; the heaviest first."""

Rules = Mapping[str, str]
"""Word, or words with a space between them, as `words_of` gives them → `f812×3 f4975`."""

# Char filter that has the rules: behind it, words without a rule are left between bars.
TABLE_FILTER = "latent_table"

# Setting that holds the rules of an index, one for each word.
RULES = f"index.analysis.char_filter.{TABLE_FILTER}.mappings"

# Greatest weight in a rule, and characters that the engine takes on a side of a rule.
HEAVIEST = 9
LONGEST_SIDE = 255

_spaces = "[ \t\n\x0b\f\r]"
_terms = re.compile(rf"{_spaces}*(?:f[0-9]{{1,9}}(?:[|][1-9][0-9]?)?(?:{_spaces}+|\Z))+", re.ASCII)


def rules_of(entries: Iterable[tuple[str, Weights]]) -> dict[str, str]:
    """Return the rules of words.

    Of words that are written alike, as "Café" and "cafe", the first one counts. What a rule has no
    room for, the lightest latents, is left out, and so are words without latents.

    Args:
        entries: words or phrases, and their latents.

    Raises:
        InputError: a weight is not 1 to 9.
    """
    rules: dict[str, str] = {}
    for text, weights in entries:
        word = " ".join(words_of(text))
        right = written(weights)
        if right and word and len(left(word)) <= LONGEST_SIDE:
            rules.setdefault(word, right)
    return rules


def written(weights: Weights) -> str:
    """Return the right side of a rule, as `f812×3 f4975`."""
    side = ""
    for latent, weight in weights.items():
        if not 1 <= weight <= HEAVIEST:
            raise InputError(f"latent {latent}: weight {weight} is not 1 to {HEAVIEST}")
        one = term(latent) if weight == 1 else f"{term(latent)}×{weight}"
        longer = f"{side} {one}" if side else one
        if len(longer) > LONGEST_SIDE - 1:  # a stem has a bar after it
            break
        side = longer
    return side


def read(right: str) -> dict[int, int]:
    """Return the latents of right sides of rules and the sums of their weights.

    Raises InputError.
    """
    weights: dict[int, int] = {}
    for one in right.split():
        name, _, weight = one.partition("×")
        if weight and not (weight.isascii() and weight.isdigit()):
            raise InputError(f"{one!r}: not a latent term with a weight")
        latent = latent_of(name)
        weights[latent] = weights.get(latent, 0) + int(weight or 1)
    return weights


def as_arrays(weights: Weights) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return latents, ascending, and their weights, `[n]` each."""
    latents = np.array(sorted(weights), dtype=np.int32)
    return latents, np.array([weights[latent] for latent in latents.tolist()], dtype=np.float32)


def left(word: str) -> str:
    """Return the left side of a rule: what the text of a question has in place of the words."""
    return f"¦{word}" if is_stem(word) else " ".join(f"¦{one}¦" for one in word.split(" "))


def analysis_of(rules: Rules) -> dict[str, Any]:
    """Return `settings.analysis` of an index with this table; see `SEARCH_ANALYZER`."""
    letters = [f"{escaped(letter)} => {plain}" for letter, plain in PLAIN.items()]
    table = [
        f"{left(word)} => {right}¦" if is_stem(word) else f"{left(word)} => {right}"
        for word, right in rules.items()
    ]
    return question_analysis(LETTERS, letters, table)


def escaped(letter: str) -> str:
    """Return a character as rules have it: one that is not seen alone by its number."""
    return letter if letter.isalnum() else f"\\u{ord(letter):04x}"


def table_of(settings: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the rules in the settings of an index; None if it has none.

    Args:
        settings: flat, as `Index.settings` returns them.

    Raises:
        MismatchError: the rules were written by hand, or by another version.
    """
    found = settings.get(RULES)
    if found is None:
        return None
    rules: dict[str, str] = {}
    for rule in found:
        words, _, right = rule.partition(" => ")
        word = words[1:].removesuffix("¦").replace("¦ ¦", " ")
        right = right.removesuffix("¦") if is_stem(word) else right
        if not right or words != left(word):
            raise MismatchError(
                f"a rule of the question table is {rule!r}, which this version of latent-ingest "
                f"cannot read; make the table again with 'latent-ingest questions --index'"
            )
        rules[word] = right
    return rules


def digest_of(rules: Rules) -> str:
    """Return SHA-256 of the rules, 16 hexadecimal digits."""
    lines = "\n".join(f"{word} => {right}" for word, right in rules.items())
    return sha256(lines.encode()).hexdigest()[:16]


def named_latents(text: str) -> dict[int, int] | None:
    """Return the latents of a text of nothing but latent terms, and how often it has each.

    None for any other text. Both spellings of `terms` are read.
    """
    if not _terms.fullmatch(text):
        return None
    found: dict[int, int] = {}
    for name, count in _counted(text):
        found[latent_of(name)] = found.get(latent_of(name), 0) + count
    return found


def _counted(text: str) -> Iterator[tuple[str, int]]:
    for one in text.split():
        name, _, count = one.partition("|")
        yield name, int(count or 1)
