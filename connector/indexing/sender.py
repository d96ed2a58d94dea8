"""Requests to the engine, several at once, until every document has an outcome.

Bulk actions → bulk requests; and how each document ended.

A request that is too large for the engine goes in halves.

How many requests may be under way at once.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Any, Protocol, TypeVar

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError

from latent_ingest.connector.corpus import Document
from latent_ingest.connector.engine.client import reason_in
from latent_ingest.connector.engine.retry import Retry, TryAgain, item_passes
from latent_ingest.connector.indexing.actions import Action, superseded

# Requests at once; opensearch-py's own parallel helper takes as many.
CONCURRENCY = 4

# All that is needed of an answer, which otherwise is as long as the ids are.
ANSWER = "items.*.status,items.*.error"

# What managed serverless collections say to an `_id`.
REFUSES_IDS = "document id is not supported"

NO_INDEX = "index_not_found_exception"


class Verdict(Enum):
    """What the engine's answer for an item means; of several, the one furthest down counts."""

    INDEXED = auto()
    AGAIN = auto()
    REJECTED = auto()
    END = auto()
    """It refuses all of them, for good."""


class TheEnd(Exception):
    """The engine refuses all documents, for good; one line says why."""


class Sender:
    """Sends requests from threads of its own."""

    def __init__(
        self,
        client: OpenSearch,
        target: dict[str, Any],
        retry: Retry,
        concurrency: int = CONCURRENCY,
    ) -> None:
        """Start the threads.

        Args:
            client: of the engine.
            target: parameters of each bulk request, which name the index.
            retry: for answers that pass; once its `ended` is set, nothing more is sent.
            concurrency: requests at once, at most; fewer while the engine is too busy.
        """
        self._client = client
        self._target = target
        self._retry = retry
        self.concurrency = Concurrency(concurrency)
        self._most_bytes = concurrency * MAX_BYTES
        self._halving = Halving()
        self._why = "interrupted"
        self._changed = threading.Condition()
        self._bytes = 0
        self._ids: set[str] = set()
        self._requests: queue.SimpleQueue[tuple[Sequence[Action], Future[list[Outcome]]] | None] = (
            queue.SimpleQueue()
        )
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Sequence[Action]) -> Future[list[Outcome]]:
        """Send it when its turn comes; gives one outcome a document, in the request's order.

        Waits while too much is under way, in bytes, or a document with one of the request's ids
        is, so that of two documents with one id the later wins.
        """
        size = size_of(request)
        ids = {action.document.id for action in request}

        def turn() -> bool:
            fits = not self._bytes or self._bytes + size <= self._most_bytes
            return self._retry.ended.is_set() or (fits and self._ids.isdisjoint(ids))

        with self._changed:
            while not self._changed.wait_for(turn, timeout=0.2):
                pass
            self._bytes += size
            self._ids |= ids
        future: Future[list[Outcome]] = Future()
        self._requests.put((request, future))
        return future

    def close(self) -> None:
        """Wait until all that was submitted has its outcome."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._requests.get()) is not None:
            request, future = item
            try:
                future.set_result(self._send(request))
            except BaseException as error:
                future.set_exception(error)
            with self._changed:
                self._bytes -= size_of(request)
                self._ids -= {action.document.id for action in request}
                self._changed.notify_all()

    def _send(self, request: Sequence[Action]) -> list[Outcome]:
        """Every document's outcome; a request too large (413) is halved, and so are later ones."""
        outcomes: dict[int, Outcome] = {}

        def refuse(action: Action, reason: str) -> None:
            outcomes[action.document.line] = Outcome(action.document, reason)

        self._halving(request, lambda part: self._send_part(part, outcomes), refuse)
        return [outcomes[action.document.line] for action in request]

    def _send_part(self, part: Sequence[Action], outcomes: dict[int, Outcome]) -> None:
        """Send until each document has its outcome, or it is time to give up."""
        pending = list(part)

        def once() -> None:
            again, why = self._send_once(pending, outcomes)
            pending[:] = again
            if again:
                raise TryAgain(f"the engine turns documents away ({why})")

        try:
            if not self._retry.ended.is_set():
                self._retry(once)
        except TheEnd as error:
            self._end(str(error))
        except TransportError as error:
            if error.status_code == 413:
                raise TooLarge from error
            self._end(self._retry.in_words(error))
        except (OpenSearchException, TryAgain) as error:
            self._end(self._retry.in_words(error))
        for action in pending:
            unsent = Outcome(action.document, self._why, sent=False)
            outcomes.setdefault(action.document.line, unsent)

    def _send_once(
        self, part: Sequence[Action], outcomes: dict[int, Outcome]
    ) -> tuple[list[Action], str]:
        """One request; adds what ended to `outcomes`, returns what did not and why."""
        body = b"".join(action.body for action in part)
        with self.concurrency.slot() as begun:
            try:
                answer = self._client.bulk(body=body, filter_path=ANSWER, **self._target)
            except TransportError as error:
                if error.status_code == 429:
                    self.concurrency.too_busy(begun)
                raise
        items = answer.get("items", []) if isinstance(answer, dict) else []
        expected = sum(action.items for action in part)
        if len(items) != expected:
            raise TryAgain(f"the engine answered for {len(items)} of {expected} documents")
        answers = iter(items)
        again: list[Action] = []
        why = ""
        for action in part:
            results = [next(iter(item.values())) for item in islice(answers, action.items)]
            result = max(results, key=lambda result: verdict(action, result).value)
            match verdict(action, result):
                case Verdict.INDEXED:
                    outcomes[action.document.line] = Outcome(action.document)
                case Verdict.REJECTED:
                    reason = reason_in(result["error"])
                    outcomes[action.document.line] = Outcome(action.document, reason)
                case Verdict.AGAIN:
                    again.append(action)
                    why = f"{result['status']}: {reason_in(result['error'])}"
                    if result["status"] == 429:
                        self.concurrency.too_busy(begun)
                case Verdict.END:
                    raise TheEnd(last_words(result))
        if not again:
            self.concurrency.went_well()
        return again, why

    def _end(self, why: str) -> None:
        if not self._retry.ended.is_set():
            self._why = why
            self._retry.ended.set()


def verdict(action: Action, result: dict[str, Any]) -> Verdict:
    """What to do after one item of a bulk answer."""
    error = result.get("error")
    if error is None or (result["status"] == 409 and superseded(action, error)):
        return Verdict.INDEXED
    if item_passes(result):
        return Verdict.AGAIN
    if result["status"] in (401, 403) or error.get("type") == NO_INDEX or refuses_ids(error):
        return Verdict.END
    return Verdict.REJECTED


def last_words(result: dict[str, Any]) -> str:
    """Why the engine refuses all documents, and what to do."""
    reason = reason_in(result["error"])
    if result["error"].get("type") == NO_INDEX:
        return f"the index was deleted while it was being loaded ({reason}); begin again"
    if refuses_ids(result["error"]):
        return (
            f"this collection refuses ids ({reason}); delete the index and ingest with "
            f"--ids engine, or use another index"
        )
    return f"the engine forbids this ({reason}); ask for the rights"


def refuses_ids(error: dict[str, Any]) -> bool:
    """Whether no document with an id of ours is taken."""
    return REFUSES_IDS in str(error.get("reason")).lower()


# A request holds at most this many documents and bytes; one document larger than that goes
# alone. 5 to 10 MB is the useful size; the engine refuses above 100 MB.
MAX_DOCUMENTS = 500
MAX_BYTES = 5_000_000


class Sendable(Protocol):
    """What becomes a part of a bulk request."""

    @property
    def id(self) -> str:
        """Of the document."""

    @property
    def body(self) -> bytes:
        """Its lines."""


One = TypeVar("One", bound=Sendable)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a document ended."""

    document: Document
    reason: str | None = None
    """Why it is not indexed; none when it is."""
    sent: bool = True
    """Whether the engine has answered for it; without that it may be indexed, or not."""


def requests(actions: Sequence[One]) -> Iterator[list[One]]:
    """Cut actions into requests by count and bytes; no request has the same id twice.

    So that of two documents with one id the later wins, whichever of them is retried.
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


class HasBody(Protocol):
    """Lines of a bulk request that stay together."""

    @property
    def body(self) -> bytes: ...


Item = TypeVar("Item", bound=HasBody)


class TooLarge(Exception):
    """413: the request has too many bytes."""


class Halving:
    """Remembers what was too large, so that later requests are halved before they are sent."""

    def __init__(self) -> None:
        self._too_large: int | None = None

    def __call__(
        self,
        request: Sequence[Item],
        send: Callable[[list[Item]], None],
        refuse: Callable[[Item, str], None],
    ) -> None:
        """Send all of a request, in as many parts as it takes.

        Args:
            request: what is to be sent, in order.
            send: sends a part; raises TooLarge.
            refuse: called with an item that is too large alone, and why.
        """
        parts = deque([list(request)])
        while parts:
            part = parts.popleft()
            size = size_of(part)
            if len(part) == 1 or self._too_large is None or size < self._too_large:
                try:
                    send(part)
                    continue
                except TooLarge:
                    if len(part) == 1:
                        reason = (
                            f"too large for the engine: {size:,} bytes (http.max_content_length)"
                        )
                        refuse(part[0], reason)
                        continue
                    self._too_large = min(size, self._too_large or size)
            middle = len(part) // 2
            parts.extendleft([part[middle:], part[:middle]])


def size_of(request: Sequence[HasBody]) -> int:
    """Bytes of its body."""
    return sum(len(item.body) for item in request)


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
