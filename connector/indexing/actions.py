"""Actions of a bulk request (index, update, delete), and the meaning of the engine's answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from latent_ingest.connector import terms
from latent_ingest.connector.document import Document
from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.engine.client import reason_in
from latent_ingest.connector.engine.retry import item_passes
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.reading import Stored

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.vectors import LatentVectors

# A document's version in the index is the run's number times this, plus its line.
LINES_PER_RUN = 2**40

# Reason that managed serverless collections give when they refuse an `_id`.
REFUSES_IDS = "document id is not supported"

NO_INDEX = "index_not_found_exception"
NO_ROUTING = "routing_missing_exception"

# What to do about a document that the engine refuses, by the type of its error.
FIXES = {
    "strict_dynamic_mapping_exception": "add the field to the mapping, or leave it out of the file",
}


class Verdict(IntEnum):
    """Meaning of the engine's answer to an action; of several answers, the greatest counts."""

    DONE = 0
    CONFLICT = 1
    """The document has changed since it was read."""
    DELETED = 2
    """The document no longer exists."""
    AGAIN = 3
    """Refused for now: send the action again."""
    FAILED = 4
    """Refused for good, this document only."""
    FATAL = 5
    """Refused for good, like every other document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Lines of a bulk request that stay together."""

    id: str
    """Id of the document; two actions with the same id are never in flight together."""
    body: bytes
    """Lines of the bulk request."""
    n_answers: int = 1
    """Number of items in the engine's answer: one, or one per chunk of the document."""
    empty: bool = False
    """Whether the text has no latents."""
    truncated: bool = False
    """Whether the text is longer than the backbone window and was truncated."""
    pooled: bool = False
    """Whether the text is longer than the backbone window and was pooled over several windows."""

    def verdict(self, answer: dict[str, Any]) -> Verdict:
        """Read one item of the engine's answer."""
        error = answer.get("error")
        if error is None:
            return Verdict.DONE
        if item_passes(answer):
            return Verdict.AGAIN
        if answer["status"] in (401, 403) or error.get("type") in (NO_INDEX, NO_ROUTING):
            return Verdict.FATAL
        return Verdict.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAction(Action):
    """A document to be indexed, whole or in chunks; it is indexed when all its chunks are."""

    document: Document
    version: int
    """External version: a request that arrives late cannot overwrite a later one."""
    ids: Sequence[str] = ()
    """`_id` of each item; empty if the engine makes it."""

    def verdict(self, answer: dict[str, Any]) -> Verdict:
        error = answer.get("error") or {}
        if answer["status"] == 409 and superseded(self, error):
            return Verdict.DONE
        return Verdict.FATAL if refuses_ids(error) else Action.verdict(self, answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAction(Action):
    """Latent terms for a document in the index, unless the document has changed meanwhile."""

    stored: Stored

    def verdict(self, answer: dict[str, Any]) -> Verdict:
        """If an answer was lost and the update is sent again, it is a conflict with itself."""
        if answer["status"] == 409:
            return Verdict.CONFLICT
        if (answer.get("error") or {}).get("type") == "document_missing_exception":
            return Verdict.DELETED
        return Action.verdict(self, answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAction(Action):
    """Deletion of a document, unless the document has changed meanwhile."""

    def verdict(self, answer: dict[str, Any]) -> Verdict:
        if answer["status"] == 409:
            return Verdict.CONFLICT
        if answer["status"] == 404 and not answer.get("error"):
            return Verdict.DELETED
        return Action.verdict(self, answer)


def superseded(action: IndexAction, error: dict[str, Any]) -> bool:
    """Whether a version conflict means that this run has already indexed the document.

    This happens if the engine applied a request and its answer was lost, and then a later line of
    the same id, or an application, changed the document.
    """
    found = re.search(r"current version \[(\d+)\]", str(error.get("reason")))
    return found is not None and int(found[1]) // LINES_PER_RUN == action.version // LINES_PER_RUN


def refuses_ids(error: dict[str, Any]) -> bool:
    """Whether the collection refuses every document that has an `_id`."""
    return REFUSES_IDS in str(error.get("reason")).lower()


def with_loss(
    action: Action, number: int, answer: dict[str, Any], places: Sequence[str]
) -> dict[str, Any]:
    """Item `number` of an answer; it is a failure if the document is not where it was sent.

    `places` are the names of the index, if it matters. Engines call it a success if an ingest
    pipeline drops a document, or gives it another id or index. Pipelines do not run for partial
    updates in bulk requests, nor for deletions.
    """
    if not isinstance(action, IndexAction) or item_passes(answer):
        return answer
    sent = action.ids[number] if action.ids else None
    there, identifier = answer.get("_index"), answer.get("_id", sent)
    error = answer.get("error")
    if (places and there not in (None, *places)) or sent not in (None, identifier):
        why = f"an ingest pipeline sent it to index {there} as {identifier!r}"
        why += f" ({reason_in(error)})" if error else ", where it is; delete it"
        why += "; change the pipeline"
    elif answer.get("result") == "noop":
        why = "an ingest pipeline dropped it; change the pipeline, or leave it out of the file"
    else:
        return answer
    return {"status": 400, "error": {"reason": why}}


def failed_reason(answer: dict[str, Any]) -> str:
    """Why the engine refuses a document, and what to do where that is known."""
    reason, fix = reason_in(answer["error"]), FIXES.get(answer["error"].get("type", ""))
    return f"{reason}; {fix}" if fix else reason


def fatal_reason(answer: dict[str, Any]) -> str:
    """Why the engine refuses all documents, and what to do."""
    reason = reason_in(answer["error"])
    if answer["error"].get("type") == NO_INDEX:
        return f"the index was deleted while it was being loaded ({reason}); start again"
    if answer["error"].get("type") == NO_ROUTING:
        return (
            f"the index takes only documents with a routing ({reason}), and those of a file have "
            f"none; ingest into another index"
        )
    if refuses_ids(answer["error"]):
        return (
            f"this collection refuses ids ({reason}); delete the index and ingest with "
            f"--ids engine, or use another index"
        )
    return f"the engine forbids this ({reason}); ask for the rights"


def index_action(
    document: Document, run: int, meta: IndexMeta, latent_string: str, **flags: bool
) -> IndexAction:
    """Index a whole document with its latent terms; later runs overwrite earlier ones.

    `flags` are `truncated` and `pooled` of the action.
    """
    version = version_of(document, run)
    source = {**document.fields, meta.latent_field: latent_string}
    if meta.hash_field:
        source[meta.hash_field] = document.text_hash
    if meta.id_field:  # the engine makes the id
        source[meta.id_field] = document.id
        body = lines({"index": {}}, source)
    else:
        body = index_lines(document.id, version, source)
    return IndexAction(
        id=document.id,
        body=body,
        empty=not latent_string,
        document=document,
        version=version,
        ids=() if meta.id_field else (document.id,),
        **flags,
    )


def version_of(document: Document, run: int) -> int:
    """External version of a document in the index."""
    return run * LINES_PER_RUN + document.line


def index_lines(identifier: str, version: int, source: dict[str, Any]) -> bytes:
    """The two lines that index a document or a chunk."""
    target = {"_id": identifier, "version": version, "version_type": "external_gte"}
    return lines({"index": target}, source)


def update_action(
    stored: Stored, meta: IndexMeta, latent_string: str, text: str, **flags: bool
) -> UpdateAction:
    """Add latent terms to a document, unless it has changed; `flags` as for `index_action`."""
    target: dict[str, Any] = {
        "_id": stored.id,
        "if_seq_no": stored.seq_no,
        "if_primary_term": stored.primary_term,
    }
    if stored.routing is not None:
        target["routing"] = stored.routing
    assert meta.hash_field is not None
    doc = {meta.latent_field: latent_string, meta.hash_field: text_hash(text)}
    body = lines({"update": target}, {"doc": doc})
    return UpdateAction(id=stored.id, body=body, empty=not latent_string, stored=stored, **flags)


def delete_action(hit: dict[str, Any]) -> DeleteAction:
    """Delete the document of a search hit, unless it has changed since it was read."""
    target = {
        "_id": hit["_id"],
        "if_seq_no": hit["_seq_no"],
        "if_primary_term": hit["_primary_term"],
    }
    return DeleteAction(id=hit["_id"], body=lines({"delete": target}))


def lines(action: dict[str, Any], source: dict[str, Any] | None = None) -> bytes:
    """Lines of a bulk request."""
    text = json.dumps(action) + "\n"
    if source is not None:
        text += json.dumps(source, ensure_ascii=False) + "\n"
    return text.encode()


def length_flags(vectors: LatentVectors, row: int) -> dict[str, bool]:
    """Whether the text of a row was `truncated`, or `pooled` over several windows."""
    return {
        "truncated": bool(vectors.truncated[row]),
        "pooled": bool(vectors.n_windows[row] > 1),
    }


def term_strings(vectors: LatentVectors, meta: IndexMeta) -> list[str]:
    """Latent terms of each row, in the index's spelling."""
    tf = terms.counts(vectors.values, meta.scale)
    return [
        terms.write(vectors.indices[start:end], tf[start:end], meta.spelling)
        for start, end in zip(vectors.offsets, vectors.offsets[1:], strict=False)
    ]
