"""Preparation of an existing index for latent terms: whether it can take them, what it lacks.

close → analyzer and similarity, which an open index refuses → fields and `_meta` → open

All of it is done, or nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.blocks import LASTING, PREPARING, check_blocks
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index.creation import (
    TOO_LARGE,
    latent_settings,
    question_settings,
    refusal,
    too_large,
)
from latent_ingest.connector.index.fields import choose_fields, encodable, fields_of, listed
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import list_indices, refuse_data_streams
from latent_ingest.connector.index.meta import IndexMeta, missing_source, stored_meta, with_meta
from latent_ingest.connector.index.opening import checked_mapping, is_other, open_index
from latent_ingest.mappings import SEARCH_ANALYZER, MappingConfig, hash_field, index_body

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.questions.stored_table import StoredTable

log = logging.getLogger(__name__)

# Settings of indices whose documents cannot be updated, and what they do.
WITHOUT_UPDATES = {
    "index.derived_source.enabled": "keeps no documents but derives them from their fields, which "
    "latent terms do not allow",
    "index.append_only.enabled": "takes new documents but no updates",
}

# Elasticsearch's, by the value of the setting.
DERIVED_SOURCES = {
    "index.mapping.source.mode": ("synthetic",),
    "index.mode": ("logsdb", "time_series"),
}


@dataclass(frozen=True, slots=True)
class ExistingIndex:
    """An index as the engine described it."""

    index: Index
    open: bool
    mapping: dict[str, Any]
    settings: dict[str, Any]
    """Flat: `index.number_of_shards` is a key."""

    @classmethod
    def read(cls, client: OpenSearch, name: str) -> ExistingIndex:
        """Read an index by its name or alias; InputError if none, several or a data stream."""
        found = list_indices(client, name)
        if not found:
            raise InputError(f"no index {name}; check --index")
        refuse_data_streams(found)
        if len(found) > 1:
            names = ", ".join(info.name for info in found)
            raise InputError(f"{name}: {len(found)} indices ({names}); name one with --index")
        index = Index(client, found[0].name)
        return cls(index, not found[0].closed, index.mapping(), index.settings())

    @property
    def name(self) -> str:
        """Name of the index itself, also if an alias was given."""
        return self.index.name

    @property
    def fields(self) -> set[str]:
        """Names of the fields, without those inside objects."""
        return {*self.mapping.get("properties", {})}

    @property
    def meta(self) -> dict[str, Any]:
        """`_meta` of the mapping."""
        return dict(self.mapping.get("_meta", {}))

    @property
    def shards(self) -> int:
        """Number of primary shards."""
        return int(self.settings["index.number_of_shards"])


@dataclass(frozen=True, slots=True)
class Preparation:
    """The parts that an index lacks for latent terms."""

    index: ExistingIndex
    meta: IndexMeta
    """Meta of the prepared index."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Flat settings to add while the index is closed."""
    mapping: dict[str, Any] = field(default_factory=dict)
    """Fields and `_meta` to add afterwards."""
    fields_before: list[str] | None = None
    """The text fields until now, if others will be encoded."""

    @property
    def warning(self) -> str | None:
        """What users of the index will notice; None if nothing."""
        name = self.index.name
        closed = None if self.index.open else f"index {name} is closed; it will be opened"
        if self.fields_before:
            again = (
                f"index {name} is encoded from {', '.join(self.fields_before)}; all its documents "
                f"will be encoded again, from {', '.join(self.meta.text_fields)}"
            )
            return f"{closed}; {again}" if closed else again
        if not closed and self.settings:
            return (
                f"index {name} will be closed for a moment, to add the analyzer and the "
                f"similarity of latent terms; searching it and writing to it fails meanwhile"
            )
        return closed

    def check_blocks(self) -> None:
        """Raise EngineError if a block would stop a change of the index, or of its documents."""
        lacking = self.settings or self.mapping
        blocks = PREPARING if lacking else LASTING
        check_blocks(self.index.name, self.index.settings, blocks)


def plan(
    index: ExistingIndex,
    encoder: LatentEncoder,
    wanted: dict[str, Any],
    questions: StoredTable | None = None,
) -> Preparation:
    """Find out what an index lacks; it is not changed.

    `wanted` are fields of `MappingConfig`; `text_fields` is required if the index has no latent
    terms yet. Such an index also gets the question table, if one is given. Raises InputError if
    such a field does not exist or is not text, and MismatchError if the index has latent terms of
    another model, or cannot take any.
    """
    if stored_meta(index.mapping) is not None and not takes_others(index, encoder, wanted):
        return plan_again(index, encoder, wanted)
    if "text_fields" not in wanted:
        raise InputError(
            f"index {index.name} has no latent terms yet; name the fields to encode with "
            f"--text-fields (it has {listed(encodable(fields_of(index.mapping)))})"
        )
    # No analyzer: words are searched in the index's own fields.
    chosen = choose_fields(index.name, index.mapping, wanted["text_fields"])
    wanted = {**wanted, "text_fields": tuple(chosen.text_fields)}
    mapping = checked_mapping(MappingConfig(analyzer=""), wanted)
    meta = replace(IndexMeta.of(encoder, mapping, questions), words=chosen.words)
    check_source(index, meta)
    check_free(index, meta, meta.own_fields)
    settings = added_settings(index, mapping)
    if questions:
        settings |= question_settings(questions.analysis())
    return Preparation(index, meta, settings, added_mapping(index, meta))


def plan_again(index: ExistingIndex, encoder: LatentEncoder, wanted: dict[str, Any]) -> Preparation:
    """`plan` for an index that has latent terms; it may get those of other text fields."""
    stored = IndexMeta.from_mapping(index.name, index.mapping)
    chosen = None
    if "text_fields" in wanted and not stored.analyzer:
        properties = index.mapping["properties"].items()
        own = {name: value for name, value in properties if name not in stored.own_fields}
        chosen = choose_fields(index.name, {"properties": own}, wanted["text_fields"])
        wanted = {name: value for name, value in wanted.items() if name != "text_fields"}
    meta = open_index(index.index.client, index.name, encoder, wanted)
    check_source(index, meta)
    if meta.long == "chunks":
        raise MismatchError(
            f"index {index.name} has documents in chunks; ingest their file again instead"
        )
    before = None
    if chosen and chosen != (meta.text_fields, meta.words):
        before = meta.text_fields
        meta = replace(meta, **chosen._asdict())
    if not meta.hash_field:
        # The index was made before hashes were stored.
        field = hash_field(meta.latent_field)
        meta = replace(meta, hash_field=field)
        check_free(index, meta, {field})
    elif not before:
        return Preparation(index, meta)
    return Preparation(index, meta, mapping=added_mapping(index, meta), fields_before=before)


def takes_others(index: ExistingIndex, encoder: LatentEncoder, wanted: dict[str, Any]) -> bool:
    """Whether other settings than those of the index are wanted, and it has no documents yet."""
    meta = IndexMeta.from_mapping(index.name, index.mapping)
    return index.open and not index.index.holds_documents() and is_other(meta, encoder, wanted)


def check_source(index: ExistingIndex, meta: IndexMeta) -> None:
    """Raise MismatchError if documents cannot be updated, or an update would lose a part of one."""
    for setting, effect in WITHOUT_UPDATES.items():
        if str(index.settings.get(setting)).lower() == "true":
            raise MismatchError(
                f"index {index.name} {effect} ({setting}); ingest its documents into a new index"
            )
    for setting, values in DERIVED_SOURCES.items():
        if (value := index.settings.get(setting)) == "disabled":
            raise MismatchError(
                f"index {index.name} keeps no documents ({setting}: {value}), so they cannot be "
                f"encoded or updated; ingest them into a new index"
            )
        if value in values:
            raise MismatchError(
                f"index {index.name} derives its documents from their fields ({setting}: {value}), "
                f"so an update would write them back in another form; ingest its documents into a "
                f"new index"
            )
    if gap := missing_source(index.mapping, meta):
        raise MismatchError(
            f"index {index.name} {gap}, so an update of a document would delete the rest of it; "
            f"ingest its documents into a new index"
        )


def check_free(index: ExistingIndex, meta: IndexMeta, names: set[str]) -> None:
    """Raise MismatchError if the index has a field of its own with one of these names."""
    existing, ours = index.mapping.get("properties", {}), own_properties(meta)
    # Equal fields were left by a preparation that broke off.
    # The search analyzer depends on the question table, and can be changed.
    if taken := {
        name
        for name in names & existing.keys()
        if unsearched(existing[name]) != unsearched(ours[name])
    }:
        raise MismatchError(
            f"index {index.name} has a field {min(taken)!r} of its own; name another for latent "
            f"terms with --latent-field"
        )


def own_properties(meta: IndexMeta) -> dict[str, Any]:
    """The mapping of the fields that latent terms need."""
    properties = index_body(meta.mapping, {})["mappings"]["properties"]
    if meta.questions:
        properties[meta.latent_field]["search_analyzer"] = SEARCH_ANALYZER
    return {name: properties[name] for name in sorted(meta.own_fields)}


def unsearched(field: dict[str, Any]) -> dict[str, Any]:
    """The mapping of a field without its search analyzer."""
    return {name: value for name, value in field.items() if name != "search_analyzer"}


def added_settings(index: ExistingIndex, mapping: MappingConfig) -> dict[str, Any]:
    """Flat settings that the latent field needs; empty if the index has them.

    Raises MismatchError if the index has other values for some of them.
    """
    needed = latent_settings(mapping)
    for name, value in needed.items():
        if name in index.settings and str(index.settings[name]) != str(value):
            raise MismatchError(
                f"index {index.name} has a setting {name} of its own: {index.settings[name]!r}, "
                f"latent terms need {value!r}; ingest its documents into a new index"
            )
    return {} if needed.keys() <= index.settings.keys() else needed


def added_mapping(index: ExistingIndex, meta: IndexMeta) -> dict[str, Any]:
    """The fields that latent terms need and the index lacks, and `_meta` with the index meta."""
    existing = dict(index.mapping.get("properties", {}))
    if meta.questions and existing.get(meta.latent_field, {}).get("search_analyzer") != (
        SEARCH_ANALYZER
    ):
        existing.pop(meta.latent_field, None)
    return {
        "properties": {k: v for k, v in own_properties(meta).items() if k not in existing},
        "_meta": with_meta(index.mapping, meta.to_json()),
    }


def prepare(preparation: Preparation, retry: Retry) -> None:
    """Add what the index lacks, and leave it open; `retry` opens it.

    If a step fails, or Ctrl-C is pressed, the index is put back: open or closed, its settings and
    `_meta` as before. Raises InputError if the engine refuses, and EngineError.
    """
    before = preparation.index
    index = before.index
    if preparation.settings and before.open:
        index.close(retry)
    try:
        if preparation.settings:
            index.put_settings(preparation.settings)
        if preparation.mapping:
            index.put_mapping(preparation.mapping)
        if preparation.settings or not before.open:
            open_once(index, retry)
    except BaseException as error:
        try:
            put_back(preparation, retry)
        except EngineError as second:
            log.warning("index %s could not be put back: %s", index.name, second)
        if (
            getattr(error.__cause__, "status_code", None) == TOO_LARGE
            and preparation.meta.questions
        ):
            raise InputError(too_large(index.name, preparation.meta)) from error
        if not isinstance(error.__cause__, RequestError):
            raise
        reason = refusal(error.__cause__)
        raise InputError(f"index {index.name} refuses latent terms: {reason}") from error


def open_once(index: Index, retry: Retry) -> None:
    """Open the index; if the time is up, what follows is tried once and not waited for again."""
    try:
        index.open(retry)
    except EngineError:
        retry.ended.set()
        raise


def put_back(preparation: Preparation, retry: Retry) -> None:
    """Make an index what it was before `prepare`; log what cannot be undone. EngineError."""
    before = preparation.index
    index = before.index
    try:
        now = retry.ask(ExistingIndex.read, index.client, index.name)
        if now.meta != before.meta:
            retry.ask(index.put_mapping, {"_meta": before.meta})
        added = preparation.mapping.get("properties", {}).keys()
        kept = (now.fields & added) - before.fields
        changed = {
            name: before.settings.get(name)
            for name in preparation.settings
            if now.settings.get(name) != before.settings.get(name)
        }
        if kept:
            log.warning(
                "index %s keeps the fields %s, empty, and the settings of their analyzer, since no "
                "engine removes a field; the same command uses them",
                index.name,
                ", ".join(sorted(kept)),
            )
        elif changed:
            if now.open:
                index.close(retry)
            retry.ask(index.put_settings, changed)
    except EngineError:
        retry.ended.set()
        raise
    finally:
        if before.open and preparation.settings:
            index.reopen(retry)
    if not before.open and ExistingIndex.read(index.client, index.name).open:
        index.close(retry)
