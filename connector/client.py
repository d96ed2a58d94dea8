"""The engine's client: made from a URL and credentials, its errors put in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from opensearchpy import OpenSearch
from opensearchpy.exceptions import (
    ConnectionError as NoConnection,
)
from opensearchpy.exceptions import (
    ConnectionTimeout,
    OpenSearchException,
    SSLError,
    TransportError,
)

from latent_ingest.connector.engine.local import local_url
from latent_ingest.connector.errors import EngineError, InputError

DEFAULT_URL = "http://localhost:9200"

# Seconds for one request; a bulk request of 5 MB on a busy node takes a few.
REQUEST_SECONDS = 60

# Kept open; `--concurrency` stays below.
MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach an engine. The password is kept out of every representation."""

    url: str
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None
    """Certificates to trust, PEM; none for the system's."""
    verify: bool = True

    def __repr__(self) -> str:
        return f"Connection({self.url!r}, user={self.user!r})"

    def open(self) -> OpenSearch:
        """A client; nothing is sent yet. Retries are the caller's.

        Raises:
            InputError: the URL is not one.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{self.url!r}: not a URL; write http://host:9200")
        if parts.username or parts.password:
            raise InputError("no credentials in the URL; use --user and --password-env")
        return OpenSearch(
            hosts=[self.url],
            http_auth=(self.user, self.password or "") if self.user else None,
            verify_certs=self.verify,
            ssl_show_warn=False,
            ca_certs=self.ca_file,
            timeout=REQUEST_SECONDS,
            max_retries=0,
            retry_on_status=(),
            pool_maxsize=MAX_CONNECTIONS,
            http_compress=not is_loopback(parts.hostname),
        )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of itself."""

    distribution: str
    """"opensearch" or "elasticsearch"."""
    version: tuple[int, ...]

    @property
    def keeps_k1_factor(self) -> bool:
        """Whether its BM25 has the constant factor k1 + 1, which OpenSearch 3 dropped."""
        return self.distribution != "opensearch" or self.version < (3,)

    @classmethod
    def read(cls, client: OpenSearch) -> EngineInfo:
        """Ask the engine; raises EngineError when it cannot be asked."""
        with engine_errors(client):
            version = client.info()["version"]
        numbers = tuple(int(part) for part in version["number"].split("-")[0].split("."))
        return cls(version.get("distribution", "elasticsearch"), numbers)


def default_url() -> str:
    """OPENSEARCH_URL, else the local engine if it runs, else http://localhost:9200."""
    return os.environ.get("OPENSEARCH_URL") or local_url() or DEFAULT_URL


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    return host in ("localhost", "::1") or host.startswith("127.")


def url_of(client: OpenSearch) -> str:
    """Where a client sends its requests."""
    host = client.transport.hosts[0]
    scheme = "https" if host.get("use_ssl") or host.get("scheme") == "https" else "http"
    return f"{scheme}://{host['host']}:{host.get('port', 9200)}"


@contextmanager
def engine_errors(client: OpenSearch) -> Iterator[None]:
    """Turn the client's exceptions into one EngineError that says what to do."""
    try:
        yield
    except OpenSearchException as error:
        raise in_words(error, url_of(client)) from error


def in_words(error: Exception, url: str) -> EngineError:
    """One line for a failed request: where, what, and the mend."""
    if isinstance(error, SSLError):
        return EngineError(
            f"TLS failure at {url}: {cause(error)}; give the certificate with --ca, or http://"
        )
    if isinstance(error, ConnectionTimeout):
        return EngineError(f"{url} did not answer within {REQUEST_SECONDS} s; is it overloaded?")
    if isinstance(error, NoConnection):
        return EngineError(
            f"nothing answers at {url} ({cause(error)}); start a local engine with "
            f"'latent-ingest engine up', or name another with --url or OPENSEARCH_URL"
        )
    if isinstance(error, TransportError):
        if error.status_code == 401:
            return EngineError(f"{url} refuses the credentials; check --user and --password-env")
        if error.status_code == 403:
            return EngineError(f"{url} forbids this ({reason_of(error)}); ask for the rights")
        return EngineError(f"{url} answered {error.status_code}: {reason_of(error)}")
    return EngineError(f"{url}: {error}")


def cause(error: TransportError) -> str:
    """The innermost reason of a connection that failed, without object addresses."""
    inner: Any = error.info
    while isinstance(getattr(inner, "reason", None), BaseException):
        inner = inner.reason
    text = str(inner)
    return text.split(": ", 1)[1] if text.startswith("<") and ": " in text else text


def reason_of(error: TransportError) -> str:
    """The engine's own words for a refusal."""
    if isinstance(error.info, dict):
        detail = error.info.get("error")
        if isinstance(detail, dict):
            return reason_in(detail)
        if detail:
            return str(detail)
    return str(error.error)


def reason_in(detail: dict[str, Any]) -> str:
    """The reason in an error object of the engine, with its innermost cause."""
    text = str(detail.get("reason") or detail.get("type"))
    inner = detail.get("caused_by")
    while isinstance(inner, dict):
        if inner.get("reason"):
            text = f"{text}: {inner['reason']}"
        inner = inner.get("caused_by")
    return " ".join(text.split())


def retry_after(error: BaseException) -> float | None:
    """Seconds the engine asks to wait before the request is sent again; none when it does not."""
    return getattr(error, "retry_after", None)
