"""A batch of documents → the lines of bulk requests that index them.

documents → latent vectors → strings of terms → actions
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_ingest.connector import terms
from latent_ingest.connector.corpus import BadLine, Document
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.chunks import chunk_fields, chunk_id

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.encoding.vectors import LatentChunks, LatentVectors
    from latent_ingest.connector.indexing.batches import Batch

# A document's version in the index is the number of the run, times this, plus its line.
LINES_OF_A_RUN = 2**40


@dataclass(frozen=True, slots=True)
class Action:
    """A document ready to be sent."""

    document: Document
    version: int
    """External version, which a request that arrives late cannot undercut."""
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

    @property
    def id(self) -> str:
        """Of the document."""
        return self.document.id


def make_action(
    document: Document,
    run: int,
    latent_field: str,
    latent_string: str,
    *,
    hash_field: str | None = None,
    id_field: str | None = None,
    truncated: bool = False,
    pooled: bool = False,
) -> Action:
    """The bulk lines that index a document with its latent terms.

    Args:
        document: whose fields are kept.
        run: number of the run; higher ones overwrite lower ones.
        latent_field: where latent terms go.
        latent_string: its latent terms.
        hash_field: where the hash of its text goes; none for an index without.
        id_field: where its id goes when the engine makes another; none when it does not.
        truncated: whether its text was cut at the backbone's window.
        pooled: whether it was encoded in several windows.
    """
    version = version_of(document, run)
    source = {**document.fields, latent_field: latent_string}
    if hash_field:
        source[hash_field] = document.text_hash
    if id_field:
        source[id_field] = document.id
        lines = two_lines({}, source)
    else:
        lines = bulk_lines(document.id, version, source)
    return Action(document, version, lines, not latent_string, truncated, pooled)


def version_of(document: Document, run: int) -> int:
    """External version of a document in the index."""
    return run * LINES_OF_A_RUN + document.line


def bulk_lines(identifier: str, version: int, source: dict[str, Any]) -> bytes:
    """The two lines that index a document of the engine."""
    header = {"_id": identifier, "version": version, "version_type": "external_gte"}
    return two_lines(header, source)


def two_lines(header: dict[str, Any], source: dict[str, Any]) -> bytes:
    """What to do, and with what."""
    lines = f"{json.dumps({'index': header})}\n{json.dumps(source, ensure_ascii=False)}\n"
    return lines.encode()


def superseded(action: Action, error: dict[str, Any]) -> bool:
    """Whether a version conflict means that the run has done this document already.

    So it is when the engine applied a request and its answer was lost, and a later line of the
    same id, or an application, changed the document since.
    """
    found = re.search(r"current version \[(\d+)\]", str(error.get("reason")))
    return found is not None and int(found[1]) // LINES_OF_A_RUN == action.version // LINES_OF_A_RUN


class ActionMaker:
    """Encodes the documents of batches for one index."""

    def __init__(self, encoder: LatentEncoder, meta: IndexMeta) -> None:
        self._encoder = encoder
        self._meta = meta

    def fill(self, batch: Batch, run: int) -> None:
        """Add actions and tokens; documents that cannot be encoded go to the bad lines."""
        texts = [document.text for document in batch.documents]
        if self._meta.long == "chunks":
            chunks = self._encoder.encode_chunks(texts, allow_nan=True)
            vectors = chunks.vectors
            # Row of each text's first chunk, and the end.
            first = np.searchsorted(chunks.texts, np.arange(len(texts) + 1)).tolist()
            make = partial(self._in_chunks, chunks, run)
        else:
            vectors = self._encoder.encode(texts, allow_nan=True, long=self._meta.long)
            first = list(range(len(texts) + 1))
            make = partial(self._whole, vectors, run)
        strings = term_strings(vectors, self._meta)
        for document, start, end in zip(batch.documents, first, first[1:], strict=False):
            if vectors.finite[start:end].all():
                batch.actions.append(make(document, start, strings[start:end]))
            else:
                reason = self._encoder.nan_message(document.text)
                batch.bad.append(BadLine(document.line, reason, document))
        kept = {action.document.line for action in batch.actions}
        batch.documents = [d for d in batch.documents if d.line in kept]
        batch.tokens = int(vectors.n_tokens.sum())

    def _whole(
        self, vectors: LatentVectors, run: int, document: Document, row: int, strings: list[str]
    ) -> Action:
        return make_action(
            document,
            run,
            self._meta.latent_field,
            strings[0],
            hash_field=self._meta.hash_field,
            id_field=self._meta.id_field,
            truncated=bool(vectors.truncated[row]),
            pooled=bool(vectors.n_windows[row] > 1),
        )

    def _in_chunks(
        self, chunks: LatentChunks, run: int, document: Document, row: int, strings: list[str]
    ) -> Action:
        spans = [(start, end) for start, end in chunks.spans[row : row + len(strings)].tolist()]
        version = version_of(document, run)
        lines = []
        for number, string in enumerate(strings):
            fields = chunk_fields(document, self._meta.text_fields, spans, number)
            source = {**fields, self._meta.latent_field: string}
            lines.append(bulk_lines(chunk_id(document.id, number), version, source))
        return Action(document, version, b"".join(lines), not any(strings), False, items=len(lines))


def term_strings(vectors: LatentVectors, meta: IndexMeta) -> list[str]:
    """The latent terms of each row, as the index spells them."""
    tf = terms.counts(vectors.values, meta.scale)
    return [
        terms.write(vectors.indices[start:end], tf[start:end], meta.spelling)
        for start, end in zip(vectors.offsets, vectors.offsets[1:], strict=False)
    ]
