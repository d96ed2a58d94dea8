"""Positions of an index that is watched, without an engine."""

from __future__ import annotations

import threading
import time

from latent_ingest.connector.indexing.outcomes import WatchReport
from latent_ingest.connector.indexing.watching.changes import Pace
from latent_ingest.connector.indexing.watching.positions import IndexState, Positions, ShardState


def state(asked: float, *shards: tuple[int, int], history: str = "h") -> IndexState:
    """A state with the latest and the last final write of each shard."""
    found = {n: ShardState(history, *numbers) for n, numbers in enumerate(shards)}
    return IndexState("shop", "uuid", asked, found)


def test_what_is_unread_ends_at_the_last_final_write() -> None:
    positions = Positions()
    now = state(100.0, (9, 7), (-1, -1))
    assert positions.see(now) == []
    assert positions.unread(now) == {0: (-1, 7)}
    assert positions.writes_behind == 10
    positions.reach({0: 7})
    assert positions.unread(now) == {}
    assert positions.writes_behind == 2
    # A new primary copy may know less of what is final.
    assert positions.unread(state(101.0, (9, 6), (-1, -1))) == {}


def test_the_lag_in_seconds_is_since_the_oldest_write_that_was_not_read() -> None:
    positions = Positions()
    positions.see(state(100.0, (9, 9)))
    assert positions.as_of == 100.0
    positions.reach({0: 9})
    positions.see(state(101.0, (9, 9)))
    positions.see(state(102.0, (12, 9)))  # written after 101
    positions.see(state(103.0, (15, 12)))
    positions.see(state(104.0, (15, 15)))
    assert positions.as_of == 101.0
    positions.reach({0: 11})
    assert positions.as_of == 101.0
    positions.reach({0: 12})
    assert positions.as_of == 102.0
    positions.reach({0: 15})
    assert positions.as_of == 104.0, "nothing was written between 103 and 104"
    report = WatchReport(writes_behind=1, as_of=time.time() - 5)
    assert 5 <= report.seconds_behind < 6
    report.writes_behind = 0
    assert report.seconds_behind == 0


def test_the_shard_that_is_most_behind_counts() -> None:
    positions = Positions()
    positions.see(state(100.0, (1, 1), (1, 1)))
    positions.reach({0: 1, 1: 1})
    positions.see(state(110.0, (1, 1), (5, 5)))
    assert positions.as_of == 100.0
    assert positions.writes_behind == 4


def test_positions_are_stored() -> None:
    positions = Positions()
    positions.see(state(100.0, (9, 7), (3, 3)))
    positions.reach({0: 7})
    again = Positions(positions.to_json())
    now = state(200.0, (9, 9), (3, 3))
    assert again.see(now) == []
    assert again.unread(now) == {0: (7, 9), 1: (-1, 3)}
    assert again.as_of == 100.0


def test_a_shard_with_another_history_is_read_from_its_start() -> None:
    positions = Positions()
    positions.see(state(100.0, (9, 9), (9, 9)))
    positions.reach({0: 9, 1: 9})
    restored = IndexState(
        "shop", "uuid", 101.0, {0: ShardState("h", 9, 9), 1: ShardState("i", 12, 12)}
    )
    assert positions.see(restored) == [1]
    assert positions.unread(restored) == {1: (-1, 12)}
    assert positions.see(restored) == []
    starting = IndexState("shop", "uuid", 101.5, {0: ShardState("", 9, 9)})
    assert positions.see(starting) == [], "it does not tell its history yet"
    assert positions.see(restored) == []
    shorter = state(102.0, (5, 5))
    assert positions.see(shorter) == [0], "fewer writes than were read"
    assert positions.unread(shorter) == {0: (-1, 5)}


def test_a_pace_is_kept_and_its_wait_is_ended() -> None:
    ended = threading.Event()
    pace = Pace(100, ended)
    began = time.monotonic()
    for _ in range(4):
        pace.wait(10)
    assert 0.35 < time.monotonic() - began < 2
    ended.set()
    began = time.monotonic()
    pace.wait(1000)
    assert time.monotonic() - began < 0.3
    began = time.monotonic()
    Pace(None, threading.Event()).wait(10**9)
    assert time.monotonic() - began < 0.3
    assert Pace(3, ended).most == 3
