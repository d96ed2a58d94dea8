"""The table of an index's own words: counted while its documents are loaded, put in afterwards.

words of the documents → those that are useful → encoded where the model's table lacks them
→ close, settings, open

The words are counted in the texts that are encoded anyway. A resumed run counts all of them again,
since it reads the file from its start, or the index; so nothing is kept beside the journal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.engine.blocks import CLOSED
from latent_ingest.connector.engine.retry import Retry, passes
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.creation import question_settings
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.repair import TABLE_CHANGE, change_closed, new_note
from latent_ingest.connector.questions.index_table import (
    ChosenWords,
    build_index_table,
    choose_words,
    model_table,
)
from latent_ingest.connector.questions.stored_table import StoredTable
from latent_ingest.connector.questions.word_counts import WordCounts
from latent_ingest.mappings import SEARCH_ANALYZER

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)

KEPT = (
    "index %s %s, so its table of words stays as it is; 'latent-ingest questions --index %s' makes "
    "it of the words of its documents"
)

OnWords = Callable[[int, int], None]
"""Called with the number of words that are encoded, and of all."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table that was put into an index."""

    words: int
    own: int
    """Words that its documents have; the others are from the model's table."""
    encoded: int
    """Words that the model's table lacks."""
    seconds: float


class OwnTable:
    """The table of a new index, while its documents are loaded."""

    def __init__(
        self,
        index: Index,
        encoder: LatentEncoder,
        retry: Retry,
        most: int,
        on_words: OnWords = lambda done, of: None,
    ) -> None:
        """Count nothing yet; `most` is the number of words in the table."""
        self._index = index
        self._encoder = encoder
        self._retry = retry
        self._most = most
        self._on_words = on_words
        self._counts = WordCounts()
        self.report: TableReport | None = None
        """None until the table is in the index."""

    @classmethod
    def begin(
        cls,
        index: Index,
        meta: IndexMeta,
        encoder: LatentEncoder,
        retry: Retry,
        most: int,
        on_words: OnWords,
    ) -> OwnTable | None:
        """Return the table if the index is new, and has the table of its model until then.

        None for an index that somebody may be searching: it keeps its table, which is logged. Also
        None for one without a table. An index that an interrupted run began to load is still new.
        """
        if not meta.own_words:
            if meta.questions:
                log.info(KEPT, index.name, "may be in use", index.name)
            return None
        return cls(index, encoder, retry, most, on_words)

    def add(self, text: str) -> None:
        """Count the words of a document."""
        self._counts.add_document(text)

    def put(self, documents: int | None = None) -> None:
        """Put the table into the index, unless the model's table has all its words.

        An index that cannot be closed, or has other documents than `documents`, keeps the model's
        table, which is logged.

        Raises:
            EngineError: the engine was away for too long, or the run was stopped; another run goes
                on from here.
        """
        retry, started = self._retry, time.monotonic()
        info = retry.ask(IndexInfo.read, self._index.client, self._index.name)
        index = Index(self._index.client, info.name)  # an alias may have been given
        others = documents is not None and retry.ask(index.count) != documents
        if others or info.guards:
            log.info(KEPT, index.name, "is loaded by other runs, too", index.name)
            self._done()
            return
        general = model_table(self._encoder)
        chosen = choose_words(self._counts, general, self._most)
        table = None
        if chosen.own and not chosen.same:
            table = build_index_table(
                self._encoder, chosen, general, Progress(self._on_words, chosen, retry).add
            )
        if table is None:
            self._done()
            return
        try:
            retry.ask(put_table, index, table, retry, own_words=None)
        except EngineError as error:
            if passes(error) or retry.ended.is_set() or CLOSED in index.settings():
                raise
            log.warning("index %s keeps the table of its model's words: %s", index.name, error)
            self._done()
            return
        seconds = time.monotonic() - started
        self.report = TableReport(len(table.rules), chosen.own, len(chosen.lacking), seconds)

    def _done(self) -> None:
        self._retry.ask(lambda: self._index.update_meta(own_words=None))


class Progress:
    """Progress of encoding the words that a table lacks."""

    def __init__(self, on_words: OnWords, chosen: ChosenWords, retry: Retry) -> None:
        self._on_words = on_words
        self._total = len(chosen.lacking)
        self._retry = retry
        self._done = 0
        on_words(0, self._total)

    def add(self, words: int) -> None:
        """Some words were encoded; raises EngineError if the run was stopped."""
        self._done += words
        self._on_words(self._done, self._total)
        if self._retry.ended.is_set():
            raise EngineError("interrupted")


def put_table(index: Index, table: StoredTable, retry: Retry, **meta: Any) -> None:
    """Put a table into an index, which is closed for a moment, and change fields of its meta.

    If this process is killed meanwhile, the next command opens the index, whose meta then says
    nothing of a table. Raises EngineError; then the index has the table it had.
    """
    mapping = index.mapping()
    name = mapping["_meta"]["latent_ingest"]["latent_field"]
    field = {**mapping["properties"][name], "search_analyzer": SEARCH_ANALYZER}
    change_closed(
        index,
        question_settings(table.analysis()),
        new_note({}, by=TABLE_CHANGE, meta={"questions": None}),
        retry,
        {name: field},
        questions=table.note(),
        **meta,
    )
