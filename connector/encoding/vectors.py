"""Sparse vectors of latents: of texts, of chunks, and of single tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LatentVectors:
    """Sparse vectors of `n_texts` texts over `n_latents` latents, on the CPU, in CSR format.

    Row i is `indices[offsets[i]:offsets[i + 1]]` with the `values` at the same places; indices
    ascend within a row and every value is above zero.
    """

    indices: NDArray[np.int32]
    """Latents, `[nnz]`, each in `0 .. n_latents - 1`."""
    values: NDArray[np.float32]
    """Pooled activations, `[nnz]`, without unit; not yet square-rooted, see `terms.weights`."""
    offsets: NDArray[np.int64]
    """Row boundaries, `[n_texts + 1]`."""
    n_latents: int
    n_tokens: NDArray[np.int64]
    """Tokens pooled for each text, `[n_texts]`, without prompt and special tokens."""
    n_windows: NDArray[np.int64]
    """Backbone windows that each text was encoded in, `[n_texts]`."""
    truncated: NDArray[np.bool_]
    """Whether the text was longer than the backbone window and truncated, `[n_texts]`."""
    finite: NDArray[np.bool_]
    """False if the backbone gave NaN or infinity; such a row is empty. `[n_texts]`."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """`(indices, values)` of one text; raises IndexError if there is no such row."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        span = slice(self.offsets[row], self.offsets[row + 1])
        return self.indices[span], self.values[span]

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        return (self[row] for row in range(len(self)))


@dataclass(frozen=True, slots=True)
class LatentChunks:
    """Sparse vectors of the chunks of texts, ordered by text and by place in the text."""

    vectors: LatentVectors
    """One row per chunk."""
    texts: NDArray[np.int64]
    """Position of each chunk's text among the given texts, `[n_chunks]`."""
    spans: NDArray[np.int64]
    """Start and end of each chunk in its text, in characters, `[n_chunks, 2]`.

    A text's chunks are adjacent and cover it; if it has white space they begin with a word.
    """


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """The latents of the tokens of one text, before pooling; tokens in the order of the text."""

    spans: NDArray[np.int64]
    """Start and end of each token in the text, in characters, `[n_tokens, 2]`."""
    latents: NDArray[np.int64]
    """Active latents, `[n_tokens, k]`."""
    activations: NDArray[np.float32]
    """Activations of these latents, `[n_tokens, k]`; zero if fewer than k are active. With sum
    pooling, a pooled activation of a text is the sum of its activations over all tokens."""
