"""An index that is there already: can it take latent terms, and what it lacks for them.

What is missing is added in place: the analyzer and the similarity, for which the engine wants the
index closed for a moment, then the fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, OpenSearchException, RequestError

from latent_ingest.connector.engine.client import engine_errors, in_words, reason_of, url_of
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import (
    checked_mapping,
    flat,
    latent_settings,
    open_index,
)
from latent_ingest.connector.index.repair import put_back_unfinished
from latent_ingest.mappings import MappingConfig, hash_field, index_body

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Types of fields whose values are texts.
TEXT_TYPES = frozenset({"text", "match_only_text", "search_as_you_type", "keyword", "wildcard"})


@dataclass(frozen=True, slots=True)
class ExistingIndex:
    """What the engine says of an index."""

    name: str
    """Its own, where an alias was given."""
    open: bool
    shards: int
    mapping: dict[str, Any]
    settings: dict[str, Any]
    """Flat: `index.number_of_shards` is a key."""

    @classmethod
    def read(cls, client: OpenSearch, index: str) -> ExistingIndex:
        """Ask for an index by its name or alias.

        Raises:
            InputError: there is none, or several.
            EngineError: the engine cannot be asked.
        """
        with engine_errors(client):
            try:
                found = client.cat.indices(index=index, format="json", h="index,status")
            except NotFoundError:
                found = []
            if len(found) != 1:
                names = ", ".join(sorted(row["index"] for row in found))
                several = f"{index}: {len(found)} indices ({names}); name one with --index"
                raise InputError(several if found else f"no index {index}; check --index")
            name = found[0]["index"]
            found_mapping = client.indices.get_mapping(index=name)
            if put_back_unfinished(client, found_mapping) is not found_mapping:
                return cls.read(client, index)
            mapping = found_mapping[name]["mappings"]
            settings = client.indices.get_settings(index=name, flat_settings=True)[name]["settings"]
        shards = int(settings["index.number_of_shards"])
        return cls(name, found[0]["status"] == "open", shards, mapping, settings)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What an index lacks to take latent terms."""

    index: ExistingIndex
    meta: IndexMeta
    """Of the index when it is prepared."""
    settings: dict[str, Any] = field(default_factory=dict)
    """To be added while it is closed."""
    mapping: dict[str, Any] = field(default_factory=dict)
    """To be added then: fields, and `_meta`."""

    @property
    def warning(self) -> str | None:
        """What people who use the index will notice; none when nothing."""
        if not self.index.open:
            return f"index {self.index.name} is closed; it will be opened"
        if self.settings:
            return (
                f"index {self.index.name} will be closed for a moment, to add the analyzer and "
                f"the similarity of latent terms; searching it and writing to it fails meanwhile"
            )
        return None


def plan(
    client: OpenSearch, index: ExistingIndex, encoder: LatentEncoder, wanted: dict[str, Any]
) -> Preparation:
    """Find out what an index lacks; nothing is changed.

    Args:
        client: of the engine.
        index: the index.
        encoder: the model.
        wanted: fields of `MappingConfig` that were asked for. `text_fields` is needed where the
            index has no latent terms yet.

    Raises:
        InputError: no such field, or one that is no text.
        MismatchError: it has latent terms of another model, or cannot take any.
        EngineError: the engine cannot be asked.
    """
    stored = index.mapping.get("_meta", {}).get("latent_ingest")
    if stored is not None:
        meta = open_index(client, index.name, encoder, wanted)
        check_source(index, meta.latent_field)
        if meta.long == "chunks":
            raise MismatchError(
                f"index {index.name} has documents in chunks; ingest their file again instead"
            )
        if meta.hash_field:
            return Preparation(index, meta)
        # Made before there were hashes.
        field = hash_field(meta.latent_field)
        check_free(index, {field})
        meta = replace(meta, hash_field=field)
        return Preparation(index, meta, mapping=added_mapping(index, meta))
    if "text_fields" not in wanted:
        raise InputError(
            f"index {index.name} has no latent terms yet; name the fields to encode with "
            f"--text-fields (it has {listed(text_fields(index))})"
        )
    # No analyzer: words are searched in the index's own fields.
    mapping = checked_mapping(MappingConfig(analyzer=""), wanted)
    meta = IndexMeta.of(encoder, mapping)
    check_source(index, meta.latent_field)
    for name in mapping.text_fields:
        check_text_field(index, name)
    check_free(index, meta.own_fields)
    settings = added_settings(index, mapping)
    return Preparation(index, meta, settings, added_mapping(index, meta))


def prepare(client: OpenSearch, preparation: Preparation) -> None:
    """Give the index what it lacks, and leave it open, whatever happens.

    Raises:
        InputError: the engine does not take it; the index is as before.
        EngineError: the engine cannot be asked, or the index cannot be opened again.
    """
    name = preparation.index.name
    with engine_errors(client):
        try:
            if preparation.settings:
                with closed(client, name):
                    client.indices.put_settings(index=name, body=preparation.settings)
            elif not preparation.index.open:
                reopen(client, name)
            if preparation.mapping:
                client.indices.put_mapping(index=name, body=preparation.mapping)
        except RequestError as error:
            reason = reason_of(error)
            hint = (
                "; this engine needs --spelling repeat" if "delimited_term_freq" in reason else ""
            )
            raise InputError(f"index {name} takes no latent terms: {reason}{hint}") from error


@contextmanager
def closed(client: OpenSearch, index: str) -> Iterator[None]:
    """The index closed, and opened again in any case."""
    try:
        client.indices.close(index=index)
        yield
    finally:
        reopen(client, index)


def reopen(client: OpenSearch, index: str) -> None:
    """Open an index and wait until it answers; raises EngineError when it stays closed."""
    try:
        Retry(client)(client.indices.open, index=index)
        client.cluster.health(index=index, wait_for_status="yellow")
    except OpenSearchException as error:
        raise EngineError(
            f"{in_words(error, url_of(client))}; index {index} may be left closed: the same "
            f"command opens it, and so does POST /{index}/_open"
        ) from error


def check_source(index: ExistingIndex, latent_field: str) -> None:
    """Raise MismatchError where an update of a document would lose a part of it."""
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
    """Raise MismatchError where the index has a field of its own where latent terms go."""
    if taken := names & index.mapping.get("properties", {}).keys():
        raise MismatchError(
            f"index {index.name} has a field {min(taken)!r} of its own; name another for latent "
            f"terms with --latent-field"
        )


def check_text_field(index: ExistingIndex, name: str) -> None:
    """Raise InputError unless the index has a field of that name, and it is text."""
    chain = find_field(index.mapping, name)
    if not chain:
        raise InputError(
            f"no field {name!r} in index {index.name}; name others with --text-fields (it has "
            f"{listed(text_fields(index))})"
        )
    *parents, found = chain
    if parents and any(found is sub for sub in parents[-1].get("fields", {}).values()):
        raise InputError(
            f"field {name!r} of index {index.name} is made of "
            f"{name.rpartition('.')[0]!r}; name that with --text-fields"
        )
    if any(parent.get("type") == "nested" for parent in parents):
        raise InputError(
            f"field {name!r} of index {index.name} is inside nested objects, where a search for "
            f"words does not reach; name another with --text-fields"
        )
    kind = found.get("type", "object")
    if kind not in TEXT_TYPES:
        raise InputError(
            f"field {name!r} of index {index.name} is of type {kind}, not text; name others with "
            f"--text-fields (it has {listed(text_fields(index))})"
        )


def find_field(mapping: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """The field at a dotted path and those it is in, outermost first; empty when there is none."""
    for name, found in {**mapping.get("properties", {}), **mapping.get("fields", {})}.items():
        if path == name:
            return [found]
        if path.startswith(f"{name}.") and (deeper := find_field(found, path[len(name) + 1 :])):
            return [found, *deeper]
    return []


def text_fields(index: ExistingIndex) -> list[str]:
    """Paths of the fields that can be encoded."""

    def walk(mapping: dict[str, Any], prefix: str) -> Iterator[str]:
        for name, found in mapping.get("properties", {}).items():
            if found.get("type") in TEXT_TYPES:
                yield prefix + name
            elif found.get("type") != "nested":
                yield from walk(found, f"{prefix}{name}.")

    return list(walk(index.mapping, ""))


def listed(names: list[str], most: int = 8) -> str:
    """Names for a message."""
    shown = ", ".join(names[:most]) or "no text fields"
    return f"{shown}, ..." if len(names) > most else shown


def added_settings(index: ExistingIndex, mapping: MappingConfig) -> dict[str, Any]:
    """The settings that the latent field needs and the index lacks.

    Raises:
        MismatchError: the index has others of these names.
    """
    needed = latent_settings(mapping)
    wanted = dict(flat(needed))
    for name, value in wanted.items():
        if name in index.settings and str(index.settings[name]) != str(value):
            raise MismatchError(
                f"index {index.name} has a setting {name} of its own: {index.settings[name]!r}, "
                f"latent terms need {value!r}; ingest its documents into a new index"
            )
    return {} if wanted.keys() <= index.settings.keys() else needed


def added_mapping(index: ExistingIndex, meta: IndexMeta) -> dict[str, Any]:
    """The fields for latent terms, and `_meta` with what it had."""
    properties = index_body(meta.mapping, {})["mappings"]["properties"]
    there = index.mapping.get("properties", {})
    return {
        "properties": {name: properties[name] for name in meta.own_fields if name not in there},
        "_meta": {**index.mapping.get("_meta", {}), "latent_ingest": meta.to_json()},
    }
