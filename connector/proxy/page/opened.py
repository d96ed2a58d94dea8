"""Indices that callers ask: their rewriters, and what is known of their latents."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.model_folder import model_path
from latent_ingest.connector.errors import LatentIngestError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.inspection.labels import read_labels
from latent_ingest.connector.inspection.word_latents import WordLatents
from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.stored_table import StoredTable

# Age at which an index is read again: an alias may have moved.
RENEW_SECONDS = 10.0

# Indices of callers that are kept, some MB each: the document frequencies of their latents.
MOST_OPENED = 16


class Caller(NamedTuple):
    """Somebody who asks, with the rights of their login."""

    client: OpenSearch
    """Sends their `Authorization` with each request."""
    key: str
    """Equal for the same rights; not the login itself."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An index as one caller may read it."""

    rewriter: QueryRewriter
    meta: IndexMeta
    labels: Mapping[int, str]
    """Latent → label, of the model folder if that made the index; else empty."""
    words: WordLatents | None
    """The words of latents, by a question table; None if there is none."""
    by_table: bool
    """Whether the table encodes questions."""
    until: float
    """Monotonic time at which it is read again."""


class OpenedIndices:
    """Opens indices for callers, and keeps them for some seconds. Thread-safe."""

    def __init__(
        self,
        queries: Callable[[AskedIndices], QueryEncoder],
        folders: Sequence[str | Path | None] = (None,),
    ) -> None:
        """Open nothing yet.

        Args:
            queries: gives what encodes questions to indices.
            folders: model folders with labels and question tables; None is minilm-32k.
        """
        self._queries = queries
        self._folders = [model_path(folder) for folder in folders]
        self._tables: dict[Path, QuestionTable | None] = {}
        self._opened: OrderedDict[tuple[str, str], Opened] = OrderedDict()
        self._words: OrderedDict[int, tuple[object, WordLatents]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, caller: Caller, index: str) -> Opened:
        """Return an index; raises as `QueryRewriter.from_index`."""
        key = (caller.key, index)
        with self._lock:
            found = self._opened.get(key)
        if found and found.until > time.monotonic():
            return found
        new = self._open(caller, index)
        with self._lock:
            self._opened[key] = new
            self._opened.move_to_end(key)
            if len(self._opened) > MOST_OPENED:
                self._opened.popitem(last=False)
        return new

    def forget(self, caller: Caller) -> bool:
        """Read a caller's indices again when they are asked next; returns whether there are any."""
        with self._lock:
            found = [key for key in self._opened if key[0] == caller.key]
            for key in found:
                del self._opened[key]
        return bool(found)

    def _open(self, caller: Caller, index: str) -> Opened:
        asked = AskedIndices.read(caller.client, index)
        rewriter = QueryRewriter.for_indices(caller.client, asked, self._queries(asked))
        if rewriter.statistics:
            rewriter.statistics.refresh()
        meta, by_table = asked.meta, rewriter.table is not None
        labels: Mapping[int, str] = {}
        table: QuestionTable | StoredTable | None = None
        for folder in self._folders:
            general = self._table_of(folder)
            if general and general.fingerprint.digest == meta.fingerprint:
                table = general
                labels = read_labels(folder, general.fingerprint.autoencoder)
        if table is None and by_table:  # no folder of the model, but the index has a table
            own = asked.question_table(caller.client)
            table = own if isinstance(own, StoredTable) else None
        return Opened(
            rewriter,
            meta,
            labels,
            self._words_of(table) if table else None,
            by_table,
            time.monotonic() + RENEW_SECONDS,
        )

    def _table_of(self, folder: Path) -> QuestionTable | None:
        """The question table of a model folder; None if it has none."""
        if folder not in self._tables:
            try:
                self._tables[folder] = QuestionTable.load(folder)
            except LatentIngestError:
                self._tables[folder] = None
        return self._tables[folder]

    def _words_of(self, table: QuestionTable | StoredTable) -> WordLatents:
        with self._lock:
            if (found := self._words.get(id(table))) and found[0] is table:
                return found[1]
        words = WordLatents.of(table)
        with self._lock:
            self._words[id(table)] = table, words
            if len(self._words) > MOST_OPENED:
                self._words.popitem(last=False)
        return words
