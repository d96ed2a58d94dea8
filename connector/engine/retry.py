"""Retries of requests while an engine is busy, blocked or away. All retries are decided here."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import (
    OpenSearchException,
    SerializationError,
    SSLError,
    TransportError,
)

from latent_ingest.connector.engine.client import in_words, url_of
from latent_ingest.connector.errors import EngineError

Result = TypeVar("Result")

# Seconds of refusals and silence after which a run ends; the same command resumes it.
GIVE_UP_AFTER = 600.0

# Statuses of temporary failures: too busy, or a proxy or node that is away for a moment.
PASSING = frozenset({429, 502, 503, 504})

# Types of errors of an index that refuses writes for now: the disk is full, somebody set a block or
# closed it. An operator fixes it meanwhile.
BLOCKED = frozenset({"cluster_block_exception", "index_closed_exception"})

# Waits before a retry grow to at most 1, 2, 4 ... 60 s, each drawn at random from zero up, so that
# several runs do not retry at the same moment.
WAIT = tenacity.wait_random_exponential(multiplier=1, max=60)

# Seconds between two log records about waiting: a busy engine refuses some requests for hours.
SAY_AGAIN = 60.0

log = logging.getLogger(__name__)


class TryAgain(Exception):
    """The engine refused a part of a request for now: the rest must be sent again."""


class Retry:
    """Repeats a call to the engine until it succeeds, fails for good, or the time is up."""

    def __init__(
        self,
        client: OpenSearch,
        *,
        give_up_after: float = GIVE_UP_AFTER,
        ended: threading.Event | None = None,
    ) -> None:
        """Nothing is called yet. Safe to use from several threads.

        Args:
            client: client of the engine, for its URL in messages.
            give_up_after: seconds from the first failure of a call to the last.
            ended: once this is set, no call is repeated.
        """
        self.ended = ended or threading.Event()
        self.give_up_after = give_up_after
        self._client = client
        self._said = -math.inf

    def __call__(self, call: Callable[..., Result], *args: Any, **named: Any) -> Result:
        """Return what `call` returns for these arguments; log when waiting begins.

        Raises:
            Exception: the last exception of `call`: it is not temporary, or the time is up.
            KeyboardInterrupt: after Ctrl-C, which also ends all later waiting.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.give_up_after)
            | tenacity.stop_when_event_set(self.ended),
            wait=self._wait,
            sleep=tenacity.nap.sleep_using_event(self.ended),
            retry=tenacity.retry_if_exception(passes),
            before_sleep=self._say,
            reraise=True,
        )
        try:
            result: Result = retrying(call, *args, **named)
        except KeyboardInterrupt:
            self.ended.set()
            raise
        return result

    def ask(self, call: Callable[..., Result], *args: Any, **named: Any) -> Result:
        """The same, raising EngineError with a message for users."""
        try:
            return self(call, *args, **named)
        except (OpenSearchException, EngineError, TryAgain) as error:
            raise EngineError(self.in_words(error)) from error

    def in_words(self, error: BaseException) -> str:
        """One line: the last failure of a call, and how long it was repeated."""
        text = self._text(error)
        waited = f"; gave up after {duration(self.give_up_after)}"
        return text + waited if passes(error) and not self.ended.is_set() else text

    def _text(self, error: BaseException) -> str:
        if isinstance(error, OpenSearchException):
            return str(in_words(error, url_of(self._client)))
        return str(error)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds to wait: as the engine asks, or at random; never past the time to give up."""
        left = self.give_up_after - (state.seconds_since_start or 0)
        asked = getattr(failure(state), "retry_after", None) or 0.0
        return min(max(asked, WAIT(state)), max(left, 0.0))

    def _say(self, state: tenacity.RetryCallState) -> None:
        now = time.monotonic()
        if now - self._said >= SAY_AGAIN:
            self._said = now
            text = self._text(failure(state))
            log.warning("%s; trying again for up to %s", text, duration(self.give_up_after))


def refused(error: BaseException) -> bool:
    """Whether the engine itself refused a request, which so has had no effect."""
    if isinstance(error, EngineError) and error.__cause__ is not None:
        return refused(error.__cause__)
    status = error.status_code if isinstance(error, TransportError) else None
    return isinstance(status, int) and 400 <= status < 500


def failure(state: tenacity.RetryCallState) -> BaseException:
    """The exception of the last attempt."""
    error = state.outcome.exception() if state.outcome else None
    assert error is not None
    return error


def passes(error: BaseException) -> bool:
    """Whether a failure is temporary, so that it is worth trying again."""
    if isinstance(error, EngineError) and error.__cause__ is not None:
        return passes(error.__cause__)
    if isinstance(error, NoConnection):  # includes timeouts
        return not isinstance(error, SSLError)
    if isinstance(error, TransportError):
        return error.status_code in PASSING or error.error in BLOCKED
    return isinstance(error, (TryAgain, SerializationError))  # the latter: a truncated answer


def item_passes(result: dict[str, Any]) -> bool:
    """Whether the failure of one item of a bulk answer is temporary."""
    return result["status"] in PASSING or result.get("error", {}).get("type") in BLOCKED


def duration(seconds: float) -> str:
    """Format seconds for people: "45 s", "10 min"."""
    whole: Any = int(seconds) if seconds == int(seconds) else seconds
    return f"{whole // 60} min" if seconds >= 60 and not whole % 60 else f"{whole} s"
