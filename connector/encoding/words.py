"""Tokens of a text → its words, as people see them."""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray


def word_spans(
    text: str, spans: NDArray[np.int64]
) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """Join tokens, given by their spans `[n_tokens, 2]`, that are parts of the same word.

    Returns:
        Start and end of each word, ascending and disjoint, and the word of each token,
        `[n_tokens]`. In scripts without spaces, each token is a word.
    """
    words: list[tuple[int, int]] = []
    places = np.zeros(len(spans), dtype=np.int64)
    for token, (start, end) in enumerate(spans.tolist()):
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
    pair = text[before - 1], text[before]
    return all(
        unicodedata.category(letter)[0] in "LNM"
        and unicodedata.east_asian_width(letter) not in ("W", "F")
        for letter in pair
    )
