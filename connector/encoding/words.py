"""Tokens of a text → its words, as people see them."""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

# Scripts of Southeast Asia that write no spaces between words: first and last character.
WITHOUT_SPACES = (
    ("\u0e00", "\u0eff"),  # Thai, Lao
    ("\u1000", "\u109f"),  # Burmese
    ("\u1780", "\u17ff"),  # Khmer
)


def word_spans(
    text: str, spans: NDArray[np.int64]
) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """Join tokens, given by their spans `[n_tokens, 2]`, that are parts of the same word.

    A word ends with the marks over its last letter, also where the tokenizer removes them.

    Returns:
        Start and end of each word, ascending and disjoint, and the word of each token,
        `[n_tokens]`. In scripts without spaces, each token is a word.
    """
    words: list[tuple[int, int]] = []
    places = np.zeros(len(spans), dtype=np.int64)
    for token, (start, end) in enumerate(spans.tolist()):
        while start < end < len(text) and is_mark(text[end]):
            end += 1
        if words and (start < words[-1][1] or joins(text, words[-1][1], start)):
            words[-1] = (words[-1][0], max(words[-1][1], end))
        else:
            words.append((start, end))
        places[token] = len(words) - 1
    return words, places


def joins(text: str, before: int, after: int) -> bool:
    """Whether a token that ends at `before` and one that begins at `after` are in the same word."""
    if before != after or not 0 < before < len(text):
        return False
    return all(
        unicodedata.category(letter)[0] in "LNM"
        and unicodedata.east_asian_width(letter) not in ("W", "F")
        and not any(low <= letter <= high for low, high in WITHOUT_SPACES)
        for letter in (text[before - 1], text[before])
    )


def is_mark(letter: str) -> bool:
    """Whether a character stands over, under or around the letter before it."""
    return unicodedata.category(letter)[0] == "M"
