"""Texts → their most frequent words → the table of these words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.questions.pieces import WORDS_AT_ONCE
from latent_ingest.connector.questions.question_table import STOP_WORDS, Entries, QuestionTable
from latent_ingest.connector.questions.word_counts import WordCounts
from latent_ingest.connector.questions.words import words_of

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.encoding.vectors import LatentVectors

# Words of a table, unless another number is asked for.
MOST_WORDS = 90_000

# Latents kept for each word. docs/benchmarks.md has the curve.
LATENTS = 24

# Occurrences that a word must have: the rest are mostly typing errors.
LEAST_OCCURRENCES = 2

# Beside other words, a word has other latents than alone, so it is also encoded in these texts.
# Their own latents, the mean over some words of the backbone, are taken off. docs/benchmarks.md has
# what it is worth.
CONTEXTS = ("what is {}", "effects of {}")
CONTEXT_WORDS = 256

NOTHING = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)


def frequent_words(
    texts: Iterable[str], most: int = MOST_WORDS, *, listed: Iterable[str] = ()
) -> list[str]:
    """Return the most frequent words of texts, most frequent first.

    Args:
        texts: the texts.
        most: number of words.
        listed: words of a language, most frequent first, which count as if they were a text.

    Raises:
        InputError: they have no word that occurs twice.
    """
    counts = WordCounts()
    for text in texts:
        counts.add(words_of(text))
    counts.add_ranked(listed)
    words = list(counts.frequent(LEAST_OCCURRENCES))
    if not words:
        raise InputError(f"no word occurs {LEAST_OCCURRENCES} times in these texts; name more")
    return words[:most]


def read_word_list(path: Path, most: int | None = None) -> list[str]:
    """Return the first word of each line of a file, of the first `most` lines.

    Raises InputError if the file has no words or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            words = [line.split()[0] for line in islice(lines, most) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a list of words that can be read: {error}") from error
    if not any(map(words_of, words)):
        raise InputError(f"{path}: has no words; write one a line, the most frequent first")
    return words


def vocabulary_words(encoder: LatentEncoder) -> list[str]:
    """Return the words that are a token of the backbone by themselves, in lower case."""
    return [token for token in encoder.backbone.vocabulary if words_of(token) == [token]]


def build_table(
    encoder: LatentEncoder,
    words: Iterable[str],
    *,
    latents: int = LATENTS,
    pieces: Entries | None = None,
    on_progress: Callable[[int], object] = lambda done: None,
) -> QuestionTable:
    """Encode each word as a question; stop words have no latents.

    Args:
        encoder: the model.
        words: in lower case, without accents.
        latents: latents to keep for each word, the heaviest.
        pieces: those that words which the table lacks are made of, `encode_pieces`.
        on_progress: called with the number of words just encoded; what it raises ends the encoding.

    Raises:
        ModelError: the model gives NaN.
    """
    every = list(dict.fromkeys(words))
    found = encode_words(encoder, [word for word in every if word not in STOP_WORDS], on_progress)
    return QuestionTable.of(
        encoder.name,
        encoder.fingerprint,
        {word: found.get(word, NOTHING) for word in every},
        encoder.idf(),
        latents,
        pieces,
    )


def encode_words(
    encoder: LatentEncoder,
    words: Sequence[str],
    on_progress: Callable[[int], object] = lambda done: None,
    *,
    contexts: Sequence[str] = CONTEXTS,
) -> Entries:
    """Encode each word as a question, alone and in contexts; the mean of both is its entry.

    `on_progress` is called with the number of words just encoded; what it raises ends the encoding.

    Raises:
        ModelError: the model gives NaN.
    """
    own = [of_context(encoder, context) for context in contexts] if words else []
    entries = {}
    for start in range(0, len(words), WORDS_AT_ONCE):
        some = words[start : start + WORDS_AT_ONCE]
        alone = encoder.encode(some, kind="query")
        within = [in_context(encoder, context, some) for context in contexts]
        for row, word in enumerate(some):
            parts = [alone[row]]
            for vectors, of_its_own in zip(within, own, strict=True):
                latents, values = vectors[row]
                parts.append((latents, values - of_its_own[latents]))
            entries[word] = mean(parts)
        on_progress(len(some))
    return entries


def in_context(encoder: LatentEncoder, context: str, words: Sequence[str]) -> LatentVectors:
    """Encode words as questions in a context."""
    return encoder.encode([context.format(word) for word in words], kind="query")


def of_context(encoder: LatentEncoder, context: str) -> NDArray[np.float32]:
    """Return the activations that a context has by itself: the mean over words, `[n_latents]`."""
    words = vocabulary_words(encoder)
    some = words[:: len(words) // CONTEXT_WORDS or 1]
    vectors = in_context(encoder, context, some)
    sums = np.bincount(vectors.indices, vectors.values, minlength=encoder.n_latents)
    return (sums / max(1, len(some))).astype(np.float32)


def mean(
    parts: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the latents of some vectors and the means of their values, where above zero."""
    latents, places = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    values = np.bincount(places, np.concatenate([part[1] for part in parts])) / len(parts)
    return latents[values > 0], values[values > 0].astype(np.float32)
