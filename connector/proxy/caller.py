"""Who asks, and a client that reads about indices with the caller's rights."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from opensearchpy import JSONSerializer, OpenSearch
from opensearchpy.exceptions import HTTP_EXCEPTIONS, ConnectionTimeout, TransportError
from opensearchpy.exceptions import ConnectionError as NoConnection

from latent_ingest.connector.engine.client import scheme_and_host
from latent_ingest.connector.engine.login import Login
from latent_ingest.connector.proxy.messages import one_line
from latent_ingest.connector.proxy.upstream import Headers, Unreachable, Upstream

# Headers of requests that cannot change what a caller may do; all others are part of who it is.
SAY_NOTHING_OF_RIGHTS = frozenset(
    b"""
    accept accept-encoding accept-language b3 baggage cache-control content-encoding content-length
    content-type date dnt expect host if-modified-since if-none-match origin pragma priority referer
    sentry-trace traceparent tracestate user-agent via x-amzn-trace-id x-b3-parentspanid
    x-b3-sampled x-b3-spanid x-b3-traceid x-cloud-trace-context x-correlation-id
    x-elastic-client-meta x-latent x-latent-form x-latent-matching x-opaque-id x-request-id
    x-requested-with
    """.split()
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


class Caller:
    """The headers by which the engine knows who asks."""

    def __init__(self, headers: Headers) -> None:
        """Take them from the headers of a request that are forwarded."""
        self.headers = [header for header in headers if header[0] not in SAY_NOTHING_OF_RIGHTS]
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
    hosts = []
    for url in upstream.urls:
        scheme, host = scheme_and_host(url)
        hosts.append({"host": host, "scheme": scheme})
    transport: Any = CallerTransport
    return OpenSearch(hosts, transport_class=transport, upstream=upstream, caller=caller, loop=loop)


class CallerTransport:
    """The transport of a client of opensearch-py whose requests go by the proxy's connections."""

    def __init__(
        self,
        hosts: list[dict[str, Any]],
        *,
        upstream: Upstream,
        caller: Caller,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.hosts = hosts
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
        except TimeoutError as error:
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


async def ask_once(
    upstream: Upstream, method: str, target: str, headers: Headers, content: bytes | None
) -> tuple[int, bytes]:
    """Send a request that only reads; return status and body."""
    async with await upstream.send(method, target, headers, content, again=True) as answer:
        return answer.status, await answer.read()
