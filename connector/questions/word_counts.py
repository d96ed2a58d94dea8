"""Counts of words: how often each occurs, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from latent_ingest.connector.questions.words import LONGEST_WORD, words_of

# Different words that are counted at once: 150 MB. Above it, the rarest are forgotten; among
# millions of words these are mostly typing errors, and far from the first 30,000.
MOST_COUNTED = 1_000_000

# Occurrences of the first word of a list of words, and of the last ones.
MOST_LISTED = 400_000
LEAST_LISTED = 5


class WordCounts:
    """How often words occur, or in how many texts; the rarest are forgotten if there are many."""

    def __init__(self, most: int = MOST_COUNTED) -> None:
        """Count nothing yet; `most` is the number of different words to keep."""
        self._most = most
        self._counts: Counter[str] = Counter()

    def add(self, words: Iterable[str]) -> None:
        """Count words in lower case; those of more than `LONGEST_WORD` letters are left out."""
        self._counts.update(word for word in words if len(word) <= LONGEST_WORD)
        if len(self._counts) > self._most:
            self._forget()

    def add_document(self, text: str) -> None:
        """Count each word of a text once, so that the counts are document frequencies."""
        self.add(set(words_of(text)))

    def add_ranked(self, words: Iterable[str]) -> None:
        """Count words of a list, most frequent first: the word of rank r `MOST_LISTED / r` times.

        That is how often words of a language occur in a text of some five million words. Each is
        counted `LEAST_LISTED` times at least, as is what `words_of` makes of one.
        """
        for rank, listed in enumerate(words, start=1):
            for word in words_of(listed):
                if len(word) <= LONGEST_WORD:
                    self._counts[word] += max(LEAST_LISTED, MOST_LISTED // rank)

    def frequent(self, least: int = 1) -> dict[str, int]:
        """Return the words that were counted `least` times or more, most frequent first."""
        kept = ((word, count) for word, count in self._counts.items() if count >= least)
        return dict(sorted(kept, key=lambda item: (-item[1], item[0])))

    def _forget(self) -> None:
        """Forget the rarest words, at least half, so that this is seldom done."""
        least = 1
        while len(self._counts) > self._most // 2:
            least += 1
            kept = {word: count for word, count in self._counts.items() if count >= least}
            self._counts = Counter(kept)
