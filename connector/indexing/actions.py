"""A batch of documents → the lines of bulk requests that index them.

documents → latent vectors → strings of terms → actions
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latent_ingest.connector import terms
from latent_ingest.connector.corpus import BadLine, Document
from latent_ingest.connector.index_meta import IndexMeta

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
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
    """Its two lines of a bulk request."""
    empty: bool
    """Whether its text gives no latents."""
    truncated: bool
    """Whether its text is longer than the backbone's window."""


def make_action(
    document: Document, run: int, latent_field: str, latent_string: str, *, truncated: bool = False
) -> Action:
    """The bulk lines that index a document with its latent terms.

    Args:
        document: whose fields are kept.
        run: number of the run; higher ones overwrite lower ones.
        latent_field: where latent terms go.
        latent_string: its latent terms.
        truncated: whether its text is longer than the backbone's window.
    """
    version = run * LINES_OF_A_RUN + document.line
    header = {"_id": document.id, "version": version, "version_type": "external_gte"}
    source = {**document.fields, latent_field: latent_string}
    lines = f"{json.dumps({'index': header})}\n{json.dumps(source, ensure_ascii=False)}\n"
    # A lone surrogate is valid JSON as an escape but no UTF-8.
    body = lines.encode("utf-8", "replace")
    return Action(document, version, body, not latent_string, truncated)


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
                    run,
                    self._meta.latent_field,
                    string,
                    truncated=bool(vectors.truncated[row]),
                )
            )
        kept = {action.document.line for action in batch.actions}
        batch.documents = [d for d in batch.documents if d.line in kept]
        batch.tokens = int(vectors.n_tokens.sum())
