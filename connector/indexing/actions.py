"""A batch of documents → the lines of bulk requests that index them.

documents → latent vectors → strings of terms → actions
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_ingest.connector import terms
from latent_ingest.connector.corpus import BadLine, Document
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.indexing.chunks import chunk_fields, chunk_id

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.encoding.vectors import LatentChunks, LatentVectors
    from latent_ingest.connector.indexing.batches import Batch


@dataclass(frozen=True, slots=True)
class Action:
    """A document ready to be sent."""

    document: Document
    body: bytes
    """Its lines of a bulk request: two, or two a chunk."""
    empty: bool
    """Whether its text gives no latents."""
    truncated: bool
    """Whether its text is longer than the backbone's window and was cut there."""
    pooled: bool = False
    """Whether its text is longer than the window and was pooled over several."""
    items: int = 1
    """Items of the engine's answer that are of it; it is indexed when all of them are."""


def make_action(
    document: Document,
    latent_field: str,
    latent_string: str,
    *,
    truncated: bool = False,
    pooled: bool = False,
) -> Action:
    """The bulk lines that index a document with its latent terms."""
    lines = bulk_lines(document.id, {**document.fields, latent_field: latent_string})
    return Action(document, lines, not latent_string, truncated, pooled)


def bulk_lines(identifier: str, source: dict[str, Any]) -> bytes:
    """The two lines that index a document of the engine."""
    header = {"index": {"_id": identifier}}
    lines = f"{json.dumps(header)}\n{json.dumps(source, ensure_ascii=False)}\n"
    # A lone surrogate is valid JSON as an escape but no UTF-8.
    return lines.encode("utf-8", "replace")


class ActionMaker:
    """Encodes the documents of batches for one index."""

    def __init__(self, encoder: LatentEncoder, meta: IndexMeta) -> None:
        self._encoder = encoder
        self._meta = meta

    def fill(self, batch: Batch) -> None:
        """Add actions and tokens; documents that cannot be encoded go to the bad lines."""
        texts = [document.text for document in batch.documents]
        if self._meta.long == "chunks":
            chunks = self._encoder.encode_chunks(texts, allow_nan=True)
            vectors = chunks.vectors
            # Row of each text's first chunk, and the end.
            first = np.searchsorted(chunks.texts, np.arange(len(texts) + 1)).tolist()
            make = partial(self._in_chunks, chunks)
        else:
            vectors = self._encoder.encode(texts, allow_nan=True, long=self._meta.long)
            first = list(range(len(texts) + 1))
            make = partial(self._whole, vectors)
        strings = self._strings(vectors)
        for document, start, end in zip(batch.documents, first, first[1:], strict=False):
            if vectors.finite[start:end].all():
                batch.actions.append(make(document, start, strings[start:end]))
            else:
                reason = f"the backbone gives NaN for {document.text[:60]!r}; try --dtype float32"
                batch.bad.append(BadLine(document.line, reason, document))
        kept = {action.document.line for action in batch.actions}
        batch.documents = [d for d in batch.documents if d.line in kept]
        batch.tokens = int(vectors.n_tokens.sum())

    def _strings(self, vectors: LatentVectors) -> list[str]:
        """The terms of each row."""
        tf = terms.counts(vectors.values, self._meta.scale)
        return [
            terms.write(vectors.indices[start:end], tf[start:end], self._meta.spelling)
            for start, end in zip(vectors.offsets, vectors.offsets[1:], strict=False)
        ]

    def _whole(
        self, vectors: LatentVectors, document: Document, row: int, strings: list[str]
    ) -> Action:
        return make_action(
            document,
            self._meta.latent_field,
            strings[0],
            truncated=bool(vectors.truncated[row]),
            pooled=bool(vectors.n_windows[row] > 1),
        )

    def _in_chunks(
        self, chunks: LatentChunks, document: Document, row: int, strings: list[str]
    ) -> Action:
        spans = [(start, end) for start, end in chunks.spans[row : row + len(strings)].tolist()]
        lines = []
        for number, string in enumerate(strings):
            fields = chunk_fields(document, self._meta.text_fields, spans, number)
            source = {**fields, self._meta.latent_field: string}
            lines.append(bulk_lines(chunk_id(document.id, number), source))
        return Action(document, b"".join(lines), not any(strings), False, items=len(lines))
