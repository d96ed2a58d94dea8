"""A request that is too large for the engine goes in halves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


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
