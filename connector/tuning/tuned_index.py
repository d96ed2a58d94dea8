"""The index whose k1 and b are tried: itself, put back in the end, or a copy, deleted in the end.

What must be put back is noted in the index before anything is changed; see `index.repair`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.index.repair import (
    RENEW_SECONDS,
    holds_note,
    new_copy_name,
    new_note,
    renew,
    restore,
)
from latent_ingest.connector.tuning.knobs import Settings
from latent_ingest.mappings.template import SIMILARITY

# How long an index is watched for writes at first; an index that is closed again and again is
# watched all the time.
WATCH_SECONDS = 1.5

BLOCK = "index.blocks.write"


class TunedIndex:
    """An index that is asked with several k1 and b. Made by the functions below."""

    def __init__(self, index: Index, noted: Index, note: dict[str, Any] | None) -> None:
        """Nothing is changed yet.

        Args:
            index: the index that is searched.
            noted: the index that is tuned, which holds the note.
            note: the note of what to restore; None for an index that is not changed.
        """
        self.name = index.name
        self.similarity = similarity_of(index)
        """k1 and b, as this process has left them."""
        self._index = index
        self._noted = noted
        self._note = note
        self._written = index.writes()

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
            renew(self._noted, self._note)
        if (number := self._index.writes() - self._written) > 0:
            raise receives_writes(self.name, f"{number} since tuning began")
        self._index.put_settings_closed(similarity(k1, b))
        self.similarity = k1, b

    def check(self) -> None:
        """See that answers are still those of `similarity`, and say that this process lives.

        Raises:
            EngineError: somebody else has changed the index, or the engine refuses.
        """
        found = similarity_of(self._index)
        if found != self.similarity:
            raise EngineError(
                f"index {self.name} has k1 and b {found}, not {self.similarity}: another command "
                f"has set them while it was tuned; tune again"
            )
        if self._note and time.time() - self._note["renewed"] > RENEW_SECONDS:
            renew(self._noted, self._note)


@contextmanager
def as_it_is(existing: ExistingIndex) -> Iterator[TunedIndex]:
    """The index itself, for knobs that do not change it."""
    yield TunedIndex(existing.index, existing.index, None)


@contextmanager
def in_place(existing: ExistingIndex) -> Iterator[TunedIndex]:
    """The index itself; its settings are restored at the end, whatever happens."""
    index = existing.index
    before = similarity_of(index)
    note = new_note(similarity(*before))
    index.update_meta(tuning=note)
    try:
        yield TunedIndex(index, index, note)
    finally:
        # Unless another command has restored it: then this process must not close it.
        if holds_note(index, note):
            if similarity_of(index) != before or IndexInfo.read(index.client, index.name).closed:
                restore(index, note)
            index.update_meta(tuning=None)


@contextmanager
def on_a_copy(existing: ExistingIndex) -> Iterator[TunedIndex]:
    """A clone of the index, deleted at the end; writes to the index fail while it is made."""
    index = existing.index
    copy = Index(index.client, new_copy_name(index.name))
    note = new_note({BLOCK: existing.settings.get(BLOCK)}, copy.name)
    index.update_meta(tuning=note)
    try:
        index.put_settings({BLOCK: True})
        with engine_errors(index.client):
            index.client.indices.clone(
                index=index.name,
                target=copy.name,
                body={"settings": {BLOCK: None, "index.number_of_replicas": 0}},
                params={"wait_for_active_shards": "all"},
            )
        index.put_settings(note["settings"])
        copy.update_meta(tuning=None)
        yield TunedIndex(copy, index, note)
    finally:
        if holds_note(index, note):
            restore(index, note)
            index.update_meta(tuning=None)


def apply(index: Index, settings: Settings) -> None:
    """Write k1 and b into the index and the rest into its `_meta`, for good.

    Raises:
        InputError: somebody writes to the index, which is unchanged.
        EngineError: the engine refuses; the next command restores the index.
    """
    before = similarity_of(index)
    if before != (settings.k1, settings.b):
        check_quiet(index)
        note = new_note(similarity(*before))
        index.update_meta(tuning=note)
        try:
            index.put_settings_closed(similarity(settings.k1, settings.b))
        except BaseException:
            restore(index, note)
            index.update_meta(tuning=None)
            raise
    changes = {"k1": settings.k1, "b": settings.b, "query_settings": settings.query_settings()}
    index.update_meta(tuning=None, **changes)


def similarity(k1: float, b: float) -> dict[str, Any]:
    """Flat settings of BM25 of the latent field."""
    name = f"index.similarity.{SIMILARITY}"
    return {f"{name}.type": "BM25", f"{name}.k1": k1, f"{name}.b": b}


def similarity_of(index: Index) -> tuple[float, float]:
    """k1 and b of the index; raises InputError if it lacks the similarity of the latent field."""
    found = index.settings()
    names = [f"index.similarity.{SIMILARITY}.{name}" for name in ("k1", "b")]
    if missing := [name for name in names if name not in found]:
        raise InputError(f"index {index.name} has no setting {missing[0]}; ingest into a new index")
    return float(found[names[0]]), float(found[names[1]])


def check_meta(index: ExistingIndex) -> IndexMeta:
    """The meta of an index that can be tuned.

    Raises:
        InputError: it is closed, or the engine makes its ids.
        MismatchError: it is not one of ours.
    """
    if not index.open:
        raise InputError(f"index {index.name} is closed; open it: POST /{index.name}/_open")
    meta = IndexMeta.from_mapping(index.name, index.mapping)
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


def check_quiet(index: Index) -> None:
    """Raise InputError if somebody writes to the index, which closing or cloning would stop."""
    before = index.writes()
    time.sleep(WATCH_SECONDS)
    if (number := index.writes() - before) > 0:
        raise receives_writes(index.name, f"{number} in {WATCH_SECONDS} s")


def receives_writes(index: str, how_many: str) -> InputError:
    return InputError(
        f"index {index} receives writes ({how_many}), which fail while it is closed or cloned; "
        f"stop them meanwhile"
    )
