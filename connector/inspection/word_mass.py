"""Word masses: activation of each latent by word, summed over a sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.inspection.firings import Firings, summed

# Values collected before they are merged, and most pairs of a latent and a word: 12 bytes each.
# 1.5 million tokens have some 7 million pairs with the shipped model.
WAITING = 4_194_304
MOST_PAIRS = 16_777_216


class WordMass:
    """Sums of activations by latent and word.

    With too many pairs, the lighter half is dropped. A latent keeps the words that activate it
    most; their sums may lack activations dropped earlier.
    """

    def __init__(self, *, most_pairs: int = MOST_PAIRS) -> None:
        self.vocabulary: dict[str, int] = {}
        """Lower-cased word → its number."""
        self._most_pairs = most_pairs
        self._tokens: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._keys: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float32]] = []
        self._waiting = 0

    def add(self, firings: Firings) -> None:
        """Add the firings of some texts."""
        numbers = self.vocabulary
        ids = np.array(
            [numbers.setdefault(name.lower(), len(numbers)) for name in firings.words.names],
            dtype=np.int64,
        )
        before, self._tokens = self._tokens, np.zeros(len(numbers), dtype=np.int64)
        self._tokens[: len(before)] = before
        np.add.at(self._tokens, ids, firings.words.n_tokens)
        keys, values = summed(firings.latents << 32 | ids[firings.places], firings.activations)
        self._keys.append(keys)
        self._values.append(values)
        self._waiting += len(keys)
        if self._waiting > WAITING:
            self._merge()

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each word in the sample, `[n_words]`."""
        return self._tokens

    def table(
        self, n_latents: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """`(offsets, words, masses)`: latent i has those at `offsets[i]:offsets[i + 1]`, heaviest
        first."""
        keys, values = self._merge()
        latents, words = keys >> 32, keys & 0xFFFFFFFF
        order = np.lexsort((words, -values, latents))
        offsets = np.zeros(n_latents + 1, dtype=np.int64)
        np.cumsum(np.bincount(latents, minlength=n_latents), out=offsets[1:])
        return offsets, words[order], values[order]

    def _merge(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        keys = np.concatenate([*self._keys, np.zeros(0, dtype=np.int64)])
        values = np.concatenate([*self._values, np.zeros(0, dtype=np.float32)])
        keys, values = summed(keys, values)
        if len(keys) > self._most_pairs:
            half = len(keys) - self._most_pairs // 2
            kept = np.sort(np.argpartition(values, half)[half:])
            keys, values = keys[kept], values[kept]
        self._keys, self._values, self._waiting = [keys], [values], 0
        return keys, values
