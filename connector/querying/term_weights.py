"""How many documents of an index have each latent: asked of the engine, kept, renewed meanwhile.

`_termvectors` of an artificial document that has every latent → document frequencies → idf

A shard answers for itself alone, so each is asked, and frequencies and documents are summed.

Texts → their latent terms, heaviest by `w * idf` first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.engine.client import in_words, url_of
from latent_ingest.connector.querying.clauses import WeightedTerm
from latent_ingest.connector.querying.query_encoder import Encoding, NotKept, QueryEncoder

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.querying.asked_indices import AskedIndices


# How old frequencies may be before they are asked for again.
STATISTICS_SECONDS = 600.0

# Shards asked at most, evenly spread. An answer takes 0.1 s and 0.5 to 1 MB; documents are spread
# over shards at random, so that some of them stand for all.
MOST_SHARDS = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DocumentFrequencies:
    """Of the latents of some indices, at one time."""

    counts: NDArray[np.int64]
    """Documents that have the latent, `[n_latents]`, deleted ones that are not yet merged too."""
    n_documents: int
    """That have any latent."""
    every_shard: bool
    """Whether all shards were asked, so that a count of zero means that nothing is found by it."""

    def idf(self) -> NDArray[np.float32]:
        """Lucene's `ln(1 + (N - df + 0.5) / (df + 0.5))`; 0 for a latent that no document has."""
        idf = inverse_document_frequency(self.n_documents, self.counts)
        if self.every_shard:
            idf[self.counts == 0] = 0
        result: NDArray[np.float32] = idf.astype(np.float32)
        return result


class IndexStatistics:
    """Document frequencies of one or more indices, for as long as an application runs.

    `idf` never waits: when its numbers are old, a thread asks for new ones. For any number of
    threads.
    """

    def __init__(
        self,
        client: OpenSearch,
        indices: Sequence[str],
        field: str,
        n_latents: int,
        max_age: float = STATISTICS_SECONDS,
    ) -> None:
        """Nothing is asked yet.

        Args:
            client: of the engine.
            indices: their names.
            field: where the latent terms are.
            n_latents: size of the vocabulary.
            max_age: seconds after which frequencies are asked for again.
        """
        self._client = client
        self._indices = indices
        self._field = field
        self._n_latents = n_latents
        self._max_age = max_age
        self._asking = threading.Lock()
        self._asked: float | None = None
        self._idf: NDArray[np.float32] | None = None
        self.frequencies: DocumentFrequencies | None = None
        """The last that the engine gave."""
        self.problem: str | None = None
        """Why the engine did not give them when it was last asked, in one line."""

    @property
    def source(self) -> str:
        """Whose frequencies choose the terms of a question: "index", or "model"."""
        return "model" if self._idf is None else "index"

    @property
    def age(self) -> float | None:
        """Seconds since the engine was asked; none if it never was."""
        return None if self._asked is None else time.monotonic() - self._asked

    def idf(self) -> NDArray[np.float32] | None:
        """Of each latent in the index, `[n_latents]`; none while it is not known."""
        if (self.age is None or self.age >= self._max_age) and self._asking.acquire(blocking=False):
            thread = threading.Thread(target=self._renew, name="latent-statistics", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter ends
                self._asking.release()
        return self._idf

    def refresh(self) -> None:
        """Ask the engine now, and wait for it; `problem` says if it did not answer."""
        self._asking.acquire()
        self._renew()

    def _renew(self) -> None:
        """In any thread that holds `_asking`, which is released."""
        try:
            frequencies = read_frequencies(
                self._client, self._indices, self._field, self._n_latents
            )
            problem = None if frequencies.n_documents else "the index has no documents yet"
            if frequencies.n_documents:
                self._idf = frequencies.idf()
                self.frequencies = frequencies
        except Exception as error:  # whatever it is, questions are answered all the same
            problem = str(in_words(error, url_of(self._client)))
            if problem != self.problem:
                log.warning(
                    "no document frequencies of %s, so terms are chosen by those %s: %s",
                    ",".join(self._indices),
                    "stored with the model" if self._idf is None else "read before",
                    problem,
                )
        finally:
            self._asked = time.monotonic()
            self._asking.release()
        self.problem = problem


def read_frequencies(
    client: OpenSearch, indices: Sequence[str], field: str, n_latents: int
) -> DocumentFrequencies:
    """Ask shards of some indices, evenly spread; raises what the client raises."""
    some = indices[:: max(1, -(-len(indices) // MOST_SHARDS))]
    shards = [
        (name, shard)
        for name, content in client.indices.get_settings(
            index=",".join(some), name="index.number_of_shards", flat_settings=True
        ).items()
        for shard in range(int(content["settings"]["index.number_of_shards"]))
    ]
    step = max(1, -(-len(shards) // MOST_SHARDS))
    counts = np.zeros(n_latents, dtype=np.int64)
    n_documents = 0
    document = {field: " ".join(map(terms.term, range(n_latents)))}
    for name, shard in shards[::step]:
        answer = client.termvectors(
            index=name,
            body={
                "doc": document,
                "fields": [field],
                "term_statistics": True,
                **dict.fromkeys(("positions", "offsets", "payloads"), False),
            },
            params={
                "preference": f"_shards:{shard}",
                "filter_path": "term_vectors.*.terms.*.doc_freq,term_vectors.*.field_statistics",
            },
        )
        found: dict[str, Any] = answer.get("term_vectors", {}).get(field, {})
        n_documents += max(0, found.get("field_statistics", {}).get("doc_count", 0))
        for name_of_term, statistics in found.get("terms", {}).items():
            counts[terms.latent_of(name_of_term)] += statistics["doc_freq"]
    return DocumentFrequencies(
        counts, n_documents, every_shard=len(some) == len(indices) and step == 1
    )


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
