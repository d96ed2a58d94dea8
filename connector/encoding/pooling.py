"""Pooling: the latents of tokens → one sparse vector per window → one per text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.encoding.autoencoder import TokenLatents
from latent_ingest.connector.encoding.vectors import LatentVectors

POOLINGS = ("sum", "max", "max_log1p")

# Values collected before they are merged, 12 bytes each: those of some 3,000 windows.
MERGE_AT = 4_194_304


@dataclass(frozen=True, slots=True)
class PooledBatch:
    """The pooled windows of one batch."""

    positions: NDArray[np.int64]
    """Position of each window's text among the given texts, `[n_windows]`."""
    characters: NDArray[np.int64]
    """Start and end of each window in its text, in characters, `[n_windows, 2]`."""
    n_tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    finite: NDArray[np.bool_]
    rows: NDArray[np.int64]
    """Window in the batch that each value belongs to, `[nnz]`."""
    latents: NDArray[np.int64]
    values: NDArray[np.float32]


def pool(
    latents: TokenLatents, n_latents: int, pooling: str = "sum"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pool the activations of each text per latent, without a dense `[n_texts, n_latents]`.

    `pooling` is "sum", "max" or "max_log1p" (the largest `log(1 + activation)`).

    Returns:
        `(texts, indices, values)`, each `[nnz]`, ordered by text and then by latent; zero values
        are left out.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling {pooling!r}: use one of {', '.join(POOLINGS)}")
    acts, device = latents.top_acts, latents.top_acts.device
    lengths = latents.cu_seq_lens.diff().to(device)
    text_of_token = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
    fires = acts > 0
    keys = (text_of_token[:, None] * n_latents + latents.top_indices)[fires]
    unique, place = torch.unique(keys, return_inverse=True)
    pooled = torch.zeros(len(unique), device=device)
    if pooling == "sum":
        pooled.index_add_(0, place, acts[fires])
    else:
        pooled.scatter_reduce_(0, place, acts[fires], "amax")
    if pooling == "max_log1p":
        pooled = pooled.log1p()
    return unique // n_latents, unique % n_latents, pooled


class KeyedValues:
    """Values added under whole-number keys in any order; values of the same key are merged.

    Memory: 12 bytes for each distinct key, and for each of `MERGE_AT` further values.
    """

    def __init__(self, merge: np.ufunc = np.add, *, most: int | None = None) -> None:
        """Merge by `np.add` or `np.maximum`; above `most` keys, the smaller half is dropped."""
        self._merge = merge
        self._most = most
        self._keys: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float32]] = []
        self._waiting = 0

    def add(self, keys: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Add values, `[n]` each."""
        self._keys.append(keys)
        self._values.append(values)
        self._waiting += len(values)
        if self._waiting > MERGE_AT:
            self.merged()

    def merged(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Distinct keys, ascending, and their merged values; they replace what was added."""
        keys = np.concatenate([*self._keys, np.zeros(0, dtype=np.int64)])
        values = np.concatenate([*self._values, np.zeros(0, dtype=np.float32)])
        order = np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        if len(first) < len(keys):
            keys, values = keys[first], self._merge.reduceat(values, first)
        if self._most is not None and len(keys) > self._most:
            half = len(keys) - self._most // 2
            kept = np.sort(np.argpartition(values, half)[half:])
            keys, values = keys[kept], values[kept]
        self._keys, self._values, self._waiting = [keys], [values], 0
        return keys, values


class PooledRows:
    """Builds a sparse matrix of pooled latents; values may be added in any order."""

    def __init__(self, n_latents: int, pooling: str = "sum") -> None:
        self._n_latents = n_latents
        self._pooled = KeyedValues(np.add if pooling == "sum" else np.maximum)

    def add(
        self, rows: NDArray[np.int64], latents: NDArray[np.int64], values: NDArray[np.float32]
    ) -> None:
        """Pool values, `[nnz]` each, with those already at the same rows and latents."""
        self._pooled.add(rows * self._n_latents + latents, values)

    def vectors(self, *, finite: NDArray[np.bool_], **columns: Any) -> LatentVectors:
        """The matrix of all added values, with other columns of `LatentVectors`.

        Rows that are not `finite`, `[n_rows]`, are empty.
        """
        keys, values = self._pooled.merged()
        row = keys // self._n_latents
        keep = finite[row]
        row, keys, values = row[keep], keys[keep], values[keep]
        offsets = np.zeros(len(finite) + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=len(finite)), out=offsets[1:])
        return LatentVectors(
            indices=(keys % self._n_latents).astype(np.int32),
            values=values,
            offsets=offsets,
            n_latents=self._n_latents,
            finite=finite,
            **columns,
        )
