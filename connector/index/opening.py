"""Open an index for writing: create it, complete one made by hand, or check that it fits."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.blocks import LASTING, check_blocks, check_open
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.index.creation import (
    ITS_OWN,
    QUESTION_SETTINGS,
    create,
    latent_settings,
    question_settings,
)
from latent_ingest.connector.index.guard import BLOCK
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import (
    GUARD,
    IndexInfo,
    list_indices,
    refuse_data_streams,
)
from latent_ingest.connector.index.meta import IndexMeta, stored_meta, with_meta
from latent_ingest.connector.index.repair import repair
from latent_ingest.connector.questions.stored_table import StoredTable
from latent_ingest.connector.terms import SPELLINGS
from latent_ingest.mappings import MappingConfig, index_body
from latent_ingest.mappings.template import SIMILARITY

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)


def check_ready(client: OpenSearch, index: str) -> None:
    """Raise EngineError if an index is closed, or blocked for good; nothing if there is none."""
    if found := Index.find(client, index):
        settings = found.settings()
        check_open(found.name, settings)
        check_blocks(found.name, settings, LASTING)


def open_index(
    client: OpenSearch | Client,
    index: str,
    encoder: LatentEncoder,
    wanted: dict[str, Any],
    retry: Retry | None = None,
    questions: StoredTable | None = None,
) -> IndexMeta:
    """Create the index, or check that the existing one fits.

    An index that an interrupted tuning run left is restored first; see `index.repair`. One without
    documents takes other settings.

    Args:
        client: client of opensearch-py or `elasticsearch`.
        index: name of the index, or an alias of one index.
        encoder: the model.
        wanted: fields of `MappingConfig` that the caller chose; others are those of the existing
            index, or the defaults for a new one.
        retry: opens an index that an interrupted tuning run left closed.
        questions: the question table of a new index; an existing one keeps its own, or none.

    Raises:
        MismatchError: the index was made by another model or with another mapping.
        InputError: the engine refuses the name, the analyzer or the spelling, or it is a data
            stream.
        EngineError: the engine cannot be asked.
    """
    if any(sign in index for sign in "*?,"):
        raise InputError(f"index {index!r} is a pattern or a list; name one index")
    client = adapted(client)
    repair(client, index, retry)
    try:
        meta = IndexMeta.read(client, index)
    except MismatchError:
        refuse_data_streams(list_indices(client, index))
        if adopted := adopt(client, index, encoder, wanted):
            return adopted
        raise
    if meta is None:
        mapping = checked_mapping(MappingConfig(), wanted)
        return create_index(client, index, encoder, mapping, questions)
    if is_other(meta, encoder, wanted) and (
        anew := recreate(client, index, encoder, wanted, questions)
    ):
        return anew
    meta.check(encoder, index)
    asked = checked_mapping(meta.mapping, wanted)
    for name in wanted:
        ours, theirs = getattr(asked, name), getattr(meta.mapping, name)
        if ours != theirs:
            raise MismatchError(
                f"index {index} was made with {name} {theirs!r}, not {ours!r}; leave the option "
                f"out, or ingest into another index"
            )
    return meta


def adopt(
    client: OpenSearch, name: str, encoder: LatentEncoder, wanted: dict[str, Any]
) -> IndexMeta | None:
    """Complete an empty index that was made by hand from a file of mappings/; returns its meta.

    None if it is not such an index. Raises MismatchError if it is, but with another mapping than
    the wanted one. Neither is changed.
    """
    index = Index.find(client, name)
    if index is None:
        return None
    existing = index.mapping()
    if stored_meta(existing) is not None or index.holds_documents():
        return None
    settings = index.settings()
    # An index for "delimited" has the settings that "repeat" needs, too.
    for spelling in [wanted["spelling"]] if "spelling" in wanted else reversed(SPELLINGS):
        mapping = checked_mapping(MappingConfig(), {**wanted, "spelling": spelling})
        meta = IndexMeta.of(encoder, mapping)
        needed = latent_settings(mapping)
        if any(str(settings.get(key)) != str(value) for key, value in needed.items()):
            continue
        body = index_body(mapping, meta.to_json())["mappings"]
        if body.get("_source", {}) != existing.get("_source", {}):
            break
        body["_meta"] |= existing.get("_meta", {})
        # RequestError: a field has another type or analyzer.
        with engine_errors(client), suppress(RequestError):
            client.indices.put_mapping(index=index.name, body=body)
            return meta
    if f"index.similarity.{SIMILARITY}.type" in settings:
        raise MismatchError(
            f"index {name} was made by hand with another mapping than this ingest has; create it "
            f"from mappings/ with the same analyzer, k1, b and --lean, or delete it and let ingest "
            f"create it"
        )
    return None


def checked_mapping(base: MappingConfig, wanted: dict[str, Any]) -> MappingConfig:
    """`base` with the wanted fields; raises InputError if a value is invalid."""
    try:
        return replace(base, **wanted)
    except ValueError as error:
        raise InputError(str(error)) from None


def create_index(
    client: OpenSearch,
    name: str,
    encoder: LatentEncoder,
    mapping: MappingConfig,
    questions: StoredTable | None = None,
    **version: Any,
) -> IndexMeta:
    """Create the index from mappings/; `version` are fields of `IndexMeta` that differ."""
    meta = IndexMeta.of(encoder, mapping, questions)
    meta = replace(meta, own_words=bool(questions) or None, **version)
    analysis = questions.analysis() if questions else None
    create(client, name, index_body(mapping, meta.to_json(), analysis), meta)
    return meta


def is_other(meta: IndexMeta, encoder: LatentEncoder, wanted: dict[str, Any]) -> bool:
    """Whether an index has another model, or another mapping, than the wanted one."""
    other_model = meta.fingerprint != encoder.fingerprint.digest
    return other_model or checked_mapping(meta.mapping, wanted) != meta.mapping


def recreate(
    client: OpenSearch,
    name: str,
    encoder: LatentEncoder,
    wanted: dict[str, Any],
    questions: StoredTable | None = None,
) -> IndexMeta | None:
    """Make an index of ours anew, with the wanted settings and table, if it has no documents.

    What else it has stays: aliases, other settings and fields. Returns its new meta; None if it has
    documents, a run may be loading it, or it was not made by an ingest.
    """
    info, before = IndexInfo.read(client, name), Index(client, name).meta()
    index = Index(client, info.name)
    ours = before.analyzer and not (before.loading or info.guards or info.closed)
    if not ours or index.holds_documents():
        return None
    mapping = checked_mapping(before.mapping, wanted)
    kept = ("alias", "number", "complete", "replicas", "runs")
    meta = IndexMeta.of(encoder, mapping, questions)
    own_words = bool(questions) or None
    meta = replace(meta, own_words=own_words, **{key: getattr(before, key) for key in kept})
    with engine_errors(client):
        (found,) = client.indices.get(index=index.name, flat_settings=True).values()
        deleted = False
        index.put_settings({BLOCK: True})
        try:
            if not index.holds_documents():  # written to meanwhile
                client.indices.delete(index=index.name)
                deleted = True
        finally:
            if not deleted:
                index.put_settings({BLOCK: found["settings"].get(BLOCK)})
        if not deleted:
            return None
        try:
            create(client, index.name, like(found, before, meta, questions), meta)
        except BaseException:
            rules = StoredTable.from_index(name, before.questions, before.model, found["settings"])
            client.indices.create(index=index.name, body=like(found, before, before, rules))
            raise
    log.warning("index %s had no documents: it was made anew with other settings", index.name)
    return meta


def like(
    found: dict[str, Any], before: IndexMeta, meta: IndexMeta, questions: StoredTable | None
) -> dict[str, Any]:
    """The body that creates an index like the one found, with another meta than `before`."""
    ours = index_body(before.mapping, {})["mappings"]
    analysis = questions.analysis() if questions else {}
    new = index_body(meta.mapping, meta.to_json(), analysis)
    settings = {
        key: value
        for key, value in found["settings"].items()
        if not key.startswith((*ITS_OWN, *QUESTION_SETTINGS))
        and key not in latent_settings(before.mapping)
    }
    theirs = {k: v for k, v in found["mappings"].items() if k != "_source" or k not in ours}
    fields = {k: v for k, v in theirs["properties"].items() if k not in ours["properties"]}
    mappings = new["mappings"]
    return {
        "settings": {**settings, **latent_settings(meta.mapping), **question_settings(analysis)},
        "mappings": {
            **theirs,
            **mappings,
            "properties": {**fields, **mappings["properties"]},
            "_meta": with_meta(theirs, meta.to_json()),
        },
        "aliases": {k: v for k, v in found["aliases"].items() if not GUARD.search(k)},
    }
