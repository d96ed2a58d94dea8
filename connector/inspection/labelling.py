"""Labelling: a survey → each latent's heaviest words and its label.

The **lift** of a word is its share of a latent's activation, divided by its share of the sample's
tokens. A label consists of the words that distinguish the latent from the sample most: those with
the largest share times logarithm of lift, a word's term of the Kullback-Leibler divergence.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.inspection.survey import Survey
from latent_ingest.connector.inspection.vocabulary import Frequencies

LABEL_WORDS = 3

# Heaviest words in the report of a latent.
MANY_WORDS = 15

# A word of a label has at least this lift and this share of the latent's activation. With a lift
# of 3, a fifth of minilm-32k's labels were "the, a" and the like.
LEAST_LIFT = 10.0
LEAST_SHARE = 0.05

# A latent active in fewer texts gets no label: its words are those of one or two texts by chance.
LEAST_TEXTS = 5

# Labels are refused as useless if fewer than this share of a model's latents get one.
FEWEST_LABELLED = 0.1


@dataclass(frozen=True, slots=True)
class HeavyWord:
    """A word that activates a latent."""

    word: str
    share: float
    """Share of the latent's activation in the sample, 0 to 1."""
    lift: float
    """`share` divided by the word's share of the sample's tokens."""


class Labelling:
    """Heaviest words and labels of the latents of a survey."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._names = list(survey.words.vocabulary)
        self._offsets, self._words, self._masses = survey.words.table(survey.n_latents)
        self._background = survey.words.tokens / max(survey.n_tokens, 1)

    def words(self, latent: int, number: int | None = None) -> list[HeavyWord]:
        """The words with most of a latent's activation, heaviest first."""
        at = slice(int(self._offsets[latent]), int(self._offsets[latent + 1]))
        ids, masses = self._words[at][:number], self._masses[at][:number]
        shares = masses.astype(np.float64) / max(float(self._survey.mass[latent]), 1e-12)
        rows = zip(ids, shares, shares / self._background[ids], strict=True)
        return [HeavyWord(self._names[i], float(share), float(lift)) for i, share, lift in rows]

    def label_words(self, latent: int) -> list[HeavyWord]:
        """The words of a latent's label; empty if the latent is active in too few texts."""
        if self._survey.document_frequency[latent] < LEAST_TEXTS:
            return []
        # No more words than this can have the least share.
        heavy = self.words(latent, int(1 / LEAST_SHARE))
        telling = [
            word
            for word in heavy
            if word.lift >= LEAST_LIFT and word.share >= LEAST_SHARE and is_word(word.word)
        ]
        telling.sort(key=lambda word: -word.share * math.log(word.lift))
        return telling[:LABEL_WORDS]

    def label(self, latent: int) -> str:
        """A latent's label; empty if it has none."""
        return ", ".join(word.word for word in self.label_words(latent))

    def labels(self) -> dict[int, str]:
        """The labels of all latents that have one.

        Raises:
            InputError: the sample is too small for labels.
        """
        found = {latent: self.label(latent) for latent in range(self._survey.n_latents)}
        labels = {latent: label for latent, label in found.items() if label}
        if len(labels) < FEWEST_LABELLED * len(found):
            raise InputError(
                f"the sample is too small for labels: in {self._survey.n_tokens:,} tokens, "
                f"{len(labels):,} of {len(found):,} latents get one, as only those active in "
                f"{LEAST_TEXTS} texts do; use more --tokens, or more texts with --sample"
            )
        return labels

    def coverage(self) -> dict[str, float]:
        """How many latents have a label, and how well the labels describe them.

        `latents` are active in at least `LEAST_TEXTS` texts; `labelled` have a label, too;
        `covered` have half of their activation on its words; `share` is `covered / latents`.
        """
        latents = np.flatnonzero(self._survey.document_frequency >= LEAST_TEXTS).tolist()
        labels = [words for words in map(self.label_words, latents) if words]
        covered = sum(sum(word.share for word in words) >= 0.5 for words in labels)
        share = covered / len(latents) if latents else 0.0
        return {
            "latents": len(latents), "labelled": len(labels), "covered": covered, "share": share
        }  # fmt: skip

    def vocabulary(self) -> dict[str, Any]:
        """Zipf figures of the latents and of the sample's words, and the coverage of the labels."""
        survey = self._survey
        return {
            "latents": Frequencies.of(survey.document_frequency).statistics(survey.n_texts),
            "words": Frequencies.of(survey.text_frequency.values()).statistics(survey.n_texts),
            "labels": self.coverage(),
        }

    def report(self, latent: int) -> dict[str, Any]:
        """Frequency, activation, label, passages and `MANY_WORDS` heaviest words of a latent."""
        return {
            "latent": latent,
            "document_frequency": int(self._survey.document_frequency[latent]),
            "activation": float(self._survey.mass[latent]),
            "label": self.label(latent),
            "words": [asdict(word) for word in self.words(latent, MANY_WORDS)],
            "contexts": [asdict(context) for context in self._survey.contexts.of(latent)],
        }


def is_word(name: str) -> bool:
    """Whether a word has a letter or a digit, unlike punctuation."""
    return any(map(str.isalnum, name))


def every_nth(ranked: NDArray[np.int64], number: int) -> list[int]:
    """`number` items of a ranking at even distances, from the middle of the first interval."""
    step = len(ranked) / number
    places = np.unique(((np.arange(number) + 0.5) * step).astype(int))
    found: list[int] = ranked[places[: len(ranked)]].tolist()
    return found
