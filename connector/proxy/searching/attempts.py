"""A search that is sent until its indices stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latent_ingest.connector.proxy.messages import Exchange, without
from latent_ingest.connector.proxy.upstream import Answer

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

# Bytes of the longest answer that is looked at for hits of other indices.
MAX_ANSWER = 64_000_000

# Times that a search is sent while its index keeps moving.
ROUNDS = 3

# Status codes after which an index is looked up again: it is gone, or may not be named.
MOVED = (403, 404)


class Attempts:
    """Requests to the engine, of which the answer to the last one is for the client."""

    def __init__(self, proxy: Proxy, exchange: Exchange) -> None:
        self._proxy = proxy
        self._exchange = exchange
        self._answer: Answer | None = None
        self.status = 0
        self.content = b""
        """The beginning of the answer, or all of it."""

    async def __aenter__(self) -> Attempts:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._answer:
            self._answer.close()

    async def send(self, target: str, content: bytes, *, read: bool) -> bool:
        """Send a request; return whether the whole answer was read.

        It is if `read`, unless it is very long; and if the index may have moved.
        """
        if self._answer:
            self._answer.close()
        headers = self._proxy.json_headers(self._exchange)
        if read:
            headers = without(headers, b"accept-encoding")
        self._answer = await self._proxy.send(self._exchange, target, headers, content, again=True)
        self.status = self._answer.status
        self.content = b""
        if not read and self.status not in MOVED:
            return False
        parts = []
        size = 0
        async for chunk in self._answer.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER:
                break
        self.content = b"".join(parts)
        return size <= MAX_ANSWER

    async def relay(self) -> None:
        """Send the last answer to the client."""
        assert self._answer
        await self._proxy.relay(self._exchange, self._answer, self.content)
