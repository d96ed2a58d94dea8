"""What a question table says of latents: the words of each, its neighbours, the latents of a text.

Only numpy is imported: no torch, no tokenizer. A weight in the table is the root of an activation.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.encoding.vectors import TokenVectors
from latent_ingest.connector.questions.question_analyzer import read
from latent_ingest.connector.questions.question_table import STOP_WORDS, QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable
from latent_ingest.connector.questions.words import LETTERS, words_of

# Latents of a word of a text, the heaviest; the others hardly change what is marked.
MOST_LATENTS = 32

# Most words of a question that name a latent without a label.
MOST_WORDS = 3

_word = re.compile(f"[{LETTERS}]+")


@dataclass(frozen=True)
class WordLatents:
    """The latents of words, to be read in both directions. Read-only."""

    words: Sequence[str]
    """`[n_words]`, as `words_of` gives them; a phrase has spaces."""
    offsets: NDArray[np.int64]
    """Boundaries of the words' latents, `[n_words + 1]`."""
    latents: NDArray[np.int64]
    """Latents of each word, heaviest first, `[nnz]`."""
    weights: NDArray[np.float64]
    """Their weights, above zero, `[nnz]`."""
    rows: dict[str, int] = field(default_factory=dict)
    """Word → its place among `words`."""

    @classmethod
    def of(cls, table: QuestionTable | StoredTable) -> WordLatents:
        """Return the words of the table of a model folder, or of an index."""
        if isinstance(table, QuestionTable):
            words = [word if word.isascii() else " ".join(words_of(word)) for word in table.words]
            latents, weights = table.latents, table.weights
            offsets = table.offsets
        else:
            words = list(table.rules)
            found = [read(right) for right in table.rules.values()]
            latents = np.array([latent for one in found for latent in one], dtype=np.uint32)
            weights = np.array([weight for one in found for weight in one.values()], np.uint8)
            offsets = np.array([0, *accumulate(map(len, found))], dtype=np.int64)
        rows: dict[str, int] = {}
        for row, word in enumerate(words):
            rows.setdefault(word, row)
        return cls(words, offsets, latents.astype(np.int64), weights.astype(np.float64), rows)

    def words_of(self, latent: int, most: int) -> list[tuple[str, float]]:
        """The words that have most of a latent, heaviest first, with their weights."""
        rows, weights = self._of(latent)
        order = np.argsort(-weights, kind="stable")[:most]
        return [(self.words[rows[at]], float(weights[at])) for at in order.tolist()]

    def neighbours(self, latent: int, most: int) -> list[tuple[int, float]]:
        """The latents of the same words, nearest first, with the cosine of their weights."""
        rows, weights = self._of(latent)
        if not len(rows):
            return []
        spans = [np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows]
        places = np.concatenate(spans)
        own = np.repeat(weights, [len(span) for span in spans])
        others = self.latents[places]
        products = np.bincount(others, own * self.weights[places])
        candidates = np.flatnonzero(products)
        norms = np.bincount(self.latents, self.weights**2)
        cosines = products[candidates] / np.sqrt(norms[candidates] * norms[latent])
        order = [at for at in np.argsort(-cosines, kind="stable") if candidates[at] != latent]
        return [(int(candidates[at]), float(cosines[at])) for at in order[:most]]

    def firing_words(self, question: str) -> dict[int, str]:
        """The words of a question that have each latent, heaviest first."""
        strength: dict[int, Counter[str]] = defaultdict(Counter)
        for word in words_of(question):
            if word in STOP_WORDS or (row := self.rows.get(word)) is None:
                continue
            span = slice(self.offsets[row], self.offsets[row + 1])
            rows = zip(self.latents[span].tolist(), self.weights[span].tolist(), strict=True)
            for latent, weight in rows:
                strength[latent][word] += weight
        return {
            latent: ", ".join(word for word, _ in counted.most_common(MOST_WORDS))
            for latent, counted in strength.items()
        }

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The latents of words of texts, in the shape of `LatentEncoder.encode_tokens`.

        Each word counts as it does by itself, without what its neighbours add.
        """
        return [self._tokens(text) for text in texts]

    def _tokens(self, text: str) -> TokenVectors:
        spans = [found.span() for found in _word.finditer(text)]
        latents = np.zeros((len(spans), MOST_LATENTS), dtype=np.int64)
        activations = np.zeros((len(spans), MOST_LATENTS), dtype=np.float32)
        for place, (start, end) in enumerate(spans):
            word = " ".join(words_of(text[start:end]))
            if word in STOP_WORDS or (row := self.rows.get(word)) is None:
                continue
            first = self.offsets[row]
            last = min(self.offsets[row + 1], first + MOST_LATENTS)
            latents[place, : last - first] = self.latents[first:last]
            activations[place, : last - first] = self.weights[first:last] ** 2
        return TokenVectors(np.array(spans, dtype=np.int64).reshape(-1, 2), latents, activations)

    def _of(self, latent: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Places of the words that have a latent, and its weight in each."""
        places = np.flatnonzero(self.latents == latent)
        rows = np.searchsorted(self.offsets, places, side="right") - 1
        return rows, self.weights[places]
