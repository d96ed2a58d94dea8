"""Pooled latents of a batch of texts, as compressed sparse rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LatentVectors:
    """Sparse vectors of `n_texts` texts over `n_latents` latents, on the CPU.

    Row i is `indices[offsets[i]:offsets[i + 1]]` with the `values` at the same places;
    indices ascend within a row and every value is above zero.
    """

    indices: NDArray[np.int32]
    """Latent numbers, `[nnz]`, each in `0 .. n_latents - 1`."""
    values: NDArray[np.float32]
    """Pooled activations, `[nnz]`, unit-less. Not yet square-rooted: see `terms.weights`."""
    offsets: NDArray[np.int64]
    """Row boundaries, `[n_texts + 1]`."""
    n_latents: int
    n_tokens: NDArray[np.int64]
    """Tokens pooled for each text, `[n_texts]`; prompt and special tokens not counted."""
    n_windows: NDArray[np.int64]
    """Windows of the backbone that each text was encoded in, `[n_texts]`."""
    truncated: NDArray[np.bool_]
    """Whether the text was longer than the backbone's window and cut there, `[n_texts]`."""
    finite: NDArray[np.bool_]
    """False where the backbone gave NaN or infinity; such a row is empty. `[n_texts]`"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """`(indices, values)` of one text; raises IndexError out of range."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        span = slice(self.offsets[row], self.offsets[row + 1])
        return self.indices[span], self.values[span]

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        return (self[row] for row in range(len(self)))


@dataclass(frozen=True, slots=True)
class LatentChunks:
    """Sparse vectors of the chunks of texts: text by text, each in its order."""

    vectors: LatentVectors
    """A row a chunk."""
    texts: NDArray[np.int64]
    """Which text each chunk is of, `[n_chunks]`."""
    spans: NDArray[np.int64]
    """Start and end of each chunk in its text, in characters, `[n_chunks, 2]`.

    A text's chunks touch and cover it; where it has white space they begin with a word.
    """


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """The latents of the tokens of one text, before pooling; tokens in the text's order."""

    spans: NDArray[np.int64]
    """Start and end of each token in the text, in characters, `[n_tokens, 2]`."""
    latents: NDArray[np.int64]
    """Latent numbers, `[n_tokens, k]`."""
    activations: NDArray[np.float32]
    """Of those latents, `[n_tokens, k]`; zero where fewer than k fire. With sum pooling, a text's
    value of a latent is the sum of its activations over all tokens."""
