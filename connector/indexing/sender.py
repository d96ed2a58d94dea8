"""Bulk requests, several at once: actions → requests → one outcome per action.

An action reads the engine's answer itself (`Action.verdict`); the sender decides how many requests
are in flight, what is retried, and when a run has to end.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError

from latent_ingest.connector.engine.client import reason_in
from latent_ingest.connector.engine.concurrency import Concurrency
from latent_ingest.connector.engine.retry import Retry, TryAgain
from latent_ingest.connector.indexing.actions import (
    Action,
    Verdict,
    failed_reason,
    fatal_reason,
    with_loss,
)

log = logging.getLogger(__name__)

# Concurrent requests; the default of opensearch-py's own parallel helper.
CONCURRENCY = 4

# Limits of a request; a single document that is larger is sent alone. Requests of 5 to 10 MB are
# efficient; the engine refuses those above 100 MB.
MAX_DOCUMENTS = 500
MAX_BYTES = 5_000_000

# The parts of an answer that are read: what became of each document, and where it is.
ANSWER = ",".join(f"items.*.{part}" for part in ("status", "error", "result", "_index", "_id"))

One = TypeVar("One", bound=Action)
Batch = TypeVar("Batch", bound="HasActions")


class HasActions(Protocol):
    """A batch, once it is encoded."""

    @property
    def actions(self) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Outcome(Generic[One]):
    """How an action ended."""

    action: One
    verdict: Verdict | None
    """DONE, CONFLICT, DELETED or FAILED. None if the engine has not answered: the action may have
    taken effect or not."""
    reason: str | None = None
    """The engine's words if it failed; why the run ended if it was not sent."""


class Fatal(Exception):
    """The engine refuses all documents for good; the message says why."""


class Sender(Generic[One]):
    """Sends requests from its own threads."""

    def __init__(
        self,
        client: OpenSearch,
        target: dict[str, Any],
        retry: Retry,
        concurrency: int = CONCURRENCY,
        index: str | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            client: connection to the engine.
            target: parameters of each bulk request, which name the index.
            retry: retries temporary failures; once its `ended` is set, nothing more is sent.
            concurrency: maximum number of concurrent requests; fewer while the engine is busy.
            index: own name of the index, which documents must not leave; None does not look.
        """
        self._client = client
        self._target = target
        self._places = (index, str(target["index"])) if index else ()
        self._retry = retry
        self.concurrency = Concurrency(concurrency)
        self._max_bytes = concurrency * MAX_BYTES
        self._too_large: int | None = None
        self._why = "interrupted"
        self._changed = threading.Condition()
        self._bytes = 0
        self._ids: set[str] = set()
        self._pool = ThreadPoolExecutor(concurrency)

    def submit(self, request: list[One]) -> Future[list[Outcome[One]]]:
        """Queue a request; the future holds one outcome per action, in the request's order.

        Blocks while too many bytes are in flight, or an action with one of the request's ids is:
        of two documents with the same id the later one wins.
        """
        size = size_of(request)
        ids = {action.id for action in request}

        def may_start() -> bool:
            fits = not self._bytes or self._bytes + size <= self._max_bytes
            return self._retry.ended.is_set() or (fits and self._ids.isdisjoint(ids))

        with self._changed:
            while not self._changed.wait_for(may_start, timeout=0.2):
                pass
            self._bytes += size
            self._ids |= ids
        future = self._pool.submit(self._send, request)

        def release(_: Any) -> None:
            with self._changed:
                self._bytes -= size
                self._ids -= ids
                self._changed.notify_all()

        future.add_done_callback(release)
        return future

    def submit_batches(
        self, batches: Generator[Batch]
    ) -> Generator[tuple[Batch, list[Future[list[Outcome[One]]]]]]:
        """Queue the actions of each batch; gives the batch with the futures of its requests.

        Ends when the run ends, and closes `batches`.
        """
        with closing(batches):
            for batch in batches:
                yield batch, [self.submit(request) for request in requests(batch.actions)]
                if self._retry.ended.is_set():
                    return

    def close(self) -> None:
        """Wait until every action that was submitted has its outcome."""
        self._pool.shutdown()

    def _send(self, request: Sequence[One]) -> list[Outcome[One]]:
        """Send a request; if it is too large (413), it is halved, and so are later ones."""
        outcomes: dict[str, Outcome[One]] = {}
        parts = deque([list(request)])
        while parts:
            part = parts.popleft()
            size = size_of(part)
            if len(part) == 1 or self._too_large is None or size < self._too_large:
                if self._send_part(part, outcomes):
                    continue
                if len(part) == 1:
                    why = f"too large for the engine: {size:,} bytes (http.max_content_length)"
                    outcomes[part[0].id] = Outcome(part[0], Verdict.FAILED, why)
                    continue
                self._too_large = min(size, self._too_large or size)
            middle = len(part) // 2
            parts.extendleft([part[middle:], part[:middle]])
        return [outcomes[action.id] for action in request]

    def _send_part(self, part: Sequence[One], outcomes: dict[str, Outcome[One]]) -> bool:
        """Send until each action has its outcome, or give up; False if the part is too large."""
        pending = list(part)
        try:
            if not self._retry.ended.is_set():
                self._retry(self._send_once, pending, outcomes)
        except (OpenSearchException, TryAgain, Fatal) as error:
            if isinstance(error, TransportError) and error.status_code == 413:
                return False
            if not self._retry.ended.is_set():
                self._why = self._retry.in_words(error)
                self._retry.ended.set()
        for action in pending:
            outcomes[action.id] = Outcome(action, None, self._why)
        return True

    def _send_once(self, pending: list[One], outcomes: dict[str, Outcome[One]]) -> None:
        """Send one request; `pending` loses the actions that ended.

        Raises TryAgain if some are left, or Fatal if no document will ever be accepted.
        """
        left: list[One] = []
        fatal = why = None
        with self.concurrency.slot() as started:
            try:
                results = self._ask(pending)
            except TransportError as error:
                if error.status_code == 429:
                    self.concurrency.too_busy(started)
                raise
        for action, result in results:
            verdict = action.verdict(result)
            if verdict is Verdict.FATAL:
                fatal = fatal or fatal_reason(result)
                left.append(action)
            elif verdict is Verdict.AGAIN:
                why = f"{result['status']}: {reason_in(result['error'])}"
                left.append(action)
                if result["status"] == 429:
                    self.concurrency.too_busy(started)
            else:
                reason = failed_reason(result) if verdict is Verdict.FAILED else None
                outcomes[action.id] = Outcome(action, verdict, reason)
        pending[:] = left
        if fatal:
            raise Fatal(fatal)
        if left:
            raise TryAgain(f"the engine refuses documents for now ({why})")
        self.concurrency.went_well()

    def _ask(self, actions: Sequence[One]) -> list[tuple[One, dict[str, Any]]]:
        """Send one request; returns each action with the item of the answer that decides on it."""
        body = b"".join(action.body for action in actions)
        answer = self._client.bulk(body=body, filter_path=ANSWER, **self._target)
        items = answer.get("items", []) if isinstance(answer, dict) else []
        expected = sum(action.n_answers for action in actions)
        if len(items) != expected:
            raise TryAgain(f"the engine answered for {len(items)} of {expected} documents")
        results = (next(iter(item.values())) for item in items)
        return [(one, max(self._read(one, results), key=one.verdict)) for one in actions]

    def _read(self, action: One, results: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The items that answer an action."""
        for number, result in enumerate(islice(results, action.n_answers)):
            yield with_loss(action, number, result, self._places)


def requests(actions: Sequence[One]) -> Iterator[list[One]]:
    """Group actions into requests by count and bytes; no request has the same id twice.

    So of two documents with one id the later wins, whichever of them is retried.
    """
    request: list[One] = []
    size = 0
    ids: set[str] = set()
    for action in actions:
        full = len(request) >= MAX_DOCUMENTS or size + len(action.body) > MAX_BYTES
        if request and (full or action.id in ids):
            yield request
            request, size, ids = [], 0, set()
        request.append(action)
        size += len(action.body)
        ids.add(action.id)
    if request:
        yield request


def size_of(request: Sequence[Action]) -> int:
    """Bytes of a request's body."""
    return sum(len(action.body) for action in request)
