"""Texts → their most frequent words → the table of these words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.questions.question_table import (
    QuestionTable,
    words_of,
)

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Words of a table, unless another number is asked for.
MOST_WORDS = 90_000

# Latents kept for each word. docs/rewriting.md has the curve.
LATENTS = 24

# Occurrences that a word must have, and letters that it may have: the rest are mostly typing errors
# and parts of formulas and addresses.
LEAST_OCCURRENCES = 2
LONGEST_WORD = 40

# Counted words above which those with one occurrence are forgotten.
MOST_COUNTED = 4_000_000

WORDS_AT_ONCE = 512


def frequent_words(texts: Iterable[str], most: int = MOST_WORDS) -> list[str]:
    """Return the most frequent words of texts, most frequent first.

    Raises InputError if the texts have none that occurs twice.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words_of(text))
        if len(counts) > MOST_COUNTED:
            counts = Counter({word: count for word, count in counts.items() if count > 1})
    words = [
        word
        for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if count >= LEAST_OCCURRENCES and len(word) <= LONGEST_WORD
    ]
    if not words:
        raise InputError(f"no word occurs {LEAST_OCCURRENCES} times in these texts; name more")
    return words[:most]


def vocabulary_words(encoder: LatentEncoder) -> list[str]:
    """Return the words that are a token of the backbone by themselves, in lower case."""
    return [token for token in encoder.backbone.vocabulary if words_of(token) == [token]]


def build_table(
    encoder: LatentEncoder,
    words: Iterable[str],
    *,
    latents: int = LATENTS,
    on_progress: Callable[[int], object] = lambda done: None,
) -> QuestionTable:
    """Encode each word alone as a question.

    Args:
        encoder: the model.
        words: in lower case.
        latents: latents to keep for each word, the heaviest.
        on_progress: called with the number of words just encoded.

    Raises:
        ModelError: the model gives NaN.
    """
    every = list(dict.fromkeys(words))
    entries = {}
    for start in range(0, len(every), WORDS_AT_ONCE):
        some = every[start : start + WORDS_AT_ONCE]
        for word, (indices, values) in zip(some, encoder.encode(some, kind="query"), strict=True):
            entries[word] = indices.copy(), values.copy()
        on_progress(len(some))
    return QuestionTable.of(encoder.name, encoder.fingerprint, entries, encoder.idf(), latents)
