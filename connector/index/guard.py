"""An index while a run writes to it: guarded by an alias, numbered, and not refreshed.

Also the write block of an index that is copied, while an alias moves to the copy.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from opensearchpy.exceptions import AuthorizationException

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry, passes
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import GUARD

# Runs that took the same number wait for up to this many seconds, each for a random time.
COLLISION_SECONDS = 0.5

log = logging.getLogger(__name__)


class Guard:
    """A guard alias: requests of a run go through it and require it.

    If somebody deletes the index meanwhile, the engine would silently create it again, without its
    mapping, for requests to its plain name.
    """

    def __init__(self, index: Index, source: str, retry: Retry) -> None:
        """Change nothing yet. Each `source` that is loaded has its own alias."""
        self._index = index
        self._retry = retry
        self._owner = hashlib.sha256(f"{platform.node()}\n{source}".encode()).hexdigest()[:8]
        self._alias: str | None = None

    @property
    def target(self) -> dict[str, Any]:
        """Parameters of requests that write."""
        if self._alias is None:
            return {"index": self._index.name}
        return {"index": self._alias, "require_alias": True}

    def put(self, number: int = 0) -> None:
        """Create the alias, and remove those that killed runs of this source left.

        `number` is the number of the run, 0 if runs are not counted. Raises EngineError if the
        engine is away, busy or blocked for too long; a refusal is logged.
        """
        index = self._index
        alias = f"{index.name}.loading-{number}-{self._owner}"
        try:
            self._retry.ask(index.client.indices.put_alias, index=index.name, name=alias)
        except EngineError as error:
            if passes(error):  # all else would wait as long again
                raise
            log.warning(
                "no alias can be created while loading (%s): if somebody deletes the index "
                "meanwhile, the engine will create it again, without its mapping",
                error,
            )
            return
        self._alias = alias
        for other in self.numbers():
            if other.endswith(self._owner) and other != alias:
                self._delete(other)

    def numbers(self) -> dict[str, int]:
        """Guard aliases of all runs, killed ones too, with their numbers; empty if unreadable."""
        index = self._index
        try:
            answer = self._retry.ask(index.client.indices.get_alias, index=index.name)
        except EngineError as error:
            if passes(error):
                raise
            return {}
        (content,) = answer.values()
        found = {alias: GUARD.search(alias) for alias in content["aliases"]}
        return {alias: int(match[1]) for alias, match in found.items() if match}

    def remove(self) -> None:
        """Delete the alias; raises EngineError."""
        if self._alias is not None:
            self._delete(self._alias)
            self._alias = None

    def _delete(self, alias: str) -> None:
        delete = self._index.client.indices.delete_alias
        self._retry.ask(delete, index=self._index.name, name=alias, ignore=404)


@contextmanager
def guarded(index: Index, source: str, retry: Retry) -> Iterator[dict[str, Any]]:
    """A context in which a run that is not counted has a guard; gives its `target`."""
    guard = Guard(index, source, retry)
    guard.put()
    try:
        yield guard.target
    finally:
        with suppress(EngineError):
            guard.remove()


class Loading:
    """An index while documents are loaded into it: counted as a run, guarded, not refreshed."""

    def __init__(
        self, index: Index, corpus: str, retry: Retry, *, refresh_off: bool = True
    ) -> None:
        """Change nothing yet; `index` may be an alias, `corpus` is the path of the file.

        With `refresh_off=False` the index is refreshed as ever: for a few documents that are added
        to an index in use.
        """
        self.index = index
        """The index; under its own name once the run has begun."""
        self._source = str(Path(corpus).resolve())
        self._retry = retry
        self._guard: Guard | None = None
        self._refresh_off = refresh_off
        self._before: dict[str, Any] = {}
        self.number = 0
        """Number of the run, from 1 once it has begun; later runs have greater numbers."""

    def begin(self) -> dict[str, Any]:
        """Prepare the index; gives the parameters of bulk requests.

        Raises EngineError, also if the index does not exist, and MismatchError if it has no latent
        terms any more.
        """
        self.index = self._retry.ask(self._find)
        self._guard = Guard(self.index, self._source, self._retry)
        self.number = self._take_number(self._guard)
        if self._refresh_off:
            self._before = self._retry.ask(lambda: self.index.refresh_off(runs=self._runs()))
        else:
            self._retry.ask(self._note_number)
        return self._guard.target

    def end(self) -> None:
        """Restore the refresh interval, remove the guard, and refresh; raises as `begin`."""
        assert self._guard
        index = self.index
        try:
            if self._refresh_off:
                self._retry.ask(lambda: index.refresh_on(self._before, runs=self._runs()))
            else:
                self._retry.ask(self._note_number)
            self._guard.remove()
            self._retry.ask(index.refresh)
        except EngineError as error:
            if not self._refresh_off:
                raise
            raise EngineError(
                f"{error}; the index {index.name} is left with refresh_interval -1: the next "
                f"ingest restores it"
            ) from error

    def _find(self) -> Index:
        found = Index.find(self.index.client, self.index.name)
        if found is None:
            raise EngineError(f"index {self.index.name} was deleted; start again")
        return found

    def _take_number(self, guard: Guard) -> int:
        """Choose a number that is greater than any before and that no other run has.

        The engine cannot count in one step. So each run shows its number and looks: of two runs
        that took the same, at least the later one sees the other, and takes another.
        """
        while True:
            meta = self._retry.ask(self.index.meta)
            number = 1 + max([meta.runs, *guard.numbers().values()])
            guard.put(number)
            if [*guard.numbers().values()].count(number) <= 1:
                return number
            guard.remove()
            time.sleep(random.random() * COLLISION_SECONDS)

    def _note_number(self) -> None:
        """Note the number in the index, unless a greater one is there.

        At the end once more: a run that began at the same time may have overwritten it.
        """
        if self.index.meta().runs < self.number:
            self.index.update_meta(runs=self.number)

    def _runs(self) -> int:
        return max(self.index.meta().runs, self.number)


BLOCK = "index.blocks.write"
READ_ONLY = "index.blocks.read_only"


@contextmanager
def no_writes(source: Index, copy: Index, retry: Retry) -> Iterator[None]:
    """A context in which the engine refuses writes to the index that is copied.

    The copy notes the block, so that the next command removes it if this one is killed.
    """
    try:
        retry.ask(lambda: block_writes(source, copy))
        yield
    finally:
        retry.ask(lambda: unblock_writes(source, copy))


def block_writes(source: Index, copy: Index) -> None:
    """Have the engine finish current writes and refuse others, unless it refuses them already."""
    settings = source.settings()
    blocked = any(settings.get(block) == "true" for block in (BLOCK, READ_ONLY))
    if blocked and not copy.stored_meta().get("source_blocked"):
        return  # blocked by somebody else
    copy.update_meta(source_blocked=True)
    try:
        with engine_errors(source.client):
            source.client.indices.add_block(index=source.name, block="write")
    except EngineError as error:
        if isinstance(error.__cause__, AuthorizationException):
            copy.update_meta(source_blocked=None)
        raise


def unblock_writes(source: Index, copy: Index) -> None:
    """Remove the block that the copy has noted, but not one that somebody else has set."""
    try:
        if copy.stored_meta().get("source_blocked"):
            source.put_settings({BLOCK: None})
            copy.update_meta(source_blocked=None)
    except EngineError as error:
        raise EngineError(
            f"{error}; index {source.name} may be left with {BLOCK}: the same command removes it"
        ) from error
