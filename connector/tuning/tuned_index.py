"""The index whose k1 and b are tried: itself, put back in the end, or a copy, deleted in the end.

What must be put back is noted in the index before anything is changed; see `index.repair`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.index.repair import (
    RENEW_SECONDS,
    holds_note,
    new_note,
    put_back,
    renew,
    set_while_closed,
    write_note,
)
from latent_ingest.connector.indexing.copying import written
from latent_ingest.connector.tuning.knobs import Settings
from latent_ingest.mappings.template import SIMILARITY

# How long an index is watched for writes at first; an index that is closed again and again is
# watched all the time.
WATCH_SECONDS = 1.5

BLOCK = "index.blocks.write"


class TunedIndex:
    """An index that is asked with several k1 and b. Made by the functions below."""

    def __init__(
        self, client: OpenSearch, name: str, noted: str, note: dict[str, Any] | None
    ) -> None:
        """Nothing is changed yet.

        Args:
            client: of the engine.
            name: where searches go.
            noted: the index that is tuned, which holds the note.
            note: what is to be put back; none for an index that stays as it is.
        """
        self.name = name
        self.similarity = similarity_of(client, name)
        """k1 and b, as this process has left them."""
        self._client = client
        self._noted = noted
        self._note = note
        self._written = written(client, name)

    def set(self, k1: float, b: float) -> None:
        """Close, set, open; nothing where they are so already.

        Raises:
            InputError: somebody writes to the index.
            EngineError: somebody else has changed it, or the engine refuses.
        """
        self.check()
        if (k1, b) == self.similarity:
            return
        if self._note:
            renew(self._client, self._noted, self._note)
        if (number := written(self._client, self.name) - self._written) > 0:
            raise receives_writes(self.name, f"{number} since tuning began")
        with engine_errors(self._client):
            set_while_closed(self._client, self.name, similarity(k1, b))
        self.similarity = k1, b

    def check(self) -> None:
        """See that answers are still those of `similarity`, and say that this process lives.

        Raises:
            EngineError: somebody else has changed the index, or the engine refuses.
        """
        found = similarity_of(self._client, self.name)
        if found != self.similarity:
            raise EngineError(
                f"index {self.name} has k1 and b {found}, not {self.similarity}: another command "
                f"has set them while it was tuned; tune again"
            )
        if self._note and time.time() - self._note["renewed"] > RENEW_SECONDS:
            renew(self._client, self._noted, self._note)


@contextmanager
def as_it_is(client: OpenSearch, index: ExistingIndex) -> Iterator[TunedIndex]:
    """The index itself, for knobs that change nothing of it."""
    yield TunedIndex(client, index.name, index.name, None)


@contextmanager
def in_place(client: OpenSearch, index: ExistingIndex) -> Iterator[TunedIndex]:
    """The index itself, its settings put back in the end, whatever happens."""
    before = similarity_of(client, index.name)
    note = new_note(similarity(*before))
    write_note(client, index.name, note)
    try:
        yield TunedIndex(client, index.name, index.name, note)
    finally:
        # Unless another command has done it, after which it is not ours to close.
        if holds_note(client, index.name, note):
            with engine_errors(client):
                if similarity_of(client, index.name) != before or not is_open(client, index.name):
                    put_back(client, index.name, note)
            write_note(client, index.name, None)


@contextmanager
def on_a_copy(client: OpenSearch, index: ExistingIndex) -> Iterator[TunedIndex]:
    """A clone of the index, deleted in the end; writes to the index fail while it is made."""
    copy = f"{index.name}-tune-{uuid.uuid4().hex[:8]}"
    note = new_note({BLOCK: index.settings.get(BLOCK)}, copy)
    write_note(client, index.name, note)
    try:
        with engine_errors(client):
            client.indices.put_settings(index=index.name, body={BLOCK: True})
            settings = {BLOCK: None, "index.number_of_replicas": 0}
            client.indices.clone(
                index=index.name,
                target=copy,
                body={"settings": settings},
                params={"wait_for_active_shards": "all"},
            )
            client.indices.put_settings(index=index.name, body={BLOCK: note["settings"][BLOCK]})
            write_note(client, copy, None)
        yield TunedIndex(client, copy, index.name, note)
    finally:
        if holds_note(client, index.name, note):
            with engine_errors(client):
                put_back(client, index.name, note)
            write_note(client, index.name, None)


def apply(client: OpenSearch, index: str, settings: Settings) -> None:
    """Write k1 and b into the index and the rest into its `_meta`, for good.

    Raises:
        InputError: somebody writes to the index, which is as it was.
        EngineError: the engine refuses; the next command puts back what the index had.
    """
    before = similarity_of(client, index)
    if before != (settings.k1, settings.b):
        check_quiet(client, index)
        note = new_note(similarity(*before))
        write_note(client, index, note)
        with engine_errors(client):
            try:
                set_while_closed(client, index, similarity(settings.k1, settings.b))
            except BaseException:
                put_back(client, index, note)
                write_note(client, index, None)
                raise
    changes = {"k1": settings.k1, "b": settings.b, "query_settings": settings.query_settings()}
    write_note(client, index, None, **changes)


def similarity(k1: float, b: float) -> dict[str, Any]:
    """Flat settings of BM25 of the latent field."""
    name = f"index.similarity.{SIMILARITY}"
    return {f"{name}.type": "BM25", f"{name}.k1": k1, f"{name}.b": b}


def similarity_of(client: OpenSearch, index: str) -> tuple[float, float]:
    """k1 and b that the index has; raises InputError where the latent field has none of ours."""
    with engine_errors(client):
        answer = client.indices.get_settings(index=index, flat_settings=True)
    (found,) = (content["settings"] for content in answer.values())
    names = [f"index.similarity.{SIMILARITY}.{name}" for name in ("k1", "b")]
    if missing := [name for name in names if name not in found]:
        raise InputError(f"index {index} has no setting {missing[0]}; ingest into a new index")
    return float(found[names[0]]), float(found[names[1]])


def is_open(client: OpenSearch, index: str) -> bool:
    (row,) = client.cat.indices(index=index, format="json", h="status")
    return bool(row["status"] == "open")


def check_meta(index: ExistingIndex) -> IndexMeta:
    """The meta of an index that can be tuned.

    Raises:
        InputError: it is closed, or the engine makes its ids.
        MismatchError: it is not one of ours.
    """
    if not index.open:
        raise InputError(f"index {index.name} is closed; open it: POST /{index.name}/_open")
    meta = IndexMeta.from_stored(index.name, index.mapping.get("_meta", {}).get("latent_ingest"))
    if meta.ids == "engine":
        raise InputError(
            f"the engine makes the ids of {index.name}, and judgements are of the collection's "
            f"own; name another with --index"
        )
    if meta.tuning:
        raise InputError(
            f"index {index.name} is being tuned by process {meta.tuning['pid']} on "
            f"{meta.tuning['host']}; wait for its end"
        )
    return meta


def check_quiet(client: OpenSearch, index: str) -> None:
    """Raise InputError where somebody writes to the index, which closing or cloning would stop."""
    before = written(client, index)
    time.sleep(WATCH_SECONDS)
    if (number := written(client, index) - before) > 0:
        raise receives_writes(index, f"{number} in {WATCH_SECONDS} s")


def receives_writes(index: str, how_many: str) -> InputError:
    return InputError(
        f"index {index} receives writes ({how_many}), which fail while it is closed or cloned; "
        f"stop them meanwhile"
    )
