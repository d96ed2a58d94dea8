"""An index of latent terms: made or checked, loaded with refresh off, merged, measured."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.client import engine_errors, reason_of
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.indexing.patience import Patience
from latent_ingest.mappings import MappingConfig, index_body

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# The engine syncs retention leases every 30 seconds.
LEASE_SECONDS = 120


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
    meta = IndexMeta.read(client, index)
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


class Loading:
    """An index while documents are loaded into it: refreshing is off, an alias guards it.

    Requests go through an alias of the run's own, which has to be there. To a plain name the
    engine would make an index that was deleted again, without our mapping and without a word.
    """

    def __init__(
        self,
        client: OpenSearch,
        index: str,
        corpus: str,
        patience: Patience,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nothing is changed yet.

        Args:
            client: of the engine.
            index: its name.
            corpus: what is loaded; two at once have two aliases.
            patience: for an engine that is away.
            warn: called with a line when there can be no alias.
        """
        self._client = client
        self._index = index
        self._patience = patience
        self._warn = warn
        run = hashlib.sha256(f"{platform.node()}\n{corpus}".encode()).hexdigest()[:8]
        self._alias: str | None = f"{index}.loading-{run}"
        self._interval: str | None = None

    def begin(self) -> dict[str, Any]:
        """Prepare the index; gives the parameters of bulk requests.

        A refresh interval of -1 that is found there was left by a load that was killed: it goes
        back to the engine's default.

        Raises:
            EngineError: the engine cannot be asked.
        """
        client, index = self._client, self._index
        (found,) = self._patience.ask(lambda: client.indices.get_settings(index=index)).values()
        interval = found["settings"]["index"].get("refresh_interval")
        self._interval = None if interval == "-1" else interval
        self._patience.ask(lambda: set_refresh(client, index, "-1"))
        try:
            self._patience.ask(lambda: client.indices.put_alias(index=index, name=self._alias))
            return {"index": self._alias, "require_alias": True}
        except EngineError as error:
            self._warn(
                f"no alias can be made while loading ({error}): should somebody delete the index "
                f"meanwhile, the engine will make it again, without its mapping"
            )
            self._alias = None
            return {"index": index}

    def end(self) -> None:
        """Refreshing as it was before, and a refresh.

        Raises:
            EngineError: the engine cannot be asked.
        """
        client, index = self._client, self._index
        try:
            self._patience.ask(lambda: set_refresh(client, index, self._interval))
            if self._alias is not None:
                self._patience.ask(
                    lambda: client.indices.delete_alias(index=index, name=self._alias, ignore=404)
                )
            self._patience.ask(lambda: client.indices.refresh(index=index, ignore=404))
        except EngineError as error:
            raise EngineError(
                f"{error}; the index {index} is left with refresh_interval -1: the next ingest "
                f"puts it back"
            ) from error


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


def number_run(client: OpenSearch, index: str) -> int:
    """Count one more run into the index, in its `_meta.latent_ingest.runs`; from 1.

    Raises:
        EngineError: the engine cannot be asked.
        MismatchError: the index has no latent terms any more.
    """
    meta = IndexMeta.read(client, index)
    if meta is None:
        raise EngineError(f"index {index} was deleted; begin again")
    with engine_errors(client):
        note(client, index, runs=meta.runs + 1)
    return meta.runs + 1


def note(client: OpenSearch, index: str, **changes: Any) -> None:
    """Change `_meta.latent_ingest`; the engine replaces `_meta` as a whole."""
    (content,) = client.indices.get_mapping(index=index).values()
    meta = content["mappings"]["_meta"]
    meta["latent_ingest"].update(changes)
    client.indices.put_mapping(index=index, body={"_meta": meta})


def set_refresh(client: OpenSearch, index: str, interval: str | None) -> None:
    """Set `refresh_interval`; none is the engine's default."""
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": interval}})


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
