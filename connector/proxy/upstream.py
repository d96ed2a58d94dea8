"""Requests to the engine: connections, nodes that are down, and streams in both directions."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable
from itertools import cycle

import aiohttp
from yarl import URL

from latent_ingest.connector.engine.client import scheme_and_host
from latent_ingest.connector.engine.tls import OTHER_HOST, tls_context, tls_in_words
from latent_ingest.connector.proxy.settings import Settings

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]
Content = bytes | AsyncIterator[bytes] | None

# Seconds for which a node that refused a connection is asked only if all others do, too.
DOWN_SECONDS = 5.0

# Seconds to connect to a node.
CONNECT_SECONDS = 5.0

# Bytes of the headers of an answer; engines put deprecation warnings there.
MAX_ANSWER_HEADERS = 65_536

# Headers of one connection, RFC 9110 section 7.6.1. They are not forwarded.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# aiohttp adds these unless it is told not to.
NO_HEADERS_OF_ITS_OWN = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Unreachable(Exception):
    """No node answers, and nothing was done unless `sent`.

    The message is for callers: it names no node. The log says which one failed, and how.
    """

    def __init__(self, reason: str, *, sent: bool = False, late: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        """Whether the engine may have got the request."""
        self.late = late
        """Whether the engine did not answer in time."""


class Answer:
    """An answer of the engine, whose body has not been read yet. Use it with `async with`."""

    def __init__(self, response: aiohttp.ClientResponse, node: str) -> None:
        self._response = response
        self._node = node
        self.status = response.status
        self.headers: Headers = end_to_end(response.raw_headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raises Unreachable if it ends early."""
        try:
            # Not `iter_chunks`: it never ends for the second answer without a body, as to HEAD.
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("%s broke off its answer: %s", self._node, told(error, self._node))
            raise Unreachable("the engine broke off its answer", sent=True) from error

    async def read(self) -> bytes:
        """Return the whole body; raises as `chunks`."""
        return b"".join([chunk async for chunk in self.chunks()])

    def close(self) -> None:
        """Give the connection back, or close it if the answer has not been read to its end."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Watched:
    """The chunks of a body; keeps the error with which they ended, which aiohttp would hide."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            self.error = error
            raise


class Upstream:
    """The nodes of an engine, and the connections to them."""

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet; raises InputError if a certificate cannot be used."""
        self.urls = settings.urls
        self._timeout = settings.timeout
        self._session: aiohttp.ClientSession | None = None
        connection = settings.connection
        secure = any(scheme_and_host(url)[0] == "https" for url in self.urls)
        self._tls = (
            tls_context(
                connection.ca_file,
                connection.verify,
                connection.client_cert,
                connection.client_key,
            )
            if secure
            else None
        )
        self._down: dict[str, float] = {}
        self._turn = cycle(range(len(self.urls)))

    async def open(self) -> None:
        """Make the pool of connections, on the running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=self._tls if self._tls is not None else True, keepalive_timeout=30
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=self._timeout
            ),
            auto_decompress=False,
            skip_auto_headers=NO_HEADERS_OF_ITS_OWN,
            max_line_size=MAX_ANSWER_HEADERS,
            max_field_size=MAX_ANSWER_HEADERS,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    def nodes(self) -> list[str]:
        """Return the URLs in the order in which to try them: in turn, those that are down last."""
        first = next(self._turn)
        urls = [*self.urls[first:], *self.urls[:first]]
        now = time.monotonic()
        return sorted(urls, key=lambda url: self._down.get(url, 0) > now)

    async def send(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]],
        content: Content = None,
        *,
        again: bool = False,
    ) -> Answer:
        """Send a request to a node that is up.

        Args:
            method: of HTTP.
            target: raw path and query, which are sent as they are.
            headers: end-to-end headers; those about the connection are added.
            content: the body: bytes, or chunks that are read once.
            again: whether another node is asked if the first one broke the connection off, since
                the request changes nothing.

        Raises:
            Unreachable: no node answers.
            Exception: whatever `content` raises.
        """
        assert self._session, "open() comes first"
        if content is None and method in ("POST", "PUT", "PATCH"):
            content = b""
        sendable = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        failure = Unreachable("no node is up")
        body: bytes | Watched | None = None
        if isinstance(content, bytes):
            body = content
        elif content is not None:
            body = Watched(content)
        for node in self.nodes():
            try:
                response = await self._session.request(
                    method,
                    URL(node.rstrip("/") + target, encoded=True),
                    headers=sendable,
                    data=body,
                    allow_redirects=False,
                )
                self._down.pop(node, None)
                return Answer(response, node)
            except aiohttp.ClientConnectorError as error:  # nothing was sent
                if self._down.get(node, 0) < time.monotonic():  # not for each request
                    log.warning("nothing answers at %s: %s", node, told(error, node))
                self._down[node] = time.monotonic() + DOWN_SECONDS
                failure = Unreachable(told_callers(error))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if isinstance(body, Watched) and body.error:
                    raise body.error from error
                late = isinstance(error, TimeoutError)
                what = (
                    f"did not answer within {self._timeout:g} s"
                    if late
                    else "broke off the connection"
                )
                log.warning("%s %s: %s", node, what, told(error, node))
                failure = Unreachable(f"the engine {what}", sent=True, late=late)
                if late or not again:
                    raise failure from error
                self._down[node] = time.monotonic() + DOWN_SECONDS
        raise failure


def told(error: BaseException, node: str) -> str:
    """Return the reason of a failed connection in words, for the log."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return tls_in_words(error.certificate_error, node, str(error.certificate_error))
    if isinstance(error, aiohttp.ClientSSLError):
        return tls_in_words(error.os_error, node, str(error.os_error))
    return str(error) or type(error).__name__


def told_callers(error: aiohttp.ClientConnectorError) -> str:
    """Return why no node can be reached, without its address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        failed = error.certificate_error
        if getattr(failed, "verify_code", None) in OTHER_HOST:  # the message has the host
            return "the certificate of the engine is for another host"
        return tls_in_words(failed, "the engine", "its certificate is refused")
    if isinstance(error, aiohttp.ClientSSLError):
        return "no TLS connection to the engine can be made"
    return "no node of the engine can be reached"


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return headers without those of one connection; names are in lower case."""
    lower = [(name.lower(), value) for name, value in headers]
    named = {
        part.strip().lower()
        for name, value in lower
        if name == b"connection"
        for part in value.split(b",")
    }
    dropped = HOP_BY_HOP | named
    return [(name, value) for name, value in lower if name not in dropped]
