"""A latent's counts → its heaviest words, and a label of those it fires on more than on others.

The **lift** of a word is the share that it has of a latent's activation over its share of the
sample's tokens. The label is of the words that tell the latent's activation from the sample most:
by share times the logarithm of lift, a word's part of the Kullback-Leibler divergence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.inspection.figures import Figures
from latent_ingest.connector.inspection.survey import Survey

LABEL_WORDS = 3

# Heaviest words in the report of a latent.
MANY_WORDS = 15

# A word of a label has at least this lift, and this share of the latent's activation. With a lift
# of 3, a fifth of the labels of the model that ships were "the, a" and the like.
LEAST_LIFT = 10.0
LEAST_SHARE = 0.05

# Texts in which a latent fires, below which its words are those of one text or two by chance.
LEAST_TEXTS = 5

# Share of a model's latents that must get a label for the labels to be of use.
FEWEST_LABELLED = 0.1


@dataclass(frozen=True, slots=True)
class HeavyWord:
    """A word that fires a latent."""

    word: str
    share: float
    """Of the latent's activation in the sample, 0 to 1."""
    lift: float
    """That over the word's share of the sample's tokens."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what latents do their labels say."""

    latents: int
    """That fire in at least `LEAST_TEXTS` texts."""
    labelled: int
    """Of those, how many have a label."""
    covered: int
    """Of those, how many have at least half of their activation on the words of the label."""

    @property
    def share(self) -> float:
        """`covered` of `latents`, 0 to 1."""
        return self.covered / self.latents if self.latents else 0.0


class Labelling:
    """Heaviest words and labels of the latents of a survey."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._names = list(survey.words.vocabulary)
        self._offsets, self._words, self._masses = survey.words.table(survey.n_latents)
        self._background = survey.words.tokens / max(survey.n_tokens, 1)

    def words(self, latent: int, number: int | None = None) -> list[HeavyWord]:
        """The words that have most of a latent's activation, the heaviest first."""
        ids, shares, lifts = self._numbers(latent, number)
        return [
            HeavyWord(self._names[i], share, lift)
            for i, share, lift in zip(ids.tolist(), shares.tolist(), lifts.tolist(), strict=True)
        ]

    def label_words(self, latent: int) -> list[HeavyWord]:
        """The words of a latent's label; none where it fires in too few texts."""
        if self._survey.document_frequency[latent] < LEAST_TEXTS:
            return []
        # No more than these can have the least share.
        heavy = self.words(latent, int(1 / LEAST_SHARE))
        telling = [
            word
            for word in heavy
            if word.lift >= LEAST_LIFT and word.share >= LEAST_SHARE and is_word(word.word)
        ]
        telling.sort(key=lambda word: -word.share * math.log(word.lift))
        return telling[:LABEL_WORDS]

    def label(self, latent: int) -> str:
        """A latent's label; empty where it has none."""
        return ", ".join(word.word for word in self.label_words(latent))

    def labels(self) -> dict[int, str]:
        """Those of all latents that have one.

        Raises:
            InputError: the sample is too small for labels.
        """
        found = {latent: self.label(latent) for latent in range(self._survey.n_latents)}
        labels = {latent: label for latent, label in found.items() if label}
        if len(labels) < FEWEST_LABELLED * len(found):
            raise InputError(
                f"the sample is too small for labels: of {self._survey.n_tokens:,} tokens, "
                f"{len(labels):,} of {len(found):,} latents get one, as they fire in "
                f"{LEAST_TEXTS} texts or more; use more --tokens, or more texts with --sample"
            )
        return labels

    def coverage(self) -> Coverage:
        """How much of what latents do their labels say."""
        latents = np.flatnonzero(self._survey.document_frequency >= LEAST_TEXTS).tolist()
        shares = [
            [word.share for word in words] for words in map(self.label_words, latents) if words
        ]
        return Coverage(len(latents), len(shares), sum(sum(some) >= 0.5 for some in shares))

    def vocabulary(self) -> dict[str, Any]:
        """Zipf figures of the latents and of the sample's words, and the coverage of the labels."""
        survey, coverage = self._survey, self.coverage()
        words = np.array(list(survey.text_frequency.values()), dtype=np.int64)
        return {
            "latents": asdict(Figures.of(survey.document_frequency, survey.n_texts)),
            "words": asdict(Figures.of(words, survey.n_texts)),
            "labels": {**asdict(coverage), "share": coverage.share},
        }

    def report(self, latent: int) -> dict[str, Any]:
        """All that the survey knows about a latent, with its `MANY_WORDS` heaviest words."""
        return {
            "latent": latent,
            "document_frequency": int(self._survey.document_frequency[latent]),
            "activation": float(self._survey.mass[latent]),
            "label": self.label(latent),
            "words": [asdict(word) for word in self.words(latent, MANY_WORDS)],
            "contexts": [asdict(context) for context in self._survey.contexts.of(latent)],
        }

    def _numbers(
        self, latent: int, number: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        at = slice(int(self._offsets[latent]), int(self._offsets[latent + 1]))
        ids, mass = self._words[at][:number], self._masses[at][:number]
        shares = mass.astype(np.float64) / max(float(self._survey.mass[latent]), 1e-12)
        return ids, shares, shares / self._background[ids]


def is_word(name: str) -> bool:
    """Whether it has a letter or a digit, as punctuation has not."""
    return any(map(str.isalnum, name))


def every_nth(ranked: NDArray[np.int64], number: int) -> Sequence[int]:
    """So many of a ranking, at even distances, from the middle of the first stretch on."""
    step = len(ranked) / number
    chosen = {int((place + 0.5) * step) for place in range(number)}
    return [int(ranked[place]) for place in sorted(chosen)] if len(ranked) else []
