"""Questions → weights of latents. The model is loaded on first use, and encodings are cached.

Importing this module does not load torch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.questions.question_table import QuestionTable

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Encodings in the cache, about 2 kB each for a question of a few words.
CACHE_SIZE = 4096

# Characters of the longest text that is cached. Longer texts are not questions, and fill memory.
LONGEST_CACHED = 4096

# The thread that encodes for event loops. One is enough: a model encodes one batch at a time.
_thread = ThreadPoolExecutor(1, thread_name_prefix="latent-encode")

# What encodes questions; auto is the model where it is loaded already, else the table.
# Where the index has a table, engine has its engine look the words up.
QUESTIONS = ("model", "table", "engine", "auto")

# Those that need no model.
BY_TABLE = ("table", "engine")

Result = TypeVar("Result")


class Encoding(NamedTuple):
    """The latents of a question and their weights."""

    latents: NDArray[np.int32]
    """Latents, `[n]`."""
    weights: NDArray[np.float32]
    """Square roots of the pooled activations, `[n]`."""


class CacheInfo(NamedTuple):
    """Hits and misses of the cache, like those of `functools.lru_cache`."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class NotCached(Exception):
    """An encoding is not in the cache, so the model would be needed."""


class QueryEncoder:
    """A model that encodes questions, with a cache of its last encodings. Thread-safe."""

    def __init__(
        self,
        model: LatentEncoder | str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        k: int | None = None,
        cache_size: int = CACHE_SIZE,
        questions: str = "model",
    ) -> None:
        """Name a model; it is loaded on first use, once per process.

        Args:
            model: a model folder, or a loaded model; by default minilm-32k.
            device: as for `LatentEncoder.load`.
            dtype: as for `LatentEncoder.load`.
            k: as for `LatentEncoder.load`.
            cache_size: number of encodings in the cache, the last used ones; 0 for no cache.
            questions: "model"; "table", the question table in the model folder, without the model;
                "engine", the same unless `QueryRewriter.from_index` has the engine look words up;
                or "auto", the model where it is loaded already, else the table. The table has no
                `k`, and needs a model that is given as a folder.

        Raises:
            InputError: unknown `questions`, or the table of a loaded model.
        """
        if questions not in QUESTIONS:
            raise InputError(f"questions {questions!r}: use one of {', '.join(QUESTIONS)}")
        lazy = model is None or isinstance(model, (str, Path))
        self._loaded: LatentEncoder | None = None if lazy else model  # type: ignore[assignment]
        self._lazy = lazy
        self._folder: str | Path | None = model if lazy else None  # type: ignore[assignment]
        if questions in BY_TABLE and not lazy:
            raise InputError("questions by table: give the model folder instead of a loaded model")
        self._questions = questions
        self._table: QuestionTable | None = None
        self._options = {"device": device, "dtype": dtype, "k": k}
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, int | None], Encoding] = OrderedDict()
        self._hits = self._misses = 0
        self._cache_lock = threading.Lock()
        self._encoding = threading.Lock()
        self._idf: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, model: LatentEncoder | QueryEncoder | str | Path | None) -> QueryEncoder:
        """Return `model` if it is a QueryEncoder; else a new one for it, or for the shipped one."""
        return model if isinstance(model, QueryEncoder) else cls(model)

    @property
    def folder(self) -> str | Path | None:
        """The model folder; None for minilm-32k, and for a loaded one without a folder."""
        return self._folder if self._loaded is None or self._lazy else self._loaded.folder

    def without_model(self) -> QueryEncoder:
        """Return what encodes questions as this model does, by the table of the index.

        Raises:
            InputError: the model is loaded, and not from a folder.
        """
        if not self._lazy and self.folder is None:
            raise InputError("questions by table: give the model folder instead of a loaded model")
        return QueryEncoder(self.folder, questions="engine", **self._options)  # type: ignore[arg-type]

    @property
    def loaded(self) -> bool:
        """Whether the model is loaded."""
        return self._loaded is not None

    def load(self) -> LatentEncoder:
        """Return the model, loaded; raises ModelError if it cannot be loaded."""
        if self._loaded is None:
            from latent_ingest.connector.encoding.encoder import LatentEncoder

            model = LatentEncoder.shared(self._folder, **self._options)  # type: ignore[arg-type]
            if self._table and self._table.fingerprint != model.fingerprint:
                raise ModelError(
                    f"the question table of model {model.name} was made by another model "
                    f"({self._table.fingerprint.digest}, this one is {model.fingerprint.digest}); "
                    f"make it again with 'latent-ingest questions'"
                )
            self._loaded = model
        return self._loaded

    @property
    def by_table(self) -> bool:
        """Whether the table encodes questions now."""
        return self._questions in BY_TABLE or (self._questions == "auto" and not self.loaded)

    @property
    def asks_engine(self) -> bool:
        """Whether the engine looks words up, where the index has a table."""
        return self._questions == "engine"

    @property
    def ready(self) -> bool:
        """Whether what encodes questions is loaded: the table or the model."""
        return self._table is not None if self.by_table else self.loaded

    def source(self) -> LatentEncoder | QuestionTable:
        """Return what encodes questions, loaded; raises ModelError if it cannot be loaded."""
        return self.table() if self.by_table else self.load()

    def table(self) -> QuestionTable:
        """Return the question table of the model folder; raises as `QuestionTable.load`."""
        if self._table is None:
            self._table = QuestionTable.load(self._folder)
        return self._table

    def idf(self) -> NDArray[np.float32]:
        """Return `LatentEncoder.idf` of the model."""
        if self._idf is None and self.by_table:
            return self.table().idf()
        if self._idf is None:
            self._idf = self.load().idf()
        return self._idf

    def encode(self, texts: Sequence[str], k: int | None = None) -> list[Encoding]:
        """Encode questions; those that are not cached are encoded in one batch.

        Args:
            texts: the questions.
            k: latents per token; defaults to the model's k.

        Raises:
            ModelError: the model or the table cannot be loaded, or the model gives NaN.
        """
        if self.by_table:
            table = self.table()
            return [Encoding(*table.encode(text)) for text in texts]
        with self._cache_lock:
            found = self._look_up(texts, k)
            misses = len(set(texts)) - len(found)
            self._misses += misses
            self._hits += len(texts) - misses
        if misses:
            with self._encoding:
                # Another thread may have encoded the same texts while this one waited.
                with self._cache_lock:
                    found |= self._look_up([text for text in texts if text not in found], k)
                missing = [text for text in dict.fromkeys(texts) if text not in found]
                if missing:
                    vectors = self.load().encode(missing, kind="query", k=k)
                    for text, (latents, values) in zip(missing, vectors, strict=True):
                        found[text] = Encoding(latents, terms.weights(values))
                        self._store(text, k, found[text])
        return [found[text] for text in texts]

    def keeps(self, text: str, k: int | None = None) -> bool:
        """Return whether the encoding of a text is cached."""
        with self._cache_lock:
            return (text, k) in self._cache

    def cached(self, texts: Sequence[str], k: int | None = None) -> list[Encoding]:
        """Like `encode`, from the cache alone; raises NotCached if a question is not in it.

        The table needs no cache; it encodes at once.
        """
        if self.by_table:
            return self.encode(texts)
        with self._cache_lock:
            if any((text, k) not in self._cache for text in texts):
                raise NotCached
            self._hits += len(texts)
            found = self._look_up(texts, k)
        return [found[text] for text in texts]

    def cache_info(self) -> CacheInfo:
        """Return the hits and misses so far, and the size of the cache."""
        with self._cache_lock:
            return CacheInfo(self._hits, self._misses, self._cache_size, len(self._cache))

    def cache_clear(self) -> None:
        """Empty the cache and reset its counts."""
        with self._cache_lock:
            self._cache.clear()
            self._hits = self._misses = 0

    def _look_up(self, texts: Sequence[str], k: int | None) -> dict[str, Encoding]:
        """Return the encodings of those texts that are cached. The caller holds `_cache_lock`."""
        found = {text: self._cache[text, k] for text in texts if (text, k) in self._cache}
        for text in found:
            self._cache.move_to_end((text, k))
        return found

    def _store(self, text: str, k: int | None, encoding: Encoding) -> None:
        if len(text) > LONGEST_CACHED:
            return
        with self._cache_lock:
            # A copy, because a view would keep the whole batch in memory.
            self._cache[text, k] = Encoding(encoding.latents.copy(), encoding.weights)
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)


async def in_encoding_thread(function: Callable[[], Result]) -> Result:
    """Call a function in the thread that encodes for event loops, and return its result."""
    return await asyncio.get_running_loop().run_in_executor(_thread, function)
