"""Document frequencies of the latents of an index.

`_termvectors` of an artificial document that has every latent → document frequencies → idf

Each shard answers `_termvectors` for itself, so every shard is asked and the answers are summed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.engine.client import in_words, url_of

# Age at which document frequencies are read again.
STATISTICS_SECONDS = 600.0

# Most shards to ask, evenly spread. An answer takes 0.1 s and 0.5 to 1 MB; documents are spread
# over shards at random, so some shards represent all.
MOST_SHARDS = 8

log = logging.getLogger(__name__)

Item = TypeVar("Item")


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
