"""Preparation of an existing index for latent terms: whether it can take them, what it lacks.

The missing parts are added in place: the analyzer and the similarity, for which the engine requires
the index to be closed for a moment, then the fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index.fields import choose_fields, encodable, fields_of, listed
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import list_indices, refuse_data_streams
from latent_ingest.connector.index.meta import IndexMeta, stored_meta, with_meta
from latent_ingest.connector.index.opening import (
    checked_mapping,
    latent_settings,
    open_index,
    refusal,
)
from latent_ingest.mappings import MappingConfig, hash_field, index_body

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder


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


def plan(index: ExistingIndex, encoder: LatentEncoder, wanted: dict[str, Any]) -> Preparation:
    """Find out what an index lacks; it is not changed.

    `wanted` are fields of `MappingConfig`; `text_fields` is required if the index has no latent
    terms yet. Raises InputError if such a field does not exist or is not text, and MismatchError if
    the index has latent terms of another model, or cannot take any.
    """
    if stored_meta(index.mapping) is not None:
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
    meta = replace(IndexMeta.of(encoder, mapping), words=chosen.words)
    check_source(index, meta.latent_field)
    check_free(index, meta.own_fields)
    settings = added_settings(index, mapping)
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
    check_source(index, meta.latent_field)
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
        meta = replace(meta, hash_field=hash_field(meta.latent_field))
        check_free(index, {hash_field(meta.latent_field)})
    elif not before:
        return Preparation(index, meta)
    return Preparation(index, meta, mapping=added_mapping(index, meta), fields_before=before)


def prepare(preparation: Preparation) -> None:
    """Add what the index lacks, and leave it open in any case.

    Raises InputError if the engine refuses; then the index is unchanged.
    """
    index = preparation.index.index
    try:
        if preparation.settings:
            index.put_settings_closed(preparation.settings)
        elif not preparation.index.open:
            index.open()
        if preparation.mapping:
            with engine_errors(index.client):
                index.client.indices.put_mapping(index=index.name, body=preparation.mapping)
    except EngineError as error:
        if not isinstance(error.__cause__, RequestError):
            raise
        reason = refusal(error.__cause__)
        raise InputError(f"index {index.name} refuses latent terms: {reason}") from error


def check_source(index: ExistingIndex, latent_field: str) -> None:
    """Raise MismatchError if an update of a document would lose a part of it."""
    source = index.mapping.get("_source", {})
    if source.get("enabled", True) is False:
        raise MismatchError(
            f"index {index.name} keeps no documents (_source is disabled), so they cannot be read "
            f"or updated; ingest them into a new index"
        )
    excluded = {*source.get("excludes", ())} - {latent_field}
    if excluded or source.get("includes"):
        raise MismatchError(
            f"index {index.name} keeps only a part of its documents (_source has includes or "
            f"excludes), and an update would delete the rest; ingest them into a new index"
        )


def check_free(index: ExistingIndex, names: set[str]) -> None:
    """Raise MismatchError if the index already has a field of one of these names."""
    if taken := names & index.mapping.get("properties", {}).keys():
        raise MismatchError(
            f"index {index.name} has a field {min(taken)!r} of its own; name another for latent "
            f"terms with --latent-field"
        )


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
    properties = index_body(meta.mapping, {})["mappings"]["properties"]
    existing = index.mapping.get("properties", {})
    return {
        "properties": {name: properties[name] for name in meta.own_fields if name not in existing},
        "_meta": with_meta(index.mapping, meta.to_json()),
    }
