"""A survey: what the latents of a model do in a sample of texts, counted in one pass.

texts → latents of tokens → firings of words → document frequencies, words, passages
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.inspection.contexts import HeaviestContexts
from latent_ingest.connector.inspection.firings import Firings, firings_of
from latent_ingest.connector.inspection.vocabulary import words_of
from latent_ingest.connector.inspection.word_mass import WordMass

# Characters of texts encoded at once: some 50,000 tokens, of 200 bytes each.
GROUP = 200_000

# Average characters per token, so that a small sample does not become a whole group too large.
CHARACTERS_PER_TOKEN = 4

# Latents of texts kept for co-occurrence, 4 bytes each: those of some 20,000 texts.
MOST_KEPT = 8_388_608


class Survey:
    """Counts of a sample.

    Memory: 12 bytes for each pair of a latent and a word that activates it, at most `MOST_PAIRS`;
    4 bytes for each pair of a text and a latent, at most `MOST_KEPT`; some passages per latent;
    and the sample's words.
    """

    def __init__(self, n_latents: int) -> None:
        self.n_latents = n_latents
        self.n_texts = 0
        self.n_tokens = 0
        self.document_frequency: NDArray[np.int64] = np.zeros(n_latents, dtype=np.int64)
        """Number of texts in which each latent is active, `[n_latents]`."""
        self.mass: NDArray[np.float64] = np.zeros(n_latents, dtype=np.float64)
        """Sum of each latent's activations, `[n_latents]`."""
        self.words = WordMass()
        self.contexts = HeaviestContexts(n_latents)
        self.text_frequency: Counter[str] = Counter()
        """Number of texts that have each lower-cased word, as in `word_frequencies`."""
        self.latents_of_texts: list[NDArray[np.int32]] = []
        """Latents of each of the first texts, at most `MOST_KEPT` in all."""
        self._kept = 0

    def add(self, texts: list[str], firings: Firings) -> None:
        """Count some texts."""
        latents = firings.latents[firings.starts]
        self.n_texts += len(texts)
        self.n_tokens += int(firings.words.n_tokens.sum())
        self.document_frequency += np.bincount(latents, minlength=self.n_latents)
        self.mass += np.bincount(
            firings.latents, weights=firings.activations, minlength=self.n_latents
        )
        self.words.add(firings)
        self.contexts.add(firings)
        self.text_frequency.update(chain.from_iterable(map(words_of, texts)))
        if self._kept < MOST_KEPT:
            text_of = firings.words.texts[firings.places[firings.starts]]
            order = np.argsort(text_of, kind="stable")
            bounds = np.searchsorted(text_of[order], np.arange(1, len(texts)))
            self.latents_of_texts += np.split(latents[order].astype(np.int32), bounds)
            self._kept += len(latents)

    @property
    def alive(self) -> NDArray[np.int64]:
        """Latents that are active in the sample, most frequent first, `[n_alive]`."""
        order = np.argsort(-self.document_frequency, kind="stable")
        found: NDArray[np.int64] = order[: np.count_nonzero(self.document_frequency)]
        return found


def survey(
    encoders: list[LatentEncoder],
    texts: Iterable[str],
    *,
    tokens: int,
    progress: Callable[[int], object] = lambda more: None,
) -> list[Survey]:
    """Survey the first texts, of about `tokens` tokens; return a survey per encoder.

    Each encoder encodes every text; `progress` is called with the number of tokens just read.

    Raises:
        InputError: there is no text.
        ModelError: the backbone gives NaN.
    """
    found = [Survey(encoder.n_latents) for encoder in encoders]
    reading = iter(texts)
    while (left := tokens - found[0].n_tokens) > 0:
        group = list(characters(reading, min(GROUP, left * CHARACTERS_PER_TOKEN)))
        if not group:
            break
        before = found[0].n_tokens
        for encoder, counts in zip(encoders, found, strict=True):
            counts.add(group, firings_of(group, encoder.encode_tokens(group)))
        progress(found[0].n_tokens - before)
    if not found[0].n_tokens:
        raise InputError("the sample has no text; name other files with --sample")
    return found


def characters(texts: Iterator[str], least: int) -> Iterator[str]:
    """The next texts, until they have `least` characters together."""
    for text in texts:
        yield text
        least -= len(text)
        if least <= 0:
            return
