"""Encodings that several tests need are computed once per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.vectors import LatentChunks

Encode = Callable[..., Any]


class Remembered:
    """Results of `encode` and `encode_chunks` of some encoders, by texts and options.

    A result is reused only for a call with the same texts in the same order, so that it is equal
    to the last bit: a text's batch, and whether int8 is used, depend on the other texts.
    """

    def __init__(self) -> None:
        self._results: dict[Any, Any] = {}
        self.hits = 0

    @contextmanager
    def used(self, *encoders: LatentEncoder) -> Iterator[None]:
        """Within it these encoders answer from memory; all others compute."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("encode", "encode_chunks"):
                patch.setattr(LatentEncoder, name, self._wrapped(name, encoders))
            yield

    def _wrapped(self, name: str, encoders: tuple[LatentEncoder, ...]) -> Encode:
        compute: Encode = getattr(LatentEncoder, name)

        def answer(encoder: LatentEncoder, texts: Any, **options: Any) -> Any:
            if not any(encoder is one for one in encoders):
                return compute(encoder, texts, **options)
            key = (id(encoder), name, tuple(texts), *sorted(options.items()))
            if key in self._results:
                self.hits += 1
            else:
                self._results[key] = read_only(compute(encoder, texts, **options))
            return self._results[key]

        return answer


def read_only(result: Any) -> Any:
    """The result, which nobody can change for the next test."""
    vectors = result.vectors if isinstance(result, LatentChunks) else result
    for part in (result, vectors):
        for name in part.__slots__:
            if isinstance(array := getattr(part, name), np.ndarray):
                array.flags.writeable = False
    return result
