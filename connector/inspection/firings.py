"""Firings: the latents of tokens → which words activate which latents.

The activation of a word is the sum of its tokens' activations, as in sum pooling.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.encoding.pooling import KeyedValues
from latent_ingest.connector.encoding.vectors import TokenVectors
from latent_ingest.connector.encoding.words import word_spans

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Characters kept of a word; longer "words" are data.
LONGEST_WORD = 40

# Most words of a question that name a latent without a label.
MOST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Words:
    """The words of some texts, one text after the other."""

    names: list[str]
    """The words as written, without invisible characters, `[n_words]`."""
    texts: NDArray[np.int64]
    """Text of each word, ascending, `[n_words]`."""
    spans: NDArray[np.int64]
    """Start and end of each word in its text, in characters, `[n_words, 2]`."""
    n_tokens: NDArray[np.int64]
    """Tokens of each word, `[n_words]`."""


@dataclass(frozen=True, slots=True)
class Firings:
    """Which words activate which latents; ordered by latent, then by word."""

    words: Words
    latents: NDArray[np.int64]
    """Latent of each firing, `[n_firings]`."""
    places: NDArray[np.int64]
    """Word of each firing, as an index into `words`, `[n_firings]`."""
    activations: NDArray[np.float32]
    """Activation, summed over the word's tokens, above zero, `[n_firings]`."""
    starts: NDArray[np.int64]
    """First firing of each latent in each text, ascending, `[n_pairs]`."""


def firings_of(texts: Sequence[str], tokens: Sequence[TokenVectors]) -> Firings:
    """The firings in one or more texts, whose `LatentEncoder.encode_tokens` are `tokens`."""
    names: list[str] = []
    counted, spans, latents, places, activations = [], [], [], [], []
    for text, of in zip(texts, tokens, strict=True):
        found, place = word_spans(text, of.spans)
        fires = of.activations > 0
        latents.append(of.latents[fires])
        activations.append(of.activations[fires])
        places.append(np.repeat(place + len(names), fires.sum(axis=1)))
        counted.append(np.bincount(place, minlength=len(found)))
        spans.append(np.array(found, dtype=np.int64).reshape(-1, 2))
        names += [name_of(text[start : min(end, start + LONGEST_WORD)]) for start, end in found]
    words = Words(
        names=names,
        texts=np.repeat(np.arange(len(texts)), [len(some) for some in spans]),
        spans=np.concatenate(spans),
        n_tokens=np.concatenate(counted),
    )
    n_words = max(len(names), 1)
    sums = KeyedValues()
    sums.add(
        np.concatenate(latents) * n_words + np.concatenate(places), np.concatenate(activations)
    )
    keys, activation = sums.merged()
    latent, word = np.divmod(keys, n_words)
    text_of = words.texts[word]
    new = np.ones(len(keys), dtype=np.bool_)
    new[1:] = (latent[1:] != latent[:-1]) | (text_of[1:] != text_of[:-1])
    return Firings(words, latent, word, activation, np.flatnonzero(new))


def latents_of(
    encoder: LatentEncoder, text: str, labels: Mapping[int, str]
) -> list[dict[str, Any]]:
    """The latents of a question, strongest first, each with the words that fire it.

    Each has `latent`, `label`, `activation` (the pooled activation), and `words`: each with
    `word`, `start` and `end` in the text (characters) and its part of the activation.
    """
    firings = firings_of([text], encoder.encode_tokens([text], kind="query"))
    columns = (firings.latents, firings.places, firings.activations)
    words_of: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for latent, place, activation in zip(*(column.tolist() for column in columns), strict=True):
        start, end = firings.words.spans[place].tolist()
        word = {"word": firings.words.names[place], "start": start, "end": end}
        words_of[latent].append({**word, "activation": activation})
    found = [
        {
            "latent": latent,
            "activation": sum(word["activation"] for word in words),
            "label": labels.get(latent, ""),
            "words": sorted(words, key=lambda word: -word["activation"]),
        }
        for latent, words in words_of.items()
    ]
    return sorted(found, key=lambda row: -row["activation"])


def firing_words(encoder: LatentEncoder, question: str) -> dict[int, str]:
    """The words of a question that activate each latent, most active first; raises ModelError."""
    named = {}
    for row in latents_of(encoder, question, {}):
        strength: Counter[str] = Counter()
        for word in row["words"]:
            strength[word["word"].lower()] += word["activation"]
        named[row["latent"]] = ", ".join(word for word, _ in strength.most_common(MOST_WORDS))
    return named


def name_of(word: str) -> str:
    """The word without invisible characters such as soft hyphens."""
    return word if word.isprintable() else "".join(filter(str.isprintable, word)) or "?"
