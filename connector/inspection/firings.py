"""Token latents of texts → which of their words fire which latents.

The activation of a word is the sum of its tokens', as sum pooling has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.encoding.vectors import TokenVectors
from latent_ingest.connector.encoding.words import word_spans

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Characters that are kept of a word; longer ones are data in disguise.
LONGEST_WORD = 40


@dataclass(frozen=True, slots=True)
class Words:
    """The words of some texts, one text after the other."""

    names: list[str]
    """As they are written, without what is not seen, `[n_words]`."""
    texts: NDArray[np.int64]
    """Which text each is of, ascending, `[n_words]`."""
    spans: NDArray[np.int64]
    """Start and end of each in its text, in characters, `[n_words, 2]`."""
    n_tokens: NDArray[np.int64]
    """Tokens of each, `[n_words]`."""


@dataclass(frozen=True, slots=True)
class Firings:
    """Which words fire which latents; ordered by latent, then by word."""

    words: Words
    latents: NDArray[np.int64]
    """`[n_firings]`"""
    places: NDArray[np.int64]
    """Which of the words, `[n_firings]`."""
    activations: NDArray[np.float32]
    """Sums over the word's tokens, above zero, `[n_firings]`."""
    starts: NDArray[np.int64]
    """First firing of each latent in each text, `[n_pairs]`, ascending."""


def firings_of(texts: Sequence[str], tokens: Sequence[TokenVectors]) -> Firings:
    """The firings of texts by `LatentEncoder.encode_tokens` of the same texts, one or more."""
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
    keys, sums = summed(
        np.concatenate(latents) * n_words + np.concatenate(places), np.concatenate(activations)
    )
    latent, word = np.divmod(keys, n_words)
    text_of = words.texts[word]
    new = np.ones(len(keys), dtype=np.bool_)
    new[1:] = (latent[1:] != latent[:-1]) | (text_of[1:] != text_of[:-1])
    return Firings(words, latent, word, sums, np.flatnonzero(new))


def latents_of(
    encoder: LatentEncoder, text: str, labels: Mapping[int, str]
) -> list[dict[str, Any]]:
    """The latents of a question, strongest first, each with the words that fire it.

    Each has `latent`, `label`, `activation` (the pooled activation), and `words`: each with
    `word`, `start` and `end` in the text (characters) and its part of the activation.
    """
    firings = firings_of([text], encoder.encode_tokens([text], kind="query"))
    found: dict[int, dict[str, Any]] = {}
    for number, place, activation in zip(
        firings.latents.tolist(),
        firings.places.tolist(),
        firings.activations.tolist(),
        strict=True,
    ):
        row = found.setdefault(
            number,
            {"latent": number, "activation": 0.0, "label": labels.get(number, ""), "words": []},
        )
        row["activation"] += activation
        start, end = firings.words.spans[place].tolist()
        word = {"word": firings.words.names[place], "start": start, "end": end}
        row["words"].append({**word, "activation": activation})
    for row in found.values():
        row["words"].sort(key=lambda word: -word["activation"])
    return sorted(found.values(), key=lambda row: -row["activation"])


def name_of(word: str) -> str:
    """The word without characters that are not seen, such as soft hyphens."""
    return word if word.isprintable() else "".join(filter(str.isprintable, word)) or "?"


def summed(
    keys: NDArray[np.int64], values: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Keys, ascending, each once, and the sums of their values."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(values, first) if len(first) else values
