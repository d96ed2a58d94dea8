"""Waiting for an engine that is busy, blocked or away: the one place where retries are decided."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity
from opensearchpy import OpenSearch
from opensearchpy.exceptions import (
    ConnectionError as NoConnection,
)
from opensearchpy.exceptions import (
    OpenSearchException,
    SerializationError,
    SSLError,
    TransportError,
)

from latent_ingest.connector.engine.client import in_words, retry_after, url_of
from latent_ingest.connector.errors import EngineError

Result = TypeVar("Result")

# Seconds of refusals and silence after which a run ends; the same command then goes on.
GIVE_UP_AFTER = 600.0

# Answers that pass: too busy, or a proxy or node that is away for a moment.
PASSING = frozenset({429, 502, 503, 504})

# What an engine says of an index that takes no writes for now: the disk is full, somebody set a
# block, somebody closed it. An operator mends it while we wait.
BLOCKED = frozenset({"cluster_block_exception", "index_closed_exception"})

# Waits before a retry grow to about 1, 2, 4 ... 60 s, each drawn at random from zero up, so that
# several loaders do not come back at once.
WAIT = tenacity.wait_random_exponential(multiplier=1, max=60)

# Seconds from one line about waiting to the next: an engine that is busy turns something away now
# and then for hours.
SAY_AGAIN = 60.0


class TryAgain(Exception):
    """The engine answered, but not for all: the rest is to be sent again."""


class Retry:
    """Calls the engine again and again, until it answers or it is time to give up."""

    def __init__(
        self,
        client: OpenSearch,
        *,
        give_up_after: float = GIVE_UP_AFTER,
        ended: threading.Event | None = None,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nothing is called yet. Safe to use from several threads.

        Args:
            client: of the engine, for its URL in messages.
            give_up_after: seconds from a call's first failure to its last.
            ended: no call is made again once this is set.
            warn: called with a line when waiting begins, at most once a minute.
        """
        self.ended = ended or threading.Event()
        self._client = client
        self._seconds = give_up_after
        self._warn = warn
        self._said = -math.inf

    def __call__(self, call: Callable[..., Result], *args: Any, **named: Any) -> Result:
        """What `call` returns for these arguments, in the end.

        Raises:
            Exception: the last of `call`, where it is not one that passes, or passed too late.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._seconds)
            | tenacity.stop_when_event_set(self.ended),
            wait=self._wait,
            sleep=tenacity.nap.sleep_using_event(self.ended),
            retry=tenacity.retry_if_exception(passes),
            before_sleep=self._say,
            reraise=True,
        )
        result: Result = retrying(call, *args, **named)
        return result

    def ask(self, call: Callable[..., Result], *args: Any, **named: Any) -> Result:
        """The same, raising EngineError in words."""
        try:
            return self(call, *args, **named)
        except (OpenSearchException, EngineError) as error:
            raise EngineError(self.in_words(error)) from error

    def in_words(self, error: BaseException) -> str:
        """One line for what ended a call."""
        text = self._text(error)
        waited = f"; gave up after {duration(self._seconds)}"
        return text + waited if passes(error) and not self.ended.is_set() else text

    def _text(self, error: BaseException) -> str:
        if isinstance(error, OpenSearchException):
            return str(in_words(error, url_of(self._client)))
        return str(error)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds: what the engine asks for, or at random; never past the time to give up."""
        left = self._seconds - (state.seconds_since_start or 0)
        return min(max(retry_after(failure(state)) or 0.0, WAIT(state)), max(left, 0.0))

    def _say(self, state: tenacity.RetryCallState) -> None:
        now = time.monotonic()
        if now - self._said >= SAY_AGAIN:
            self._said = now
            text = self._text(failure(state))
            self._warn(f"{text}; trying again for up to {duration(self._seconds)}")


def failure(state: tenacity.RetryCallState) -> BaseException:
    """What the last attempt raised."""
    error = state.outcome.exception() if state.outcome else None
    assert error is not None
    return error


def passes(error: BaseException) -> bool:
    """Whether it is worth trying again."""
    if isinstance(error, EngineError) and error.__cause__ is not None:
        return passes(error.__cause__)
    if isinstance(error, NoConnection):  # timeouts too
        return not isinstance(error, SSLError)
    if isinstance(error, TransportError):
        return error.status_code in PASSING or error.error in BLOCKED
    return isinstance(error, (TryAgain, SerializationError))  # the latter: half an answer


def item_passes(result: dict[str, Any]) -> bool:
    """The same of one item of a bulk answer."""
    return result["status"] in PASSING or result.get("error", {}).get("type") in BLOCKED


def duration(seconds: float) -> str:
    """Seconds for a person: "45 s", "10 min"."""
    whole: Any = int(seconds) if seconds == int(seconds) else seconds
    return f"{whole // 60} min" if seconds >= 60 and not whole % 60 else f"{whole} s"
