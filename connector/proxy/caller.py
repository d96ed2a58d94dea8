"""Who asks, and a client that reads about indices with the caller's rights."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Collection, Mapping
from concurrent.futures import TimeoutError as NotInTime  # another one before Python 3.11
from typing import Any
from urllib.parse import urlencode

from opensearchpy import JSONSerializer, OpenSearch
from opensearchpy.exceptions import HTTP_EXCEPTIONS, ConnectionTimeout, TransportError
from opensearchpy.exceptions import ConnectionError as NoConnection

from latent_ingest.connector.engine.login import Login
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.proxy.messages import one_line
from latent_ingest.connector.proxy.upstream import Headers, Unreachable, Upstream

# Headers by which engines know who asks, and what they may do. An engine that reads another one, as
# OpenSearch does with `jwt_header`, needs `--login-header`.
LOGIN_HEADERS = frozenset(
    {
        b"authorization",
        b"es-security-runas-user",
        b"opendistro_security_impersonate_as",
        b"x-forwarded-for",  # as the proxy sets it: the address of the connection
    }
)

# Headers by which gateways tell engines who asks, and headers on the path that are added anew.
NOT_BELIEVED = frozenset(
    {
        b"expect",
        b"forwarded",
        b"host",
        b"x-forwarded-for",
        b"x-proxy-ext-roles",
        b"x-proxy-roles",
        b"x-proxy-user",
        b"x-real-ip",
        b"x-latent",
        b"x-latent-form",
        b"x-latent-matching",
    }
)

JSON_HEADERS: Headers = [(b"accept", b"application/json"), (b"content-type", b"application/json")]

# Seconds that a thread waits for an answer about an index.
READ_SECONDS = 30.0

# Bytes of the longest answer that is read for the proxy itself: mappings of indices of a pattern, a
# question table (some MB), stored documents that are encoded again, hits on the page.
MOST_BYTES = 64_000_000


class Caller:
    """The headers by which the engine knows who asks.

    What is read about indices is read with these alone, and remembered for these alone: other
    headers, which a client can choose freely, neither show it to others nor make it be read again.
    """

    def __init__(self, headers: Headers, login_headers: Collection[bytes] = LOGIN_HEADERS) -> None:
        """Take them from the headers of a request that are forwarded."""
        self.headers = [header for header in headers if header[0] in login_headers]
        every = "\n".join(f"{name!r}: {value!r}" for name, value in sorted(self.headers))
        self.key = hashlib.sha256(every.encode()).digest()
        """Equal for those whom the engine cannot tell apart."""

    @classmethod
    def of(cls, login: Login) -> Caller:
        """The proxy itself, by its own login."""
        header = login.header
        return cls([(b"authorization", header.encode())] if header else [])


def client_of(upstream: Upstream, caller: Caller, loop: asyncio.AbstractEventLoop) -> OpenSearch:
    """Return a blocking client, for other threads than the loop's, that asks as the caller."""
    transport: Any = CallerTransport
    return OpenSearch(transport_class=transport, upstream=upstream, caller=caller, loop=loop)


class CallerTransport:
    """The transport of a client of opensearch-py whose requests go by the proxy's connections."""

    engine_name = "the engine"
    """What errors call it: callers read them, and are not told the addresses of nodes."""

    def __init__(
        self,
        _hosts: list[dict[str, Any]],
        *,
        upstream: Upstream,
        caller: Caller,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.serializer = JSONSerializer()
        self._upstream = upstream
        self._headers = [*caller.headers, *JSON_HEADERS]
        self._loop = loop

    def perform_request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Any:
        """As opensearch-py's transport."""
        given = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in (params or {}).items()
            if name not in ("request_timeout", "ignore")
        }
        target = f"{url}?{urlencode(given)}" if given else url
        content = None
        if body is not None:
            content = (body if isinstance(body, str) else self.serializer.dumps(body)).encode()
        ask = ask_once(self._upstream, method, target, self._headers, content)
        future = asyncio.run_coroutine_threadsafe(ask, self._loop)
        try:
            status, answered = future.result(READ_SECONDS)
        except Unreachable as error:
            failure = ConnectionTimeout if error.late else NoConnection
            raise failure("N/A", str(error), OSError(str(error))) from error
        except NotInTime as error:
            future.cancel()
            raise ConnectionTimeout("N/A", "no answer in time", error) from error
        if method == "HEAD":
            return 200 <= status < 300
        try:
            info: Any = json.loads(answered) if answered.strip() else {}
        except ValueError:
            info = one_line(answered.decode("utf-8", "replace")).decode()
        if status >= 300:
            detail = info.get("error", info) if isinstance(info, dict) else info
            kind = detail.get("type", "error") if isinstance(detail, dict) else detail
            raise HTTP_EXCEPTIONS.get(status, TransportError)(status, kind, info)
        return info


class TooLong(MismatchError):
    """An answer that is not read, since it would take too much memory."""


async def ask_once(
    upstream: Upstream, method: str, target: str, headers: Headers, content: bytes | None
) -> tuple[int, bytes]:
    """Send a request that only reads; return status and body.

    Raises:
        TooLong: the body is longer than any that is meant.
        Unreachable: no node answers.
    """
    async with await upstream.send(method, target, headers, content, again=True) as answer:
        parts, size = [], 0
        async for chunk in answer.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                raise TooLong("what the engine says of the indices is too long to be read")
        return answer.status, b"".join(parts)
