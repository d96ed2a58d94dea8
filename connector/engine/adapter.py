"""Clients as applications have them, with the methods and exceptions of opensearch-py."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from opensearchpy import JSONSerializer, OpenSearch
from opensearchpy.exceptions import (
    HTTP_EXCEPTIONS,
    ConnectionTimeout,
    OpenSearchException,
    SerializationError,
    SSLError,
    TransportError,
)
from opensearchpy.exceptions import ConnectionError as NoConnection
from urllib3.exceptions import HTTPError

from latent_ingest.connector.engine.transport import seconds_of
from latent_ingest.connector.errors import InputError

# Clients are told apart by the names of their classes: the elasticsearch package need not be
# installed, and is also published as elasticsearch7, elasticsearch8 and elasticsearch9.
FOREIGN = frozenset({"Elasticsearch", "AsyncElasticsearch"})
ASYNCHRONOUS = frozenset({"AsyncOpenSearch", "AsyncElasticsearch"})
BLOCKING = frozenset({"OpenSearch", "Elasticsearch"})

# Class of a failed connection → ours, by names that are the same since 7.17 or have one of two.
FAILURES = {
    "ConnectionTimeout": ConnectionTimeout,
    "SSLError": SSLError,
    "TlsError": SSLError,
    "ConnectionError": NoConnection,
}

JSON = {"accept": "application/json", "content-type": "application/json"}


class Client(Protocol):
    """A client of the `elasticsearch` package, 7.17, 8 or 9."""

    @property
    def transport(self) -> Any:
        """Sends its requests."""


def adapted(client: OpenSearch | Client, *, asynchronous: bool = False) -> OpenSearch:
    """Return a client of opensearch-py as it is, or one that sends by a client of `elasticsearch`.

    The latter keeps the given client's hosts, login, certificates, timeouts and retries. If it is
    asynchronous, each method returns a coroutine.

    Raises:
        InputError: it is no client, or asynchronous where a blocking one is needed, or the reverse.
    """
    names = names_of(client)
    if not hasattr(client, "transport"):
        raise InputError(
            f"{type(client).__name__} is not a client; give one of class OpenSearch, such as "
            f"Connection(url).open() returns, or Elasticsearch"
        )
    if names & (BLOCKING if asynchronous else ASYNCHRONOUS):
        raise InputError(
            "this client is synchronous; use Searcher(client, ...), or a client of class "
            "AsyncOpenSearch"
            if asynchronous
            else "this client is asynchronous; use AsyncSearcher.open(client, ...), or a client "
            "of class OpenSearch"
        )
    if names & FOREIGN:
        transport: Any = ElasticsearchTransport
        return OpenSearch(hosts_of(client), transport_class=transport, client=client)
    return client  # type: ignore[return-value]


class ElasticsearchTransport:
    """The transport of an `OpenSearch` whose requests a client of `elasticsearch` sends."""

    def __init__(self, hosts: list[dict[str, Any]], *, client: Any) -> None:
        self.hosts = hosts
        self.serializer = JSONSerializer()
        self._client = client

    def perform_request(
        self,
        method: str,
        url: str,
        params: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """As opensearch-py's transport; gives a coroutine if the client is asynchronous."""
        body = None if body is None else self.serializer.dumps(body)
        params = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in (params or {}).items()
        }
        send = getattr(self._client, "perform_request", None)
        if send is None:  # 7.17, which takes the options of a request as parameters
            send = self._client.transport.perform_request
        else:
            names = {"request_timeout": "request_timeout", "ignore": "ignore_status"}
            options = {names[name]: params.pop(name) for name in names if name in params}
            send = self._client.options(**options).perform_request if options else send
            headers = {**JSON, **(headers or {})}
        with opensearch_errors():
            answer = send(method, url, headers=headers, params=params, body=body)
        return awaited(answer) if inspect.isawaitable(answer) else body_of(answer)


async def awaited(answer: Any) -> Any:
    """The body of an answer that the event loop waits for."""
    with opensearch_errors():
        return body_of(await answer)


def body_of(answer: Any) -> Any:
    """The body of an answer, which 7.17 gives as it is."""
    return getattr(answer, "body", answer)


@contextmanager
def opensearch_errors() -> Iterator[None]:
    """Inside the block, turn exceptions of `elasticsearch` into those of opensearch-py."""
    try:
        yield
    except Exception as error:
        if any(base.__module__.startswith("elastic") for base in type(error).__mro__):
            raise opensearch_error(error) from error
        raise


def opensearch_error(error: Any) -> OpenSearchException:
    """The exception of opensearch-py for one of `elasticsearch`, by its kind."""
    names = names_of(error)
    if "UnsupportedProductError" in names:
        return OpenSearchException(
            "the elasticsearch client refuses this engine, which is not Elastic's; "
            "give a client of opensearch-py"
        )
    if "SerializationError" in names:
        return SerializationError(str(error))
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        refused = HTTP_EXCEPTIONS.get(status, TransportError)(status, error.error, error.info)
        if meta := getattr(error, "meta", None):
            refused.retry_after = seconds_of(meta.headers.get("retry-after"))  # type: ignore[attr-defined]
        return refused
    for name, failure in FAILURES.items():
        if name in names:
            return failure("N/A", str(error), network_error(error))
    return OpenSearchException(str(error))


def network_error(error: Exception) -> Exception:
    """The error of urllib3 or the system that a failed connection was caused by."""
    known = (one for one in causes(error) if isinstance(one, (HTTPError, OSError)))
    return next(known, OSError(str(error)))


def causes(error: Any) -> Iterator[Exception]:
    """What an exception was caused by, and what that was caused by."""
    for one in (error.__cause__, getattr(error, "info", None), *getattr(error, "errors", ())):
        if isinstance(one, Exception):
            yield one
            yield from causes(one)


def hosts_of(client: Any) -> list[dict[str, Any]]:
    """The hosts of a client of `elasticsearch`, as opensearch-py writes them."""
    pool = getattr(client.transport, "node_pool", None)
    if pool is None:  # 7.17
        return list(client.transport.hosts)
    configs = [node.config for node in pool.all()]
    return [{"host": one.host, "port": one.port, "scheme": one.scheme} for one in configs]


def names_of(thing: object) -> set[str]:
    """Names of the classes of an object."""
    return {base.__name__ for base in type(thing).__mro__}


class Blocking:
    """An async client, or a part of it such as `indices`, for threads beside its event loop.

    Its methods block until the loop has the result.
    """

    def __init__(self, part: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._part = part
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if not callable(value):
            return Blocking(value, self._loop) if hasattr(value, "transport") else value

        def call(*arguments: Any, **options: Any) -> Any:
            result = value(*arguments, **options)
            if not inspect.iscoroutine(result):
                return result
            try:
                return asyncio.run_coroutine_threadsafe(result, self._loop).result()
            except RuntimeError:  # the loop has ended
                result.close()
                raise

        return call
