"""The table of an index that exists, made of the words of its documents, which are read back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.document_text import text_in
from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.blocks import LASTING, check_blocks
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER, Retry, passes
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.meta import IndexMeta, missing_source
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.index.reading import scan
from latent_ingest.connector.index.repair import check_unchanged
from latent_ingest.connector.indexing.questions.own_table import (
    KEPT,
    OnWords,
    OwnTable,
    Progress,
    TableReport,
    put_table,
)
from latent_ingest.connector.questions.index_table import (
    build_index_table,
    choose_words,
    model_table,
)
from latent_ingest.connector.questions.stored_table import INDEX_WORDS
from latent_ingest.connector.questions.word_counts import WordCounts

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)

# Documents that are read: all, or a random sample. A word of one in 100,000 documents has an even
# chance to be in two of these.
MOST_READ = 200_000


class ReadBackTable(OwnTable):
    """The table of a new index whose documents pass through other processes.

    Its words are read back from the index.
    """

    def add(self, text: str) -> None:
        """Do nothing."""

    def put(self, documents: int | None = None) -> None:
        """Put the table into the index, unless it has other documents than `documents`.

        Raises EngineError: the engine was away for too long; another run goes on from here.
        """
        retry, index = self._retry, self._index
        retry.ask(index.refresh)
        if documents is not None and retry.ask(index.count) != documents:
            log.info(KEPT, index.name, "is loaded by other runs, too", index.name)
            self._done()
            return
        refresh = TableRefresh(
            index.client, index.name, words=self._most, give_up_after=retry.give_up_after
        )
        try:
            self.report = refresh.run(self._encoder, on_words=self._on_words)
        except InputError as error:
            log.warning("index %s keeps the table of its model's words: %s", index.name, error)
            self._done()


class TableRefresh:
    """Makes the table of an index of the words of its documents, as `latent-ingest questions` does.

        refresh = TableRefresh(client, "papers")
        print(refresh.warning)  # the index is closed for a moment
        report = refresh.run(encoder)

    Raises:
        InputError: there is no such index, or several, or it is closed, keeps no documents, or is
            being changed.
        MismatchError: it has no latent terms.
        EngineError: the engine cannot be asked, or the index is blocked.
    """

    def __init__(
        self,
        client: OpenSearch | Client,
        index: str,
        *,
        words: int = INDEX_WORDS,
        give_up_after: float = GIVE_UP_AFTER,
    ) -> None:
        """Check the index, which is not changed.

        Args:
            client: client of opensearch-py or `elasticsearch`.
            index: name of the index, or an alias of one.
            words: most words of the table.
            give_up_after: seconds of refusals or silence after which the run ends.
        """
        client = adapted(client)
        existing = ExistingIndex.read(client, index)
        if not existing.open:
            raise InputError(
                f"index {existing.name} is closed; open it: POST /{existing.name}/_open"
            )
        self._meta = IndexMeta.from_mapping(existing.name, existing.mapping)
        check_unchanged(existing.name, self._meta)
        check_blocks(existing.name, existing.settings, LASTING)
        if gap := missing_source(existing.mapping, self._meta):
            raise InputError(
                f"index {existing.name} {gap}, so the words of its documents cannot be read"
            )
        self._index = existing.index
        self._shards = existing.shards
        self._words = words
        self._retry = Retry(client, give_up_after=give_up_after)
        self.documents = self._retry.ask(self._index.count)
        """Number of documents in the index."""

    @property
    def name(self) -> str:
        """Name of the index itself, also if an alias was given."""
        return self._index.name

    @property
    def to_read(self) -> int:
        """Number of documents that are read, about."""
        return min(self.documents, MOST_READ)

    @property
    def warning(self) -> str:
        """What users of the index will notice."""
        return (
            f"index {self.name} will be closed for a moment, to change its table of words; "
            f"searching it and writing to it fails meanwhile"
        )

    def run(
        self,
        encoder: LatentEncoder,
        on_read: Callable[[int], object] = lambda documents: None,
        on_words: OnWords = lambda done, of: None,
    ) -> TableReport:
        """Read the words, encode those that the model's table lacks, and put the table in.

        Args:
            encoder: the model of the index.
            on_read: called with the number of documents just read.
            on_words: called with the number of words that are encoded, and of all.

        Raises:
            MismatchError: the index was made by another model.
            InputError: the documents have no words, or the engine refuses the table.
            ModelError: the table of the model cannot be used.
            EngineError: the engine is away for too long, or the index cannot be closed.
        """
        started = time.monotonic()
        self._meta.check(encoder, self.name)
        general = model_table(encoder, strict=True)
        chosen = choose_words(self._count(on_read), general, self._words)
        table = None
        if chosen.own:
            progress = Progress(on_words, chosen, self._retry)
            table = build_index_table(encoder, chosen, general, progress.add)
        if table is None:
            fields = ", ".join(self._meta.text_fields)
            raise InputError(
                f"index {self.name} has no words in {fields}, of which a table could be made: "
                f"numbers do not count, nor do scripts without spaces between words"
            )
        try:
            self._retry.ask(put_table, self._index, table, self._retry, own_words=None)
        except EngineError as error:
            raise self._refusal(error, len(table.rules)) from error
        seconds = time.monotonic() - started
        return TableReport(len(table.rules), chosen.own, len(chosen.lacking), seconds)

    def _count(self, on_read: Callable[[int], object]) -> WordCounts:
        counts = WordCounts()
        share = min(1.0, MOST_READ / max(self.documents, 1))
        for page in scan(self._index, self._meta, self._shards, self._retry, share):
            for stored in page:
                counts.add_document(text_in(stored.source, self._meta.text_fields))
            on_read(len(page))
        return counts

    def _refusal(self, error: EngineError, words: int) -> Exception:
        """The error for a table that is not in the index."""
        cause: BaseException | None = error
        while isinstance(cause, EngineError):
            cause = cause.__cause__
        status = cause.status_code if isinstance(cause, TransportError) else None
        if passes(error) or status not in (400, 413):
            return error
        return InputError(
            f"index {self.name} refuses a table of {words:,} words: {error}; use fewer with "
            f"--question-words"
        )
