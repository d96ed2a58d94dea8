"""An index of latent terms: made or checked, merged, measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.client import engine_errors, reason_of
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.terms import SPELLINGS
from latent_ingest.mappings import MappingConfig, index_body
from latent_ingest.mappings.template import SIMILARITY

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# The engine syncs retention leases every 30 seconds.
LEASE_SECONDS = 120

REFRESH_OFF = {"refresh_interval": "-1"}


@dataclass(frozen=True, slots=True)
class IndexSize:
    """How large an index is."""

    documents: int
    bytes: int
    """Of all its primary shards, on disk."""

    @property
    def bytes_a_document(self) -> float:
        return self.bytes / max(self.documents, 1)


def open_index(
    client: OpenSearch, index: str, encoder: LatentEncoder, wanted: dict[str, Any]
) -> IndexMeta:
    """Make the index, or check that the one there fits.

    Args:
        client: of the engine.
        index: its name.
        encoder: the model.
        wanted: fields of `MappingConfig` that were asked for; others are the index's own, or the
            defaults when it is made.

    Raises:
        MismatchError: the index was made by another model or with another mapping.
        InputError: the engine does not take the name, the analyzer or the spelling.
        EngineError: the engine cannot be asked.
    """
    try:
        meta = IndexMeta.read(client, index)
    except MismatchError:
        if made_by_hand := adopt(client, index, encoder, wanted):
            return made_by_hand
        raise
    if meta is None:
        return make_index(client, index, encoder, checked_mapping(MappingConfig(), wanted))
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
    client: OpenSearch, index: str, encoder: LatentEncoder, wanted: dict[str, Any]
) -> IndexMeta | None:
    """Complete an empty index that was made by hand from a file of mappings/.

    Returns:
        What it says of itself now; none where it is not such an index, which stays as it is.

    Raises:
        MismatchError: it is one, but of another mapping than was asked for; it stays as it is.
    """
    with engine_errors(client):
        found = client.indices.get(index=index, flat_settings=True)
        if len(found) != 1 or holds_documents(client, index):
            return None
        ((name, there),) = found.items()
        noted = there["mappings"].get("_meta", {})
        if "latent_ingest" in noted:
            return None
        # What "repeat" needs, an index for "delimited" has too.
        for spelling in [wanted["spelling"]] if "spelling" in wanted else reversed(SPELLINGS):
            mapping = checked_mapping(MappingConfig(), {**wanted, "spelling": spelling})
            meta = IndexMeta.of(encoder, mapping)
            needed = dict(flat(latent_settings(mapping)))
            if any(str(there["settings"].get(key)) != str(needed[key]) for key in needed):
                continue
            body = index_body(mapping, meta.to_json())["mappings"]
            if body.get("_source", {}) != there["mappings"].get("_source", {}):
                break
            body["_meta"] |= noted
            with suppress(RequestError):  # a field that is of another type or analyzer
                client.indices.put_mapping(index=name, body=body)
                return meta
    if f"index.similarity.{SIMILARITY}.type" in there["settings"]:
        raise MismatchError(
            f"index {index} was made by hand, with another mapping than this ingest has; make it "
            f"from mappings/ with the same analyzer, k1, b and --lean, or delete it to have it made"
        )
    return None


def latent_settings(mapping: MappingConfig) -> dict[str, Any]:
    """The settings that the latent field's mapping names: its analyzer and its similarity."""
    settings = index_body(mapping, {})["settings"]
    index = {"similarity": settings["index"]["similarity"], "analysis": settings["analysis"]}
    return {"index": index}


def flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"a": {"b": 1}}` → `("a.b", 1)`."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def checked_mapping(base: MappingConfig, wanted: dict[str, Any]) -> MappingConfig:
    """`base` with what was asked for; raises InputError for values that cannot be."""
    try:
        return replace(base, **wanted)
    except ValueError as error:
        raise InputError(str(error)) from None


def make_index(
    client: OpenSearch, index: str, encoder: LatentEncoder, mapping: MappingConfig, **version: Any
) -> IndexMeta:
    """Create the index from mappings/; `version` are fields of `IndexMeta` that differ."""
    meta = replace(IndexMeta.of(encoder, mapping), **version)
    with engine_errors(client):
        try:
            client.indices.create(index=index, body=index_body(mapping, meta.to_json()))
        except RequestError as error:
            reason = reason_of(error)
            hint = (
                "; this engine needs --spelling repeat" if "delimited_term_freq" in reason else ""
            )
            raise InputError(f"index {index} cannot be made: {reason}{hint}") from error
    return meta


def index_uuid(client: OpenSearch, index: str) -> str:
    """The engine's own name of an index, which changes when it is deleted and made again."""
    with engine_errors(client):
        (settings,) = client.indices.get_settings(index=index).values()
    return str(settings["settings"]["index"]["uuid"])


def holds_documents(client: OpenSearch, index: str) -> bool:
    """Whether there is any document in the index; raises EngineError."""
    with engine_errors(client):
        client.indices.refresh(index=index, ignore=404)
        return bool(client.count(index=index)["count"])


def note(client: OpenSearch, index: str, **changes: Any) -> None:
    """Change `_meta.latent_ingest`; the engine replaces `_meta` as a whole."""
    (content,) = client.indices.get_mapping(index=index).values()
    meta = content["mappings"]["_meta"]
    meta["latent_ingest"].update(changes)
    client.indices.put_mapping(index=index, body={"_meta": meta})


def refresh_off(client: OpenSearch, index: str, **changes: Any) -> dict[str, Any]:
    """Stop refreshing while documents are loaded, and note in the index what puts it back.

    An interval of -1 with a note was left by a load that was killed, or is another's that is under
    way: the note stays. One without is how the index is meant to be.

    Args:
        client: of the engine.
        index: its name.
        changes: other changes of `_meta.latent_ingest`.

    Returns:
        The note: the settings that put it back.

    Raises:
        EngineError: the engine cannot be asked.
    """
    with engine_errors(client):
        before, noted = refreshing(client, index)
        if before != REFRESH_OFF or noted is None:
            noted = before
        note(client, index, loading=noted, **changes)
        client.indices.put_settings(index=index, body={"index": REFRESH_OFF})
    return noted


def refresh_back(client: OpenSearch, index: str, before: dict[str, Any], **changes: Any) -> None:
    """Refreshing as `refresh_off` noted it, unless somebody has put it back; raises EngineError."""
    with engine_errors(client):
        now, noted = refreshing(client, index)
        if now == REFRESH_OFF:
            client.indices.put_settings(index=index, body={"index": noted or before})
        note(client, index, loading=None, **changes)


def refreshing(client: OpenSearch, index: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """How an index is refreshed, and what is noted to be put back, both of one moment."""
    (found,) = client.indices.get(index=index).values()
    interval = found["settings"]["index"].get("refresh_interval")
    noted = found["mappings"]["_meta"]["latent_ingest"].get("loading")
    return {"refresh_interval": interval}, noted


def index_size(client: OpenSearch, index: str) -> IndexSize:
    """Documents and bytes of the primary shards.

    Bytes are summed over segments: the engine's own sum, `store` in its statistics, may be ten
    seconds old (`index.store.stats_refresh_interval`).
    """
    with engine_errors(client):
        documents = client.count(index=index)["count"]
        segments = client.indices.segments(index=index, ignore=404) or {}
    indices = segments.get("indices", {}).values()
    copies = [copy for found in indices for shard in found["shards"].values() for copy in shard]
    primaries = [copy["segments"].values() for copy in copies if copy["routing"]["primary"]]
    return IndexSize(documents, sum(one["size_in_bytes"] for shard in primaries for one in shard))


def merge(client: OpenSearch, index: str, *, lean: bool) -> None:
    """Merge to one segment a shard.

    A field that `_source` excludes (`lean`) is kept whole in a hidden copy until a merge that
    happens after the shard's retention lease has passed the document: so flush and wait first.

    Raises:
        EngineError: the engine cannot be asked, or leases do not catch up.
    """
    with engine_errors(client):
        client.indices.flush(index=index, request_timeout=600)
        deadline = time.monotonic() + LEASE_SECONDS
        while lean and not leases_caught_up(client, index):
            if time.monotonic() > deadline:
                raise EngineError(f"index {index}: retention leases lag after {LEASE_SECONDS} s")
            time.sleep(1)
        client.indices.forcemerge(index=index, max_num_segments=1, request_timeout=3600)
        client.indices.refresh(index=index)


def leases_caught_up(client: OpenSearch, index: str) -> bool:
    """Whether no retention lease holds back a document of any shard."""
    stats = client.indices.stats(index=index, level="shards")
    (shards,) = (content["shards"].values() for content in stats["indices"].values())
    copies = [copy for copies in shards for copy in copies]
    return all(
        lease["retaining_seq_no"] > copy["seq_no"]["max_seq_no"]
        for copy in copies
        for lease in copy["retention_leases"]["leases"]
    )
