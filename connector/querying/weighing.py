"""Texts → their latent terms, heaviest by `w * idf` first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from latent_ingest.connector import terms
from latent_ingest.connector.querying.latent_clause import WeightedTerm
from latent_ingest.connector.querying.query_encoder import Encoding, NotKept, QueryEncoder

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.querying.asked_indices import AskedIndices
    from latent_ingest.connector.querying.statistics import IndexStatistics


class Weigher:
    """A model, and the document frequencies that its terms are chosen by."""

    def __init__(self, queries: QueryEncoder) -> None:
        self.queries = queries
        self.statistics: IndexStatistics | None = None
        """Of the index that is asked; without them, the model's own."""
        self.unchecked: AskedIndices | None = None
        """That the model must have made, which is seen when it is loaded."""
        self.query_k: int | None = None
        """Latents a token of a question; none for the model's own."""

    def model(self) -> LatentEncoder:
        """Loaded and checked; raises ModelError or MismatchError."""
        model = self.queries.load()
        if self.unchecked:
            self.unchecked.check(model)
            self.unchecked = None
        return model

    def __call__(self, texts: Sequence[str]) -> list[list[WeightedTerm]]:
        """The terms of each text.

        Raises:
            ModelError: the model cannot be loaded, or gives NaN.
            MismatchError: it did not make the index.
        """
        if self.unchecked:
            self.model()
        return self._weighed(self.queries.encode(texts, self.query_k))

    def kept(self, texts: Sequence[str]) -> list[list[WeightedTerm]]:
        """As the call, of texts whose encodings are kept; raises NotKept where the model would
        have to be asked."""
        if self.unchecked:
            raise NotKept
        return self._weighed(self.queries.kept(texts, self.query_k))

    def _weighed(self, encodings: Sequence[Encoding]) -> list[list[WeightedTerm]]:
        every = self.statistics.idf() if self.statistics else None
        every = self.queries.idf() if every is None else every
        found = []
        for latents, weights in encodings:
            idf = every[latents]
            order = np.argsort(-weights * idf, kind="stable")
            rows = zip(latents[order], weights[order], idf[order], strict=True)
            found.append([WeightedTerm(terms.term(i), float(w), float(g)) for i, w, g in rows])
        return found
