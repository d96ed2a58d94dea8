"""The engine's client: made from a URL and credentials, its errors put in words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from opensearchpy import OpenSearch
from opensearchpy.exceptions import (
    ConnectionError as NoConnection,
)
from opensearchpy.exceptions import (
    ConnectionTimeout,
    NotFoundError,
    OpenSearchException,
    SSLError,
    TransportError,
)
from urllib3.exceptions import HTTPError

from latent_ingest.connector.engine import login
from latent_ingest.connector.engine.local import local_url
from latent_ingest.connector.engine.login import CERTIFICATE, NOBODY, Login
from latent_ingest.connector.engine.tls import tls_context, tls_in_words
from latent_ingest.connector.engine.transport import EngineConnection
from latent_ingest.connector.errors import EngineError, InputError

DEFAULT_URL = "http://localhost:9200"

# Seconds for one request; a bulk request of 5 MB on a busy node takes a few.
REQUEST_SECONDS = 60

# Kept open; `--concurrency` stays below.
MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach an engine, with at most one way to log in. Secrets are never shown."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    """Certificates to trust, PEM; none for the system's."""
    verify: bool = True
    client_cert: str | None = None
    """PEM; shown to the server besides any login."""
    client_key: str | None = None
    """PEM; none when the certificate's file holds it."""
    api_key: str | None = field(default=None, repr=False)
    """In the encoded form that engines give out."""
    token: str | None = field(default=None, repr=False)
    """A bearer token."""
    aws_region: str | None = None
    """Requests are signed (SigV4) with the credentials that botocore finds."""
    aws_service: str | None = None
    """"es" (the default) or "aoss", for serverless."""
    aws_profile: str | None = None
    """Of botocore's configuration files."""

    def login(self) -> Login:
        """What requests carry.

        Raises:
            InputError: two ways at once, or one that cannot be used.
        """
        ways: dict[str, Callable[[], Login]] = {}
        if self.user is not None:
            user, password = self.user, self.password or ""
            ways["user"] = lambda: login.basic(user, password)
        if (key := self.api_key) is not None:
            ways["API key"] = lambda: login.api_key(key)
        if (token := self.token) is not None:
            ways["token"] = lambda: login.bearer(token)
        if (region := self.aws_region) is not None:
            service = self.aws_service or "es"
            ways["AWS region"] = lambda: login.aws(region, service, self.aws_profile)
        elif self.aws_service or self.aws_profile:
            raise InputError("--aws-service and --aws-profile need --aws-region")
        if len(ways) > 1:
            raise InputError(f"{' and '.join(ways)} given; log in one way only")
        for make in ways.values():
            return make()
        return CERTIFICATE if self.client_cert else NOBODY

    def open(self) -> OpenSearch:
        """A client; nothing is sent yet. Retries are the caller's.

        Raises:
            InputError: the URL is not one, or the login or a certificate cannot be used.
        """
        if "@" in self.url:
            raise InputError("no credentials in the URL; use --user and --password-env")
        scheme, host = scheme_and_host(self.url)
        settings: dict[str, Any] = {}
        if scheme == "https":
            settings["ssl_context"] = tls_context(
                self.ca_file, self.verify, self.client_cert, self.client_key
            )
        elif self.ca_file or self.client_cert or self.client_key:
            raise InputError(f"{self.url}: certificates need https://")
        return OpenSearch(
            hosts=[self.url],
            connection_class=EngineConnection,
            login=self.login(),
            timeout=REQUEST_SECONDS,
            max_retries=0,
            retry_on_status=(),
            pool_maxsize=MAX_CONNECTIONS,
            http_compress=not is_loopback(host),
            **settings,
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
        """Ask the engine; raises EngineError when it cannot be asked.

        Serverless collections do not say what they are: they are OpenSearch 2.
        """
        with engine_errors(client):
            try:
                version = client.info()["version"]
            except NotFoundError:
                return cls("opensearch", (2,))
        numbers = tuple(int(part) for part in version["number"].split("-")[0].split("."))
        return cls(version.get("distribution", "elasticsearch"), numbers)


def default_url() -> str:
    """OPENSEARCH_URL, else the local engine if it runs, else http://localhost:9200."""
    return os.environ.get("OPENSEARCH_URL") or local_url() or DEFAULT_URL


def scheme_and_host(url: str) -> tuple[str, str]:
    """Of the URL of an engine; raises InputError when it is not one."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.scheme, parts.hostname
    except ValueError:  # a port that is no number, say
        pass
    raise InputError(f"{url!r}: not a URL; write http://host:9200")


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
        inner = error.info.args[0] if isinstance(error.info, Exception) else None
        return EngineError(tls_in_words(inner, url, cause(error)))
    if isinstance(error, ConnectionTimeout):
        return EngineError(f"{url} did not answer within {REQUEST_SECONDS} s; is it overloaded?")
    if isinstance(error, NoConnection):
        if not isinstance(error.info, (HTTPError, OSError)):
            return EngineError(f"cannot send requests to {url}: {cause(error)}")
        return EngineError(
            f"nothing answers at {url} ({cause(error)}); start a local engine with "
            f"'latent-ingest engine up', or name another with --url or OPENSEARCH_URL"
        )
    if isinstance(error, TransportError):
        login: Login = getattr(error, "login", NOBODY)
        by_aws = login.sign is not None and not engine_answered(error)
        if error.status_code == 401 or (error.status_code == 403 and by_aws):
            reason = f" ({reason_of(error)})" if by_aws else ""
            return EngineError(f"{url} {login.refused}{reason}")
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


def engine_answered(error: TransportError) -> bool:
    """Whether an answer is the engine's own; gateways before it have other forms."""
    return isinstance(error.info, dict) and isinstance(error.info.get("error"), dict)


def reason_of(error: TransportError) -> str:
    """The engine's own words for a refusal, or a gateway's first line.

    The further lines of AWS repeat the request, and with it the session token.
    """
    detail: Any = error.error
    if isinstance(error.info, dict):
        words = {name.lower(): value for name, value in error.info.items()}
        detail = words.get("error") or words.get("message") or detail
    if isinstance(detail, dict):
        return reason_in(detail)
    first, *_ = [*str(detail).strip().splitlines(), ""]
    return first


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
