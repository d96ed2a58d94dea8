"""The index on which k1 and b are tried: the index itself, restored at the end, or a copy.

What must be restored is noted in the index before anything is changed; see `index.repair`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.index.repair import (
    RENEW_SECONDS,
    change_closed,
    check_unchanged,
    holds_note,
    new_copy_name,
    new_note,
    renew,
    restore,
)
from latent_ingest.connector.tuning.knobs import Settings
from latent_ingest.mappings.template import SIMILARITY

# Seconds for which an index is watched for writes before tuning; while it is tuned, each change
# looks for writes.
WATCH_SECONDS = 1.5

BLOCK = "index.blocks.write"


class TunedIndex:
    """An index that is searched with several k1 and b; made by the context managers below."""

    def __init__(
        self, index: Index, noted: Index, note: dict[str, Any] | None, retry: Retry
    ) -> None:
        """Change nothing yet.

        `noted` is the index that is tuned, which holds the note of what to restore; the note is
        None for an index that is not changed. `retry` opens the index.
        """
        self.index = index
        self._retry = retry
        self.similarity = similarity_of(index)
        """k1 and b as this process set them."""
        self._noted = noted
        self._note = note
        self._written = index.writes()

    def set(self, k1: float, b: float) -> None:
        """Set k1 and b, for which the index is closed and opened; nothing if they are set already.

        Raises:
            InputError: somebody writes to the index.
            EngineError: another command changed it, or the engine refuses.
        """
        self.check()
        if (k1, b) == self.similarity:
            return
        if self._note:
            renew(self._noted, self._note)
        if (number := self.index.writes() - self._written) > 0:
            raise receives_writes(self.index.name, f"{number} since tuning began")
        self.index.put_settings_closed(similarity(k1, b), self._retry)
        self.similarity = k1, b

    def check(self) -> None:
        """Check that the index still has `similarity`, and renew the note.

        Raises:
            EngineError: another command changed the index, or the engine refuses.
        """
        found = similarity_of(self.index)
        if found != self.similarity:
            raise EngineError(
                f"index {self.index.name} has k1 and b {found}, not {self.similarity}: another "
                f"command set them during tuning; tune again"
            )
        if self._note and time.time() - self._note["renewed"] > RENEW_SECONDS:
            renew(self._noted, self._note)


@contextmanager
def in_place(existing: ExistingIndex, retry: Retry) -> Iterator[TunedIndex]:
    """Yield the index itself; its settings are restored at the end, whatever happens."""
    index = existing.index
    before = similarity_of(index)
    note = new_note(similarity(*before))
    index.update_meta(tuning=note)
    try:
        yield TunedIndex(index, index, note, retry)
    finally:
        # Unless another command has restored it: then this process must not close it.
        if holds_note(index, note):
            if similarity_of(index) != before or IndexInfo.read(index.client, index.name).closed:
                restore(index, note, retry)
            index.update_meta(tuning=None)


@contextmanager
def on_a_copy(existing: ExistingIndex, retry: Retry) -> Iterator[TunedIndex]:
    """Yield a clone of the index, deleted at the end; writes to the index fail while it is made."""
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
        yield TunedIndex(copy, index, note, retry)
    finally:
        if holds_note(index, note):
            restore(index, note, retry)
            index.update_meta(tuning=None)


def apply_settings(index: Index, settings: Settings, retry: Retry) -> None:
    """Write k1 and b into the index and the rest into its `_meta`, for good.

    Raises:
        InputError: somebody writes to the index, which is unchanged.
        EngineError: the engine refuses; the next command restores the index.
    """
    before = similarity_of(index)
    changes: dict[str, Any] = {
        "k1": settings.k1,
        "b": settings.b,
        "query_settings": settings.query_settings(),
    }
    if before == (settings.k1, settings.b):
        index.update_meta(**changes)
        return
    check_quiet(index)
    note = new_note(similarity(*before))
    change_closed(index, similarity(settings.k1, settings.b), note, retry, **changes)


def similarity(k1: float, b: float) -> dict[str, Any]:
    """Return the settings, flat, of the latent field's BM25."""
    name = f"index.similarity.{SIMILARITY}"
    return {f"{name}.type": "BM25", f"{name}.k1": k1, f"{name}.b": b}


def similarity_of(index: Index) -> tuple[float, float]:
    """Return k1 and b of the index; raises InputError if it lacks the latent field's similarity."""
    found = index.settings()
    names = [f"index.similarity.{SIMILARITY}.{name}" for name in ("k1", "b")]
    if missing := [name for name in names if name not in found]:
        raise InputError(f"index {index.name} has no setting {missing[0]}; ingest into a new index")
    return float(found[names[0]]), float(found[names[1]])


def check_meta(index: ExistingIndex) -> IndexMeta:
    """Return the meta of an index that can be tuned.

    Raises:
        InputError: the index is closed or being tuned, or the engine makes its ids.
        MismatchError: the index has no latent terms.
    """
    if not index.open:
        raise InputError(f"index {index.name} is closed; open it: POST /{index.name}/_open")
    meta = IndexMeta.from_mapping(index.name, index.mapping)
    if meta.ids == "engine":
        raise InputError(
            f"the engine makes the ids of {index.name}, but judgements name the collection's ids; "
            f"name another index with --index"
        )
    check_unchanged(index.name, meta)
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
        f"stop them during tuning"
    )
