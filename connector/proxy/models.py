"""The models of a proxy: questions and documents of concurrent requests are encoded together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from latent_ingest.connector import terms
from latent_ingest.connector.errors import LatentIngestError, MismatchError, ModelError
from latent_ingest.connector.indexing.batches import CHARACTERS_PER_BUDGET_TOKEN
from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
from latent_ingest.connector.querying.query_encoder import (
    LONGEST_CACHED,
    Encoding,
    QueryEncoder,
)
from latent_ingest.connector.questions.stored_table import INDEX

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.encoding.vectors import LatentVectors
    from latent_ingest.connector.index.meta import IndexMeta
    from latent_ingest.connector.proxy.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")

# Threads that wait for encodings and descriptions of indices.
THREADS = 32

# Characters of the questions that are encoded together.
MOST_CHARACTERS = 65_536


class Batcher(Generic[Item, Result]):
    """Calls a function with the items of several threads together.

    Nobody waits for others to come: items that come while the function runs are its next batch.
    """

    def __init__(
        self,
        function: Callable[[list[Item]], list[Result]],
        size_of: Callable[[Item], int],
        most: int,
    ) -> None:
        """Prepare a function of many items.

        Args:
            function: the results of items, in their order.
            size_of: size of an item.
            most: size of a batch, unless it is a single item.
        """
        self._function = function
        self._size_of = size_of
        self._most = most
        self._running = threading.Lock()
        self._waiting: list[tuple[Item, Slot[Result]]] = []
        self._lock = threading.Lock()
        self.on_batch: Callable[[int, float], None] = lambda items, seconds: None
        """Called with the number of items and the seconds of each batch."""

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of items; raises what the function raises."""
        slots = [Slot[Result]() for _ in items]
        with self._lock:
            self._waiting += zip(items, slots, strict=True)
        for slot in slots:
            while not slot.done:
                with self._running:
                    if not slot.done:
                        self._run()
        return [slot.result() for slot in slots]

    def _run(self) -> None:
        """Call the function for the items that wait, those first that came first."""
        with self._lock:
            size, number = 0, 0
            for item, _ in self._waiting:
                size += self._size_of(item)
                if number and size > self._most:
                    break
                number += 1
            batch, self._waiting = self._waiting[:number], self._waiting[number:]
        began = time.monotonic()
        try:
            self._settle(batch)
        except Exception:  # of one of them: the others are not to suffer from it
            for one in batch:
                try:
                    self._settle([one])
                except Exception as error:
                    one[1].error, one[1].done = error, True
        self.on_batch(len(batch), time.monotonic() - began)

    def _settle(self, batch: list[tuple[Item, Slot[Result]]]) -> None:
        results = self._function([item for item, _ in batch])
        for (_, slot), result in zip(batch, results, strict=True):
            slot.value, slot.done = [result], True


class Slot(Generic[Result]):
    """The result of one item, once it is done."""

    def __init__(self) -> None:
        self.done = False
        self.value: list[Result] = []
        self.error: BaseException | None = None

    def result(self) -> Result:
        """Return the result, or raise the error."""
        if self.error:
            raise self.error
        return self.value[0]


class SharedQueries(QueryEncoder):
    """A `QueryEncoder` that encodes questions of several threads together."""

    def __init__(self, folder: str | None, **options: Any) -> None:
        super().__init__(folder, **options)
        self.batcher: Batcher[str, Encoding] = Batcher(super().encode, len, MOST_CHARACTERS)

    def encode(self, texts: Sequence[str], k: int | None = None) -> list[Encoding]:
        """As the parent; what is not cached is encoded with questions of other threads."""
        if not self.by_table and k is None:
            missing = [text for text in dict.fromkeys(texts) if len(text) <= LONGEST_CACHED]
            if missing := [text for text in missing if not self.keeps(text)]:
                self.batcher(missing)
        return super().encode(texts, k)


class Documents:
    """Encodes documents by one model, those of several threads together."""

    def __init__(self, encoder: LatentEncoder) -> None:
        self._encoder = encoder
        characters = CHARACTERS_PER_BUDGET_TOKEN * encoder.backbone.token_budget
        self._batchers = {
            long: Batcher(partial(self._rows, long), len, characters)
            for long in ("pool", "truncate")
        }

    def on_batch(self, function: Callable[[int, float], None]) -> None:
        """Call a function with the number of items and the seconds of each batch."""
        for batcher in self._batchers.values():
            batcher.on_batch = function

    def _rows(self, long: str, texts: list[str]) -> list[tuple[LatentVectors, int]]:
        vectors = self._encoder.encode(texts, allow_nan=True, long=long)
        return [(vectors, row) for row in range(len(texts))]

    def strings(self, texts: Sequence[str], meta: IndexMeta) -> list[str | None]:
        """Return the latent terms of texts, in the index's spelling; None if a text has none."""
        return [row_string(vectors, row, meta) for vectors, row in self._batchers[meta.long](texts)]


def row_string(vectors: LatentVectors, row: int, meta: IndexMeta) -> str | None:
    """Return the latent terms of one text of a batch; None if they are not numbers."""
    if not vectors.finite[row]:
        return None
    start, end = vectors.offsets[row], vectors.offsets[row + 1]
    tf = terms.counts(vectors.values[start:end], meta.scale)
    return terms.write(vectors.indices[start:end], tf, meta.spelling)


class Models:
    """The models of a proxy, by their fingerprints."""

    def __init__(self, settings: Settings) -> None:
        """Name the models; `load` loads them."""
        self._settings = settings
        options = {"device": settings.device, "dtype": settings.dtype}
        self.encoders = [SharedQueries(folder, **options) for folder in settings.models]
        self._tables = [QueryEncoder(folder, questions="table") for folder in settings.models]
        self._documents: dict[str, Documents] = {}
        self.problem: str | None = None
        """Why a model cannot be loaded."""
        self.ready = False
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="latent-proxy")

    def load(self) -> None:
        """Load the models that are needed; `ready` or `problem` says whether they are."""
        try:
            if self._settings.needs_model:
                for encoder in self.encoders:
                    model = encoder.load()
                    self._documents[model.fingerprint.digest] = Documents(model)
                    encoder.encode(["a first question is slower"])
            if self._settings.questions == "table":
                for table in self._tables:
                    with suppress(ModelError):  # an index may have its own
                        table.source()
            self.ready = True
        except (LatentIngestError, ImportError) as error:
            self.problem = str(error)

    def on_batch(self, function: Callable[[str, int, float], None]) -> None:
        """Call a function with kind, number of items and seconds of each batch."""
        for encoder in self.encoders:
            encoder.batcher.on_batch = partial(function, "question")
        for documents in self._documents.values():
            documents.on_batch(partial(function, "document"))

    def queries(self, asked: AskedIndices) -> QueryEncoder:
        """Return what encodes questions to indices.

        Raises:
            MismatchError: no model here made them.
        """
        tables = [meta.questions for meta in asked.metas.values()]
        choice = self._settings.questions
        own = all(table and table["origin"] == INDEX for table in tables)
        by_table = choice == "table" or (choice == "auto" and own)
        every: Sequence[QueryEncoder] = self._tables if by_table else self.encoders
        for encoder in every:
            with suppress(ModelError):
                if encoder.source().fingerprint.digest == asked.meta.fingerprint:
                    return encoder
        if by_table and all(tables):
            return every[0]  # the table of the index needs no model
        raise MismatchError(
            f"index {next(iter(asked.metas))} was made by model {asked.meta.model} "
            f"({asked.meta.fingerprint}), which is none of this proxy's"
        )

    def documents(self, meta: IndexMeta) -> Documents | None:
        """Return what encodes documents of an index; None if no model here made it."""
        return self._documents.get(meta.fingerprint) if self._settings.documents else None
