"""How many requests may be under way at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Concurrency:
    """A limit that falls by half when the engine is too busy, and climbs back by one a round.

    Additive increase, multiplicative decrease, as in TCP's congestion avoidance (RFC 5681).
    """

    def __init__(self, most: int) -> None:
        """Begin at the most.

        Args:
            most: requests at once that the limit never passes.
        """
        self.most = most
        self.limit = float(most)
        self._under_way = 0
        self._falls = 0
        self._changed = threading.Condition()

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Wait until one more request may go; gives what `too_busy` wants to know."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < int(self.limit))
            self._under_way += 1
            begun = self._falls
        try:
            yield begun
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def too_busy(self, begun: int) -> None:
        """The engine turned something away. Requests sent before a fall make no second one.

        Args:
            begun: what `slot` gave to the request that was turned away.
        """
        with self._changed:
            if begun == self._falls:
                self._falls += 1
                self.limit = max(1.0, self.limit / 2)

    def went_well(self) -> None:
        """The engine took a request whole."""
        with self._changed:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
            self._changed.notify_all()
