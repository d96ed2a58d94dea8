"""Latent terms of a text, heaviest by `w * idf` first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.querying.query_encoder import Encoding, NotCached, QueryEncoder
from latent_ingest.connector.questions.words import words_of

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
    from latent_ingest.connector.querying.indices.statistics import IndexStatistics
    from latent_ingest.connector.questions.engine_table import EngineTable
    from latent_ingest.connector.questions.question_table import QuestionTable
    from latent_ingest.connector.questions.stored_table import StoredTable


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A latent term of a query."""

    term: str
    weight: float
    """Square root of the pooled activation; multiplies the term's score."""
    idf: float = 1.0
    """Inverse document frequency; terms are chosen by `weight * idf`."""


class UnknownWords(NamedTuple):
    """Words of questions that the table lacks, each once."""

    borrowed: tuple[str, ...] = ()
    """Words that the table of the model's folder has, and that of the index lacks."""
    pieced: tuple[str, ...] = ()
    """Words that are encoded by their parts, which the table of the model's folder has."""
    lacking: tuple[str, ...] = ()
    """Words that words alone search."""


Weigh = Callable[[Sequence[str]], Sequence[Sequence[WeightedTerm]]]
"""Texts → the latent terms of each, heaviest by `w * idf` first."""


def share_of(terms: Sequence[WeightedTerm], n_used: int) -> float:
    """Return the share of the weight `w * idf` of all terms that the first `n_used` have."""
    if n_used >= len(terms):
        return 1.0
    whole = sum(item.weight * item.idf for item in terms)
    return sum(item.weight * item.idf for item in terms[:n_used]) / whole if whole else 1.0


@dataclass(slots=True)
class Weigher:
    """Turns texts into weighted latent terms; nothing is loaded until then."""

    queries: QueryEncoder
    statistics: IndexStatistics | None
    """The idf by which terms are ordered; if None, those of the model."""
    unchecked: AskedIndices | None
    """The indices, until it has been checked that the model made them."""
    query_k: int | None
    """Latents per token of a question; None for the model's k."""
    table: StoredTable | EngineTable | None = None
    """The question table of the indices; None for that of the model folder."""
    n_latents: int = 0
    """Number of the latents of the indices."""

    @property
    def by_table(self) -> StoredTable | EngineTable | None:
        """The table of the indices, if that encodes questions now."""
        return self.table if self.queries.by_table else None

    def unknown(self, texts: Sequence[str]) -> UnknownWords:
        """Return the words of questions that the table lacks; none if the model encodes."""
        if not self.queries.by_table:
            return UnknownWords()
        table = self.by_table
        lacking = table.lacking if table else words_of
        words = " ".join(dict.fromkeys(word for text in texts for word in lacking(text)))
        general = (self._general() if table else self.queries.table()) if words else None
        if general is None:
            return UnknownWords(lacking=tuple(words.split()))
        pieced, others = general.pieced(words), general.lacking(words)
        known = [word for word in words.split() if word not in {*pieced, *others}]
        return UnknownWords(tuple(known if table else ()), tuple(pieced), tuple(others))

    def _general(self) -> QuestionTable | None:
        """The table of the model's folder, if it has one that the model of the indices made."""
        with suppress(ModelError):
            general = self.queries.table()
            if (table := self.by_table) and general.fingerprint.digest == table.fingerprint.digest:
                return general
        return None

    def _by_table(self, table: StoredTable | EngineTable, text: str) -> Encoding:
        latents, weights = table.encode(text)
        if (lacking := set(table.lacking(text))) and (general := self._general()):
            words = " ".join(word for word in words_of(text) if word in lacking)
            parts = zip((latents, weights), general.encode(words), strict=True)
            both, sums = (np.concatenate(some) for some in parts)
            latents, places = np.unique(both, return_inverse=True)
            weights = np.bincount(places, sums).astype(np.float32)
        known = latents < self.n_latents  # a text of latent terms may name others
        return Encoding(latents[known], weights[known])

    def _idf(self) -> NDArray[np.float32]:
        """Return the idf of the model: without its folder, the same for every latent."""
        if not self.by_table:
            return self.queries.idf()
        general = self._general()
        return general.idf() if general else np.ones(self.n_latents, dtype=np.float32)

    def model(self) -> LatentEncoder:
        """Return the model, loaded and checked; raises ModelError or MismatchError."""
        model = self.queries.load()
        self._check(model)
        return model

    def _check(self, encoder: LatentEncoder | QuestionTable) -> None:
        if unchecked := self.unchecked:  # another thread may set it to None meanwhile
            unchecked.check(encoder)
            self.unchecked = None

    def __call__(self, texts: Sequence[str]) -> list[list[WeightedTerm]]:
        """Return the latent terms of each text, heaviest by `w * idf` first; raises as `model`."""
        if table := self.by_table:
            return self._weighed([self._by_table(table, text) for text in texts])
        if self.unchecked:
            self._check(self.queries.source())
        return self._weighed(self.queries.encode(texts, self.query_k))

    def cached(self, texts: Sequence[str]) -> list[list[WeightedTerm]]:
        """Like the call, from cached encodings; raises NotCached if the model would be needed."""
        table = self.by_table
        if table and not table.asks:
            return self(texts)
        if table or self.unchecked:
            raise NotCached
        return self._weighed(self.queries.cached(texts, self.query_k))

    def idf(self) -> NDArray[np.float32]:
        """Return the idf of each latent, `[n_latents]`: that of the index, else the model's."""
        every = self.statistics.idf() if self.statistics else None
        return self._idf() if every is None else every

    def _weighed(self, encodings: Sequence[Encoding]) -> list[list[WeightedTerm]]:
        every = self.idf()
        found = []
        for latents, weights in encodings:
            idf = every[latents]
            order = np.argsort(-weights * idf, kind="stable")
            columns = (column[order].tolist() for column in (latents, weights, idf))
            rows = zip(*columns, strict=True)
            found.append([WeightedTerm(terms.term(i), w, g) for i, w, g in rows])
        return found
