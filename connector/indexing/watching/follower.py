"""The follower: keeps the latent terms of an index up to date while applications write to it.

how far the shards are written → refresh → changes since → latent vectors → updates → positions

An update is a write, too: it is read once more, and found up to date.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError

from latent_ingest.connector.engine.retry import TryAgain
from latent_ingest.connector.errors import EngineError, LatentIngestError
from latent_ingest.connector.index.guard import Guard
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import Preparation
from latent_ingest.connector.index.reading import Stored
from latent_ingest.connector.indexing.actions import UpdateAction, Verdict
from latent_ingest.connector.indexing.enrich import Batch, Enrich
from latent_ingest.connector.indexing.journal import Run
from latent_ingest.connector.indexing.journal_records import Progress
from latent_ingest.connector.indexing.outcomes import WatchReport
from latent_ingest.connector.indexing.sender import Outcome, Sender
from latent_ingest.connector.indexing.watching.changes import ChangeReader, Changes, Pace
from latent_ingest.connector.indexing.watching.positions import IndexState, Positions

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)

# Seconds after which a long reading is ended, to ask the engine where the index is now.
ROUND_SECONDS = 10.0

# Seconds between two looks at an index in which nothing happens.
POLL_SECONDS = 1.0

# Fields of the index meta that decide on the latent terms of a text.
DECIDING = (
    "fingerprint", "text_fields", "scale", "spelling", "long", "latent_field", "hash_field"
)  # fmt: skip


class Moved(Exception):
    """The name that is watched stands for another index now; the message says so."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched, and how."""

    asked: str
    """Name of the index, or an alias of it."""
    poll: float = POLL_SECONDS
    """Seconds between two looks at the index."""
    rate: float | None = None
    """Most documents read per second; None for any number."""


class Follower(Enrich):
    """Follows one index until it is stopped."""

    report: WatchReport

    def __init__(
        self,
        client: OpenSearch,
        preparation: Preparation,
        encoder: LatentEncoder,
        watched: Watched,
        report: WatchReport,
        *,
        run: Run,
        uuid: str,
        **settings: Any,
    ) -> None:
        """Prepare to follow an index, from where `run` was, or from its first write.

        Counts are added to `report`; `uuid` is that of the index; `settings` are those of `Enrich`.
        """
        super().__init__(client, preparation, encoder, run=run, **settings)
        self.report = report
        self._journal = run
        self._watched = watched
        self._uuid = uuid
        self._terms = deciding(self._meta)
        before = run.resumed
        self._lines = before.lines if before else 0
        stored = before.watch if before else {}
        if stored and stored["terms"] != self._terms:
            log.warning(
                "index %s was watched with other settings of its latent terms; reading all of it",
                self._index.name,
            )
            stored = {}
        self._positions = Positions(stored.get("shards"))
        self._noted: dict[str, tuple[str, int]] = {}
        self._new = not stored
        self._asked = 0.0
        self._guard = Guard(self._index, f"watch:{self._index.name}", self._retry)
        pace = Pace(watched.rate, self._stop)
        self._reader = ChangeReader(preparation.index, self._meta, self._retry, pace)

    def run(self, on_progress: Callable[[Any], None] = lambda report: None) -> WatchReport:
        """Follow the index; `on_progress` is called with the report after each look at it.

        Ends if `stop` is called or the engine is away for too long, with the reason in `stopped`.

        Raises:
            Moved: the name stands for another index now.
            InputError: it stands for several indices, or the failures file or the journal cannot be
                written.
        """
        self._on_progress = on_progress
        reason = ""
        self._started = time.monotonic() - self.report.seconds
        try:
            self._guard.put()
            try:
                self._follow()
            finally:
                with suppress(EngineError):
                    self._guard.remove()
        except EngineError as error:
            self._stop_because("interrupted" if self._interrupted else str(error))
        except (Moved, LatentIngestError) as error:
            reason = str(error)
            raise
        finally:
            self._failures.close()
            self._name_failures_file()
            self._note(again=True)
            self._journal.end(reason or self.report.stopped or "interrupted")
        self._progress()
        return self.report

    def _follow(self) -> None:
        target = self._guard.target
        sender = Sender[UpdateAction](self._client, target, self._retry, self._concurrency)
        try:
            while not self._stop.is_set():
                self._look(sender)
                self._stop.wait(self._watched.poll)
        except BaseException:
            self._stop.set()
            raise
        finally:
            sender.close()
        if self._interrupted:
            self._stop_because("interrupted")

    def _look(self, sender: Sender[UpdateAction]) -> None:
        """Ask where the index is, and update what has changed since."""
        state = self._retry.ask(self._state)
        again = self._positions.see(state)
        if again:
            self._guard.put()  # a restored index has the aliases of its snapshot
        for shard in again:
            self.report.restarted += 1
            log.warning(
                "shard %d of index %s does not continue what was read of it (was a snapshot "
                "restored?); reading all of it",
                shard,
                self._index.name,
            )
        self._asked = state.asked
        self._progress()
        if unread := self._positions.unread(state):
            self._check()
            self._reader.refresh()
            pages = self._reader.read(unread, ROUND_SECONDS)
            self._update(self._batches(pages), sender)
        elif self._new:
            self._say_missing()

    def _state(self) -> IndexState:
        """Ask the engine; TryAgain if a shard has not started, Moved if it is another index."""
        index, asked = self._index, self._watched.asked
        try:
            state = IndexState.read(self._client, asked)
        except EngineError as error:
            if isinstance(error.__cause__, NotFoundError):
                raise EngineError(f"{asked} was deleted while it was watched") from error
            raise
        if state.name != index.name:
            raise Moved(f"{asked} stands for index {state.name} now, no longer {index.name}")
        if state.uuid != self._uuid:
            raise EngineError(
                f"index {index.name} was deleted and created again while it was watched; give the "
                f"same command again"
            )
        if len(state.shards) < self._shards:
            started = f"{len(state.shards)} of {self._shards} shards"
            raise TryAgain(f"index {index.name}: only {started} have started")
        return state

    def _check(self) -> None:
        """Raise EngineError if another command has changed what the latent terms are made of."""
        found = self._retry.ask(list_indices, self._client, self._index.name)
        now = deciding(found[0].meta) if found and found[0].stored else {}
        if changed := [name for name in DECIDING if now.get(name) != self._terms[name]]:
            raise EngineError(
                f"index {self._index.name}: another command changed the {changed[0]} of its latent "
                f"terms; give the same command again"
            )

    def _say_missing(self) -> None:
        """Once all of a new index is read, say which fields no document has."""
        self._new = False
        report, name = self.report, self._index.name
        if report.read > report.deleted and not self._texts.found:
            fields = ", ".join(self._meta.text_fields)
            log.warning("no document of index %s has text in %s", name, fields)
        elif self._texts.found:
            for field in self._texts.unseen:
                log.warning("no document of index %s has a field %r", name, field)

    def _taken(self, page: Iterable[Stored], batch: Batch) -> None:
        assert isinstance(page, Changes)
        batch.reached[page.shard] = page.upto

    def _settled(self, batch: Batch) -> None:
        self._positions.reach(batch.reached)

    def _settle(self, outcome: Outcome[UpdateAction]) -> None:
        if outcome.verdict is Verdict.CONFLICT:
            # The later write has a number after those that are being read.
            self.report.conflicts += 1
            self.report.read -= 1
        else:
            super()._settle(outcome)

    def _progress(self) -> None:
        report = self.report
        ended = report.up_to_date + report.encoded + report.deleted + report.failed
        report.left = report.read - ended
        report.seconds = time.monotonic() - self._started
        report.writes_behind = self._positions.writes_behind
        report.as_of = self._positions.as_of
        report.answered = self._asked
        self._note()
        self._on_progress(report)

    def _note(self, *, again: bool = False) -> None:
        """Write the positions into the journal, if they have changed, or `again` in any case."""
        shards = self._positions.to_json()
        read = {shard: (each["history"], each["seq_no"]) for shard, each in shards.items()}
        if not shards or (read == self._noted and not again):
            return
        self._noted = read
        # The journal takes a run without lines for one that has not begun.
        progress = Progress(
            lines=max(1, self._lines + self.report.read),
            report=self._counts(),
            watch={"terms": self._terms, "shards": shards},
        )
        self._journal.note(progress)


def deciding(meta: IndexMeta) -> dict[str, Any]:
    """What decides on the latent terms of a text, as JSON has it."""
    found = {name: getattr(meta, name) for name in DECIDING}
    return {**found, "text_fields": list(meta.text_fields)}
