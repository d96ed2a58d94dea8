"""Contexts of a latent: the passages in which it is most active, with the active words marked."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.inspection.firings import Firings, Words

# Passages kept per latent, each from another text.
CONTEXTS = 5

# Characters of a passage on either side of its most active word.
AROUND = 50


@dataclass(frozen=True, slots=True)
class Context:
    """A passage in which a latent is active."""

    activation: float
    """Activation of the most active word."""
    text: str
    """The passage, on one line."""
    marks: tuple[tuple[int, int], ...]
    """Start and end in `text`, in characters, of each word for which the latent is active."""


class HeaviestContexts:
    """Keeps, for each latent, a passage of the texts in which a word activates it most."""

    def __init__(self, n_latents: int) -> None:
        self._heaps: list[list[tuple[float, int, Context]]] = [[] for _ in range(n_latents)]
        self._least: NDArray[np.float32] = np.zeros(n_latents, dtype=np.float32)
        self._order = count()

    def add(self, firings: Firings) -> None:
        """Consider the firings of some texts."""
        if not len(firings.starts):
            return
        best = np.maximum.reduceat(firings.activations, firings.starts)
        ends = np.append(firings.starts[1:], len(firings.latents))
        latents = firings.latents[firings.starts]
        for pair in np.flatnonzero(best > self._least[latents]).tolist():
            latent, activation = int(latents[pair]), float(best[pair])
            heap = self._heaps[latent]
            if len(heap) == CONTEXTS and activation <= heap[0][0]:
                continue
            at = slice(int(firings.starts[pair]), int(ends[pair]))
            strongest = int(firings.activations[at].argmax())
            fired = firings.places[at]
            context = passage(firings.words, int(fired[strongest]), fired, activation)
            # Of two equal ones, the earlier is kept.
            heapq.heappush(heap, (activation, -next(self._order), context))
            if len(heap) > CONTEXTS:
                heapq.heappop(heap)
            if len(heap) == CONTEXTS:
                self._least[latent] = heap[0][0]

    def of(self, latent: int) -> list[Context]:
        """The contexts of a latent, most active first."""
        return [context for _, _, context in sorted(self._heaps[latent], reverse=True)]


def passage(words: Words, word: int, fired: NDArray[np.int64], activation: float) -> Context:
    """The text around a word, with single spaces; the words `fired` are marked."""
    start, end = words.spans[word]
    first = max(word - AROUND, 0)
    near = slice(first, word + AROUND + 1)
    inside = (
        (words.texts[near] == words.texts[word])
        & (words.spans[near, 0] >= start - AROUND)
        & (words.spans[near, 1] <= end + AROUND)
    )
    marked = set(fired.tolist())
    text, marks, before = "", [], None
    for place in (first + np.flatnonzero(inside)).tolist():
        start, end = words.spans[place]
        if before is not None and start > before:
            text += " "
        begin, before = len(text), end
        text += words.names[place]
        if place in marked:
            marks.append((begin, len(text)))
    return Context(activation, text, tuple(marks))
