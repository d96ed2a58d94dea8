"""Word masses: activation of each latent by word, summed over a sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.encoding.pooling import KeyedValues
from latent_ingest.connector.inspection.firings import Firings

# Most pairs of a latent and a word, 12 bytes each. With minilm-32k, 1.5 million tokens have
# some 7 million pairs.
MOST_PAIRS = 16_777_216


class WordMass:
    """Sums of activations by latent and word.

    With too many pairs, the lighter half is dropped. A latent keeps the words that activate it
    most; their sums may lack activations dropped earlier.
    """

    def __init__(self, *, most_pairs: int = MOST_PAIRS) -> None:
        self.vocabulary: dict[str, int] = {}
        """Lower-cased word → its number."""
        self.tokens: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        """Tokens of each word in the sample, `[n_words]`."""
        self._masses = KeyedValues(most=most_pairs)

    def add(self, firings: Firings) -> None:
        """Add the firings of some texts."""
        numbers = self.vocabulary
        ids = np.array(
            [numbers.setdefault(name.lower(), len(numbers)) for name in firings.words.names],
            dtype=np.int64,
        )
        self.tokens = np.pad(self.tokens, (0, len(numbers) - len(self.tokens)))
        np.add.at(self.tokens, ids, firings.words.n_tokens)
        self._masses.add(firings.latents << 32 | ids[firings.places], firings.activations)

    def table(
        self, n_latents: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """`(offsets, words, masses)`, the heaviest words of a latent first.

        Latent i has the words and masses at `offsets[i]:offsets[i + 1]`.
        """
        keys, values = self._masses.merged()
        latents, words = keys >> 32, keys & 0xFFFFFFFF
        order = np.lexsort((words, -values, latents))
        offsets = np.zeros(n_latents + 1, dtype=np.int64)
        np.cumsum(np.bincount(latents, minlength=n_latents), out=offsets[1:])
        return offsets, words[order], values[order]
