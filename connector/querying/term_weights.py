"""Latent terms of a text, heaviest by `w * idf` first, with the document frequencies of an index.

`_termvectors` of an artificial document that has every latent → document frequencies → idf

Each shard answers `_termvectors` for itself, so every shard is asked and the answers are summed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.engine.client import in_words, url_of
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.querying.query_encoder import Encoding, NotCached, QueryEncoder
from latent_ingest.connector.questions.words import words_of

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.querying.asked_indices import AskedIndices, IndexFields
    from latent_ingest.connector.questions.engine_table import EngineTable
    from latent_ingest.connector.questions.question_table import QuestionTable
    from latent_ingest.connector.questions.stored_table import StoredTable


# Age at which document frequencies are read again.
STATISTICS_SECONDS = 600.0

# Most shards to ask, evenly spread. An answer takes 0.1 s and 0.5 to 1 MB; documents are spread
# over shards at random, so some shards represent all.
MOST_SHARDS = 8

log = logging.getLogger(__name__)


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


Item = TypeVar("Item")

Weigh = Callable[[Sequence[str]], Sequence[Sequence[WeightedTerm]]]
"""Texts → the latent terms of each, heaviest by `w * idf` first."""


def share_of(terms: Sequence[WeightedTerm], n_used: int) -> float:
    """Return the share of the weight `w * idf` of all terms that the first `n_used` have."""
    if n_used >= len(terms):
        return 1.0
    whole = sum(item.weight * item.idf for item in terms)
    return sum(item.weight * item.idf for item in terms[:n_used]) / whole if whole else 1.0


@dataclass(frozen=True, slots=True)
class DocumentFrequencies:
    """Document frequencies of all latents in one or more indices, at one time."""

    counts: NDArray[np.int64]
    """Documents per latent, `[n_latents]`, including deleted documents not yet merged away."""
    n_documents: int
    """Documents with any latent."""
    every_shard: bool
    """Whether all shards were asked, so that a latent with count 0 cannot match anything."""

    def idf(self) -> NDArray[np.float32]:
        """Return the idf of each latent, `[n_latents]`; 0 for a latent that no document has."""
        idf = inverse_document_frequency(self.n_documents, self.counts)
        if self.every_shard:
            idf[self.counts == 0] = 0
        return idf.astype(np.float32)


class IndexStatistics:
    """Document frequencies of one or more indices, kept up to date while an application runs.

    `idf` never waits: when its numbers are old, a thread reads new ones. Thread-safe.
    """

    def __init__(
        self,
        client: OpenSearch,
        indices: Sequence[str],
        field: str,
        n_latents: int,
        max_age: float = STATISTICS_SECONDS,
    ) -> None:
        """Create statistics of a latent field, read again after `max_age` seconds.

        The engine is not asked yet.
        """
        self._client = client
        self._indices = indices
        self._field = field
        self._n_latents = n_latents
        self._max_age = max_age
        self._reading = threading.Lock()
        self._read_at: float | None = None
        self._idf: NDArray[np.float32] | None = None
        self.frequencies: DocumentFrequencies | None = None
        """The last frequencies that the engine gave."""
        self.problem: str | None = None
        """Why the engine gave no frequencies when it was last asked, in one line."""

    @property
    def source(self) -> str:
        """Source of the idf by which terms are chosen: "index" or "model"."""
        return "model" if self._idf is None else "index"

    @property
    def age(self) -> float | None:
        """Seconds since the engine was last asked; None if it never was."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    def idf(self) -> NDArray[np.float32] | None:
        """Return the idf of each latent, `[n_latents]`; None until the engine has given it."""
        due = self.age is None or self.age >= self._max_age
        if due and self._reading.acquire(blocking=False):
            thread = threading.Thread(target=self._read, name="latent-statistics", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter is exiting
                self._reading.release()
        return self._idf

    def refresh(self) -> None:
        """Read the frequencies now and wait for them; `problem` says if the engine gave none."""
        self._reading.acquire()
        self._read()

    def _read(self) -> None:
        """Read the frequencies. The calling thread holds `_reading`, which is released."""
        problem = None
        try:
            found = read_frequencies(self._client, self._indices, self._field, self._n_latents)
            if found.n_documents:
                self._idf, self.frequencies = found.idf(), found
            else:
                problem = "the index has no documents yet"
        except Exception as error:  # questions are answered whatever the error is
            problem = str(in_words(error, url_of(self._client)))
            if problem != self.problem:
                log.warning(
                    "no document frequencies for %s; terms are chosen by those %s: %s",
                    ",".join(self._indices),
                    "stored with the model" if self._idf is None else "read before",
                    problem,
                )
        finally:
            self._read_at = time.monotonic()
            self._reading.release()
        self.problem = problem


def read_frequencies(
    client: OpenSearch, indices: Sequence[str], field: str, n_latents: int
) -> DocumentFrequencies:
    """Read document frequencies from evenly spread shards; raises what the client raises."""
    some = spread(indices)
    settings = client.indices.get_settings(
        index=",".join(some), name="index.number_of_shards", flat_settings=True
    )
    shards = [
        (name, shard)
        for name, content in settings.items()
        for shard in range(int(content["settings"]["index.number_of_shards"]))
    ]
    asked = spread(shards)
    body = {
        "doc": {field: " ".join(map(terms.term, range(n_latents)))},
        "fields": [field],
        "term_statistics": True,
        **dict.fromkeys(("positions", "offsets", "payloads"), False),
    }
    only = "term_vectors.*.terms.*.doc_freq,term_vectors.*.field_statistics"
    counts = np.zeros(n_latents, dtype=np.int64)
    n_documents = 0
    for name, shard in asked:
        params = {"preference": f"_shards:{shard}", "filter_path": only}
        answer = client.termvectors(index=name, body=body, params=params)
        found: dict[str, Any] = answer.get("term_vectors", {}).get(field, {})
        n_documents += max(0, found.get("field_statistics", {}).get("doc_count", 0))
        for name_of_term, statistics in found.get("terms", {}).items():
            counts[terms.latent_of(name_of_term)] += statistics["doc_freq"]
    every_shard = len(some) == len(indices) and len(asked) == len(shards)
    return DocumentFrequencies(counts, n_documents, every_shard)


def spread(items: Sequence[Item]) -> Sequence[Item]:
    """Return at most `MOST_SHARDS` items, at even distances."""
    return items[:: max(1, -(-len(items) // MOST_SHARDS))]


@dataclass(frozen=True, slots=True)
class Source:
    """The indices of a rewriter, as the engine describes them."""

    index: str | None = None
    indices: tuple[str, ...] = ()
    fields: IndexFields | None = None
    statistics: IndexStatistics | None = None
    unchecked: AskedIndices | None = None
    """The indices, if their model is not loaded yet and so has to be checked later."""
    fingerprint: str | None = None
    """Fingerprint of the model that made the indices."""
    table: StoredTable | EngineTable | None = None
    """The question table of the indices, instead of that of the model folder."""
    n_latents: int = 0
    skips: bool = True
    """Whether the engine skips in blocks."""


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
