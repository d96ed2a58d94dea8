"""The end after a signal: requests in progress end, new ones are refused, then the server ends."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Protocol

# Seconds that requests in progress have to end.
GRACE_SECONDS = 30

# Seconds in which new requests are answered with 503 at least, before the port is closed.
NOTICE_SECONDS = 1.0

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """What is stopped."""

    stopping: bool
    """Whether new requests are refused."""
    in_progress: int
    """Requests that have begun and not ended."""


class Stop:
    """Keeps signals from a server until nothing is in progress.

    It stands between the signal and the server, so that one server and the workers of several end
    alike.
    """

    def __init__(self, proxy: Stoppable) -> None:
        self._proxy = proxy
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._waiting: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Take signals from the server that runs the current loop, which has begun to."""
        if threading.current_thread() is threading.main_thread():  # others get none
            self._loop = asyncio.get_running_loop()
            self._before = {one: signal.signal(one, self._asked) for one in SIGNALS}

    def ended(self) -> None:
        """Let the process end by itself: uvicorn raises the signal again when it is done, which
        would end a worker without its clean-up, and the only process with another status than 0.
        """
        if self._before and sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def _asked(self, one: int, _frame: FrameType | None) -> None:
        """Begin to end; a second Ctrl-C ends at once. The first one comes to workers twice: from
        the terminal, and as SIGTERM from their parent.
        """
        assert self._loop
        if not self._proxy.stopping:
            self._proxy.stopping = True
            self._loop.call_soon_threadsafe(self._begin)
        elif one == signal.SIGINT:
            self._end()

    def _begin(self) -> None:
        self._waiting = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        """Let balancers notice, and requests end."""
        last = time.monotonic() + GRACE_SECONDS
        await asyncio.sleep(NOTICE_SECONDS)
        while self._proxy.in_progress and time.monotonic() < last:
            await asyncio.sleep(0.1)
        self._end()

    def _end(self) -> None:
        """Hand the signal over to the server."""
        for one, handler in self._before.items():
            signal.signal(one, handler)
        signal.raise_signal(signal.SIGTERM)
