"""Names of latents, for `SparseEncoder.decode`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentence_transformers import SparseEncoder

from latent_ingest.connector import terms


class LatentNames:
    """Names latents where `SparseEncoder.decode` would look up tokens."""

    decode: Any = SparseEncoder.decode

    def __init__(self, labels: Mapping[int, str]) -> None:
        """Name latents by their latent terms and, if they have some, their labels."""
        self._labels = labels
        self.tokenizer = self
        """The object `decode` looks up names in."""

    def convert_ids_to_tokens(self, latents: Sequence[int]) -> list[str]:
        """12 → "f12", or "f12 (glob, pattern)"."""
        return [
            terms.term(latent) + (f" ({self._labels[latent]})" if self._labels.get(latent) else "")
            for latent in latents
        ]
