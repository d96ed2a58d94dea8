"""How many requests may be in flight, depending on how busy the engine is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Concurrency:
    """A limit that halves when the engine is too busy, and grows by one per round of requests.

    Additive increase, multiplicative decrease, as in TCP's congestion avoidance (RFC 5681).
    """

    def __init__(self, maximum: int) -> None:
        """Start at the maximum number of concurrent requests."""
        self.maximum = maximum
        self.limit = float(maximum)
        self._in_flight = 0
        self._decreases = 0
        self._changed = threading.Condition()

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Wait until one more request may start; gives the argument for `too_busy`."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight < int(self.limit))
            self._in_flight += 1
            started = self._decreases
        try:
            yield started
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def too_busy(self, started: int) -> None:
        """Halve the limit: the engine turned something away.

        Requests that started before the last decrease cause no second one.

        Args:
            started: number that `slot` gave to the request.
        """
        with self._changed:
            if started == self._decreases:
                self._decreases += 1
                self.limit = max(1.0, self.limit / 2)

    def went_well(self) -> None:
        """Raise the limit a little: the engine accepted a whole request."""
        with self._changed:
            self.limit = min(float(self.maximum), self.limit + 1 / self.limit)
            self._changed.notify_all()
