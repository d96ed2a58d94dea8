"""A batch of documents → the lines of bulk requests that index them.

documents → latent vectors → strings of terms → actions
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latent_ingest.connector import terms
from latent_ingest.connector.corpus import BadLine, Document
from latent_ingest.connector.index_meta import IndexMeta

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.indexing.batches import Batch


@dataclass(frozen=True, slots=True)
class Action:
    """A document ready to be sent."""

    document: Document
    body: bytes
    """Its two lines of a bulk request."""
    empty: bool
    """Whether its text gives no latents."""
    truncated: bool
    """Whether its text is longer than the backbone's window."""


def make_action(
    document: Document, latent_field: str, latent_string: str, *, truncated: bool = False
) -> Action:
    """The bulk lines that index a document with its latent terms."""
    header = {"index": {"_id": document.id}}
    source = {**document.fields, latent_field: latent_string}
    lines = f"{json.dumps(header)}\n{json.dumps(source, ensure_ascii=False)}\n"
    # A lone surrogate is valid JSON as an escape but no UTF-8.
    return Action(document, lines.encode("utf-8", "replace"), not latent_string, truncated)


class ActionMaker:
    """Encodes the documents of batches for one index."""

    def __init__(self, encoder: LatentEncoder, meta: IndexMeta) -> None:
        self._encoder = encoder
        self._meta = meta

    def fill(self, batch: Batch) -> None:
        """Add actions and tokens; documents that cannot be encoded go to the bad lines."""
        vectors = self._encoder.encode([d.text for d in batch.documents], allow_nan=True)
        tf = terms.counts(vectors.values, self._meta.scale)
        for row, document in enumerate(batch.documents):
            if not vectors.finite[row]:
                reason = f"the backbone gives NaN for {document.text[:60]!r}; try --dtype float32"
                batch.bad.append(BadLine(document.line, reason, document))
                continue
            span = slice(vectors.offsets[row], vectors.offsets[row + 1])
            string = terms.write(vectors.indices[span], tf[span], self._meta.spelling)
            batch.actions.append(
                make_action(
                    document,
                    self._meta.latent_field,
                    string,
                    truncated=bool(vectors.truncated[row]),
                )
            )
        kept = {action.document.line for action in batch.actions}
        batch.documents = [d for d in batch.documents if d.line in kept]
        batch.tokens = int(vectors.n_tokens.sum())
