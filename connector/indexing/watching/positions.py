"""Where the shards of an index are: how far they are written, and how far that has been read.

The engine numbers the writes to each shard: an insert, update or delete has the next `_seq_no`. A
document has that of its latest write. Writes up to the shard's global checkpoint are on all copies
that can become the primary one, and are final.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import TryAgain
from latent_ingest.connector.errors import InputError

# The parts of the engine's statistics that are read.
WANTED = ",".join(
    f"indices.*.{part}"
    for part in (
        "uuid",
        "shards.*.routing.primary",
        "shards.*.seq_no.max_seq_no",
        "shards.*.seq_no.global_checkpoint",
        "shards.*.commit.user_data.history_uuid",
    )
)


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard as the engine describes it."""

    history: str
    """Changes if later writes do not continue those before: a snapshot was restored, or a copy that
    had missed writes was made the primary one. Empty if the engine does not tell."""
    written: int
    """Number of the latest write; -1 if there is none."""
    final: int
    """The global checkpoint."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """The shards of one index at one moment."""

    name: str
    """Name of the index itself."""
    uuid: str
    asked: float
    """Unix time in seconds before the engine was asked."""
    shards: dict[int, ShardState]

    @classmethod
    def read(cls, client: OpenSearch, name: str) -> IndexState:
        """Ask for the index that a name or alias stands for; shards that have not started lack.

        Raises InputError if it stands for several, EngineError, and TryAgain if no shard has
        started.
        """
        asked = time.time()
        with engine_errors(client):
            answer = client.indices.stats(
                index=name, metric="docs", params={"level": "shards", "filter_path": WANTED}
            )
        found = answer.get("indices", {})
        if len(found) > 1:
            raise InputError(f"{name} stands for {len(found)} indices ({', '.join(found)}) now")
        if not found:
            raise TryAgain(f"index {name} has no shard that has started")
        ((own, content),) = found.items()
        states = {
            int(number): ShardState(
                history=copy.get("commit", {}).get("user_data", {}).get("history_uuid", ""),
                written=copy["seq_no"]["max_seq_no"],
                final=copy["seq_no"]["global_checkpoint"],
            )
            for number, copies in content.get("shards", {}).items()
            for copy in copies
            if copy["routing"]["primary"] and "seq_no" in copy
        }
        return cls(own, content["uuid"], asked, states)


@dataclass(slots=True)
class Position:
    """How far one shard has been read."""

    history: str
    seq_no: int = -1
    """All documents whose latest write has this number or a smaller one have their latent terms."""
    as_of: float = field(default_factory=time.time)
    """Unix time in seconds: the same holds for all writes before then."""
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    """Times and the latest write then, of what has not been read to its end."""
    written: int = -1

    def continues(self, now: ShardState) -> bool:
        """Whether the writes to the shard go on from those that were read."""
        # A shard that is starting may not tell its history.
        same = now.history == self.history or not now.history or not self.history
        return same and now.written >= self.seq_no

    def see(self, asked: float, now: ShardState) -> None:
        """Note how far the shard was written when the engine was asked."""
        self.history = self.history or now.history
        self.written = now.written
        if self.seen and self.seen[-1][1] == now.written:
            self.seen.pop()
        self.seen.append((asked, now.written))
        self._advance()

    def reach(self, seq_no: int) -> None:
        """Note that the shard has been read up to here."""
        self.seq_no = max(self.seq_no, seq_no)
        self._advance()

    def _advance(self) -> None:
        while self.seen and self.seen[0][1] <= self.seq_no:
            self.as_of = self.seen.popleft()[0]


class Positions:
    """How far each shard of an index has been read."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        """Begin where `to_json` was, or before the first write."""
        self._shards = {
            int(shard): Position(**position) for shard, position in (stored or {}).items()
        }

    def see(self, state: IndexState) -> list[int]:
        """Take note of what the engine says.

        Returns the shards that are read from their first write again: their history has changed,
        or ends before what was read.
        """
        again = []
        for shard, now in state.shards.items():
            position = self._shards.get(shard)
            if position and not position.continues(now):
                again.append(shard)
                position = None
            if position is None:
                position = self._shards[shard] = Position(now.history, as_of=state.asked)
            position.see(state.asked, now)
        return again

    def unread(self, state: IndexState) -> dict[int, tuple[int, int]]:
        """Shard → number after which, and up to which, its writes have not been read."""
        return {
            shard: (self._shards[shard].seq_no, now.final)
            for shard, now in state.shards.items()
            if now.final > self._shards[shard].seq_no
        }

    def reach(self, reached: Mapping[int, int]) -> None:
        """Note shards that have been read up to a write."""
        for shard, seq_no in reached.items():
            self._shards[shard].reach(seq_no)

    @property
    def writes_behind(self) -> int:
        """Writes that have not been read, when the engine was last asked."""
        return sum(max(0, each.written - each.seq_no) for each in self._shards.values())

    @property
    def as_of(self) -> float:
        """Unix time in seconds: all documents written before have their latent terms."""
        return min((each.as_of for each in self._shards.values()), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """The positions, to be stored."""
        return {
            str(shard): {"history": each.history, "seq_no": each.seq_no, "as_of": each.as_of}
            for shard, each in self._shards.items()
        }
