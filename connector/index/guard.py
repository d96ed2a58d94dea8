"""An index while a run writes to it: an alias of the run guards it, and refreshing is off.

Writes to an index that is copied: refused in the moment in which an alias moves to the copy.
"""

from __future__ import annotations

import hashlib
import platform
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.listing import GUARD
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import note, refresh_back, refresh_off
from latent_ingest.connector.indexing.versions import one

# Runs that took one number at the same moment wait up to so many seconds, each its own time.
COLLISION_SECONDS = 0.5


class Guard:
    """An alias of a run's own, which its requests go through and which has to be there.

    To a plain name the engine would make an index that was deleted again, without our mapping and
    without a word.
    """

    def __init__(
        self,
        client: OpenSearch,
        index: str,
        source: str,
        retry: Retry,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nothing is changed yet.

        Args:
            client: of the engine.
            index: its own name, not an alias.
            source: what is written; two that are written at once have two aliases.
            retry: for an engine that is away.
            warn: called with a line when there can be no alias.
        """
        self._client = client
        self._index = index
        self._retry = retry
        self._warn = warn
        self._owner = hashlib.sha256(f"{platform.node()}\n{source}".encode()).hexdigest()[:8]
        self._alias: str | None = None

    @property
    def target(self) -> dict[str, Any]:
        """Parameters of the requests that write."""
        if self._alias is None:
            return {"index": self._index}
        return {"index": self._alias, "require_alias": True}

    def put(self, number: int = 0) -> None:
        """Make the alias, and take away those of runs of this source that were killed.

        Args:
            number: of the run, for those that are counted.

        Raises:
            EngineError: the engine cannot be asked.
        """
        alias = f"{self._index}.loading-{number}-{self._owner}"
        try:
            self._retry.ask(lambda: self._client.indices.put_alias(index=self._index, name=alias))
        except EngineError as error:
            self._warn(
                f"no alias can be made while loading ({error}): should somebody delete the index "
                f"meanwhile, the engine will make it again, without its mapping"
            )
            return
        self._alias = alias
        for other in self.numbers():
            if other.endswith(self._owner) and other != alias:
                self._delete(other)

    def numbers(self) -> dict[str, int]:
        """The aliases of all runs, killed ones too, with their numbers; none that may be read."""
        indices = self._client.indices
        try:
            answer = self._retry.ask(lambda: indices.get_alias(index=self._index))
        except EngineError:
            return {}
        (content,) = answer.values()
        found = {alias: GUARD.search(alias) for alias in content["aliases"]}
        return {alias: int(match[1]) for alias, match in found.items() if match}

    def remove(self) -> None:
        """Take the alias away; raises EngineError."""
        if self._alias is not None:
            self._delete(self._alias)
            self._alias = None

    def _delete(self, alias: str) -> None:
        indices = self._client.indices
        self._retry.ask(lambda: indices.delete_alias(index=self._index, name=alias, ignore=404))


@contextmanager
def guarded(
    client: OpenSearch,
    index: str,
    source: str,
    retry: Retry,
    warn: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """A guard while it lasts, of an index that is not counted; gives its `target`."""
    guard = Guard(client, index, source, retry, warn)
    guard.put()
    try:
        yield guard.target
    finally:
        with suppress(EngineError):
            guard.remove()


class Loading:
    """An index while documents are loaded into it: counted as a run, guarded, not refreshed."""

    def __init__(
        self,
        client: OpenSearch,
        index: str,
        corpus: str,
        retry: Retry,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nothing is changed yet.

        Args:
            client: of the engine.
            index: its name, or an alias of it.
            corpus: path of what is loaded.
            retry: for an engine that is away.
            warn: called with lines the user should see at once.
        """
        self._client = client
        self._index = index
        self._source = str(Path(corpus).resolve())
        self._retry = retry
        self._warn = warn
        self._guard: Guard | None = None
        self._before: dict[str, Any] = {}
        self.number = 0
        """Of the run, from 1 once it has begun; later ones have greater numbers."""

    def begin(self) -> dict[str, Any]:
        """Prepare the index; gives the parameters of bulk requests.

        Raises:
            EngineError: the engine cannot be asked, or the index is not there.
            MismatchError: it has no latent terms any more.
        """
        self._index, _ = self._retry.ask(self._find)
        guard = Guard(self._client, self._index, self._source, self._retry, self._warn)
        self._guard = guard
        self.number = self._take_number(guard)
        self._before = self._retry.ask(
            lambda: refresh_off(self._client, self._index, runs=self._runs())
        )
        return guard.target

    def end(self) -> None:
        """Refreshing as it was before, and a refresh.

        Raises:
            EngineError: the engine cannot be asked.
            MismatchError: the index has no latent terms any more.
        """
        assert self._guard
        try:
            self._retry.ask(
                lambda: refresh_back(self._client, self._index, self._before, runs=self._runs())
            )
            self._guard.remove()
            self._retry.ask(self._client.indices.refresh, index=self._index, ignore=404)
        except EngineError as error:
            raise EngineError(
                f"{error}; the index {self._index} is left with refresh_interval -1: the next "
                f"ingest puts it back"
            ) from error

    def _find(self) -> tuple[str, IndexMeta]:
        found = IndexMeta.find(self._client, self._index)
        if found is None:
            raise EngineError(f"index {self._index} was deleted; begin again")
        return found

    def _take_number(self, guard: Guard) -> int:
        """One more than any before, and no other run's.

        The engine cannot count for us in one step. So each run shows its number and looks: of two
        that took the same, at least the later one sees the other, and takes another.
        """
        while True:
            _, meta = self._retry.ask(self._find)
            number = 1 + max([meta.runs, *guard.numbers().values()])
            guard.put(number)
            if [*guard.numbers().values()].count(number) <= 1:
                return number
            guard.remove()
            time.sleep(random.random() * COLLISION_SECONDS)

    def _runs(self) -> int:
        _, meta = self._find()
        return max(meta.runs, self.number)


BLOCK = "index.blocks.write"
READ_ONLY = "index.blocks.read_only"


@contextmanager
def no_writes(client: OpenSearch, source: str, copy: str, retry: Retry) -> Iterator[None]:
    """Within it, the engine refuses writes to the index that is copied, so that none is missed.

    The copy notes it, so that the command after one that was killed meanwhile lets them in again.

    Raises:
        EngineError: the engine cannot be asked, or refuses.
    """
    try:
        retry.ask(lambda: block_writes(client, source, copy))
        yield
    finally:
        retry.ask(lambda: let_writes_in(client, source, copy))


def block_writes(client: OpenSearch, source: str, copy: str) -> None:
    """Have the engine refuse writes once those under way are done, unless it does so already."""
    with engine_errors(client):
        (found,) = client.indices.get_settings(index=source, flat_settings=True).values()
        blocked = any(found["settings"].get(block) == "true" for block in (BLOCK, READ_ONLY))
        if blocked and not one(client, copy).stored.get("source_blocked"):
            return  # by somebody else
        note(client, copy, source_blocked=True)
        try:
            client.indices.add_block(index=source, block="write")
        except AuthorizationException:
            note(client, copy, source_blocked=None)
            raise


def let_writes_in(client: OpenSearch, source: str, copy: str) -> None:
    """Take away the block that a copy has noted; not one that somebody else has set."""
    try:
        with engine_errors(client):
            if one(client, copy).stored.get("source_blocked"):
                client.indices.put_settings(index=source, body={BLOCK: None})
                note(client, copy, source_blocked=None)
    except EngineError as error:
        raise EngineError(
            f"{error}; index {source} may be left with {BLOCK}: the same command takes it away"
        ) from error
