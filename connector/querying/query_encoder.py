"""Questions → weights of latents: the model loaded when it is first asked, its answers kept.

Importing this loads no torch.
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

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Encodings kept: some 2 kB for a question of a few words.
CACHE_SIZE = 4096

# Characters of a text whose encoding is kept; longer ones are no questions, and would fill memory.
LONGEST_KEPT = 4096

# Encodes for event loops. One thread is enough, since a model encodes one batch at a time.
_thread = ThreadPoolExecutor(1, thread_name_prefix="latent-encode")

Result = TypeVar("Result")


class Encoding(NamedTuple):
    """The latents of a question."""

    latents: NDArray[np.int32]
    weights: NDArray[np.float32]
    """`sqrt` of the pooled activation, of each."""


class CacheInfo(NamedTuple):
    """How often an encoding was there already, as of `functools.lru_cache`."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class NotKept(Exception):
    """The model would have to be asked."""


class QueryEncoder:
    """A model for questions, of which the last encodings are kept. For any number of threads."""

    def __init__(
        self,
        model: LatentEncoder | str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        k: int | None = None,
        cache_size: int = CACHE_SIZE,
    ) -> None:
        """Name a model; it is loaded, once a process, when it is first asked.

        Args:
            model: a folder, by default the model that ships; or a loaded model.
            device: as for `LatentEncoder.load`.
            dtype: the same.
            k: the same.
            cache_size: encodings kept, those asked for last; 0 for none.
        """
        lazy = model is None or isinstance(model, (str, Path))
        self._loaded: LatentEncoder | None = None if lazy else model  # type: ignore[assignment]
        self._folder = model if lazy else None
        self._options = {"device": device, "dtype": dtype, "k": k}
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, int | None], Encoding] = OrderedDict()
        self._hits = self._misses = 0
        self._keeping = threading.Lock()
        self._encoding = threading.Lock()
        self._idf: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, model: LatentEncoder | QueryEncoder | None) -> QueryEncoder:
        """`model` itself, or a loaded one, or the one that ships, with a cache of its own."""
        return model if isinstance(model, QueryEncoder) else cls(model)

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._loaded is not None

    def load(self) -> LatentEncoder:
        """The model; raises ModelError if it cannot be loaded."""
        if self._loaded is None:
            from latent_ingest.connector.encoding.encoder import LatentEncoder

            self._loaded = LatentEncoder.shared(self._folder, **self._options)  # type: ignore[arg-type]
        return self._loaded

    def idf(self) -> NDArray[np.float32]:
        """As of `LatentEncoder.idf`."""
        if self._idf is None:
            self._idf = self.load().idf()
        return self._idf

    def encode(self, texts: Sequence[str], k: int | None = None) -> list[Encoding]:
        """The latents of questions; those that are not kept are encoded in one batch.

        Args:
            texts: the questions.
            k: latents a token, when fewer than the model's are wanted.

        Raises:
            ModelError: the model cannot be loaded, or gives NaN.
        """
        found = self._kept(texts, k)
        if missing := [text for text, encoding in found.items() if encoding is None]:
            with self._encoding:
                # Another thread may have encoded the same while this one waited.
                again = self._kept(missing, k, counted=False)
                missing = [text for text, encoding in again.items() if encoding is None]
                if missing:
                    vectors = self.load().encode(missing, kind="query", k=k)
                    for text, (latents, values) in zip(missing, vectors, strict=True):
                        again[text] = Encoding(latents, terms.weights(values))
                    self._keep({text: again[text] for text in missing}, k)
            found |= again
        return [encoding for text in texts if (encoding := found[text]) is not None]

    def keeps(self, text: str, k: int | None = None) -> bool:
        """Whether a text would be answered without the model."""
        with self._keeping:
            return (text, k) in self._cache

    def kept(self, texts: Sequence[str], k: int | None = None) -> list[Encoding]:
        """As `encode`, of questions that are all kept; raises NotKept if one is not."""
        with self._keeping:
            if any((text, k) not in self._cache for text in texts):
                raise NotKept
            self._hits += len(texts)
            for text in texts:
                self._cache.move_to_end((text, k))
            return [self._cache[text, k] for text in texts]

    def cache_info(self) -> CacheInfo:
        """Hits and misses so far, and encodings kept."""
        with self._keeping:
            return CacheInfo(self._hits, self._misses, self._cache_size, len(self._cache))

    def cache_clear(self) -> None:
        """Forget all encodings and counts."""
        with self._keeping:
            self._cache.clear()
            self._hits = self._misses = 0

    def _kept(
        self, texts: Sequence[str], k: int | None, *, counted: bool = True
    ) -> dict[str, Encoding | None]:
        with self._keeping:
            found = {text: self._cache.get((text, k)) for text in texts}
            for text, encoding in found.items():
                if encoding is not None:
                    self._cache.move_to_end((text, k))
            if counted:
                misses = sum(encoding is None for encoding in found.values())
                self._misses += misses
                self._hits += len(texts) - misses
            return found

    def _keep(self, encodings: dict[str, Encoding | None], k: int | None) -> None:
        with self._keeping:
            for text, encoding in encodings.items():
                if encoding is not None and len(text) <= LONGEST_KEPT:
                    # A copy, lest a row holds on to its whole batch.
                    self._cache[text, k] = Encoding(encoding.latents.copy(), encoding.weights)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)


async def in_encoding_thread(function: Callable[[], Result]) -> Result:
    """What `function` returns, called beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_thread, function)
