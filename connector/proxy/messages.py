"""A request of a client and the answer to it: limited bodies, headers, errors as engines write."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import anyio

from latent_ingest.connector.proxy.upstream import Headers, end_to_end

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Media types of JSON, and of lines of JSON, also as the clients of Elasticsearch 8 name them.
JSON_TYPE = re.compile(
    rb"application/(vnd\.elasticsearch\+)?(json|x-ndjson)\s*(;.*)?", re.IGNORECASE
)

# Longest reason in a header, in letters.
LONGEST_REASON = 300

DONE = b"x-latent"


class ClientGone(Exception):
    """The client has closed the connection, or sends nothing more."""


class Refused(Exception):
    """A request that is answered here, in the engine's error shape."""

    def __init__(self, status: int, kind: str, reason: str, headers: Headers | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind
        self.headers = headers or []


def error_body(status: int, kind: str, reason: str) -> bytes:
    """Return an error in the shape in which engines write theirs."""
    cause = {"type": kind, "reason": reason}
    return json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}).encode()


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, timeout: float) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["raw_path"].decode("latin-1")
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers: Headers = scope["headers"]
        self.started = time.monotonic()
        self.status = 0
        self.sent = 0
        """Bytes of the answer's body."""
        self.kind = "other"
        """Kind of the request, for metrics."""
        self.outcome = "passed"
        """What was done with it, for metrics."""
        self.notes: Headers = []
        """Headers of the answer about what was done."""
        self.taken = b""
        """What `read` has taken of the body, as it came."""
        self._receive = receive
        self._send = send
        self._timeout = timeout
        self.ended = False

    @property
    def target(self) -> str:
        """The raw path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header; its name is in lower case."""
        return next((value for other, value in self.headers if other == name), None)

    def word(self, name: bytes) -> str:
        """Return a header's value as a word in lower case; empty if it is missing."""
        return (self.header(name) or b"").decode("latin-1").strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON or lines of JSON, by its media type."""
        return JSON_TYPE.fullmatch(self.raw_type) is not None

    @property
    def raw_type(self) -> bytes:
        """The media type of the body."""
        return (self.header(b"content-type") or b"").strip()

    def done(self, what: str, *parts: str) -> None:
        """Say in a header of the answer what was done."""
        self.outcome = what
        self.notes.append((DONE, one_line("; ".join([what, *parts]))))

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raises ClientGone."""
        while not self.ended:
            try:
                with anyio.fail_after(self._timeout):
                    message = await self._receive()
            except TimeoutError as error:
                raise Refused(408, "timeout_exception", "the request body did not come") from error
            if message["type"] == "http.disconnect":
                raise ClientGone
            self.ended = not message.get("more_body")
            if chunk := message.get("body"):
                yield chunk

    async def read(self, most: int) -> tuple[bytes, bool]:
        """Return the body, and whether that is all; if it is longer than `most`, its beginning."""
        parts, size = [], 0
        async for chunk in self.body():
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                break
        self.taken = b"".join(parts)
        return self.taken, self.ended

    @property
    def has_body(self) -> bool:
        """Whether the request has a body."""
        length = self.header(b"content-length")
        return length not in (None, b"0") or self.header(b"transfer-encoding") is not None

    def parameters(self) -> dict[str, str] | None:
        """Return the parameters of the URL; None if one is there twice."""
        pairs = parse_qsl(self.query, keep_blank_values=True)
        found = dict(pairs)
        return found if len(found) == len(pairs) else None

    async def answer(self, status: int, headers: Headers, content: bytes) -> None:
        """Send a whole answer."""
        dropped = (b"content-length",)
        length = (b"content-length", str(len(content)).encode())
        kept = [header for header in headers if header[0] not in dropped]
        if self.method == "HEAD":
            content = b""
        await self.start(status, [*kept, length])
        await self.write(content, more=False)

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers, with the notes."""
        self.status = status
        own = [] if status in (401, 403) else self.notes
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *own]}
        )

    async def write(self, content: bytes, *, more: bool) -> None:
        """Send a part of the body; a client that takes nothing for too long is gone."""
        self.sent += len(content)
        message = {"type": "http.response.body", "body": content, "more_body": more}
        try:
            with anyio.fail_after(self._timeout):
                await self._send(message)
        except TimeoutError as error:
            raise ClientGone from error

    async def refuse(self, refused: Refused) -> None:
        """Answer with an error, unless an answer has begun."""
        if self.status:
            raise ClientGone
        content = error_body(refused.status, refused.kind, str(refused))
        json_type = (b"content-type", b"application/json; charset=UTF-8")
        await self.answer(refused.status, [json_type, *refused.headers], content)


def one_line(text: str) -> bytes:
    """Return a text as the value of a header."""
    printable = "".join(letter if " " <= letter <= "~" else " " for letter in text)
    return " ".join(printable.split())[:LONGEST_REASON].encode()


def without(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> Headers:
    """Return headers without some; names are in lower case."""
    return [header for header in headers if header[0] not in names]


def forwarded(exchange: Exchange, dropped: frozenset[bytes], *, address: bool) -> Headers:
    """Return the headers of a request that the engine gets, perhaps with the client's address.

    What a caller says of its own address, or of a user whom a proxy has let in, is not believed.
    """
    kept = [header for header in end_to_end(exchange.headers) if header[0] not in dropped]
    client = exchange.scope.get("client")
    if address and client:
        kept.append((b"x-forwarded-for", client[0].encode()))
    return kept
