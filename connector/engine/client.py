"""The engine's client: made from a URL and credentials, with errors in plain words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import (
    ConnectionTimeout,
    NotFoundError,
    OpenSearchException,
    SSLError,
    TransportError,
)
from urllib3.exceptions import HTTPError

from latent_ingest.connector.engine import login
from latent_ingest.connector.engine.blocks import block_of
from latent_ingest.connector.engine.local import local_url
from latent_ingest.connector.engine.login import CERTIFICATE, NOBODY, OF_CLIENT, Login
from latent_ingest.connector.engine.tls import tls_context, tls_in_words
from latent_ingest.connector.engine.transport import EngineConnection
from latent_ingest.connector.errors import EngineError, InputError

DEFAULT_URL = "http://localhost:9200"

# Seconds before a request times out; a bulk request of 5 MB on a busy node takes a few.
REQUEST_SECONDS = 60

# Seconds in urllib3's words for a timeout; the client may be another than `Connection` opens.
TIMEOUT = re.compile(r"timeout=([\d.]+)")

# Size of the connection pool; `--concurrency` stays below it.
MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach an engine, with at most one way to log in. Secrets are never shown."""

    url: str
    """URL of the engine, such as http://localhost:9200, without credentials."""
    user: str | None = None
    """User name for basic authentication."""
    password: str | None = field(default=None, repr=False)
    """Password of `user`."""
    ca_file: str | None = None
    """PEM file of trusted certificate authorities; the system's if None."""
    verify: bool = True
    """Whether to check the server's certificate."""
    client_cert: str | None = None
    """PEM file of a certificate to present to the server, in addition to any login."""
    client_key: str | None = None
    """PEM file of the certificate's key; None if `client_cert` has it."""
    api_key: str | None = field(default=None, repr=False)
    """API key, in the encoded form that engines issue."""
    token: str | None = field(default=None, repr=False)
    """Bearer token."""
    aws_region: str | None = None
    """Sign requests (AWS SigV4) for this region, with the credentials that botocore finds."""
    aws_service: str | None = None
    """ "es" (the default), or "aoss" for serverless collections."""
    aws_profile: str | None = None
    """Profile in botocore's configuration files."""

    def login(self) -> Login:
        """The authentication that requests carry.

        Raises:
            InputError: two ways to log in are given, or one that cannot be used.
        """
        if (self.aws_service or self.aws_profile) and self.aws_region is None:
            raise InputError("--aws-service and --aws-profile need --aws-region")
        ways = {
            "user": self.user,
            "API key": self.api_key,
            "token": self.token,
            "AWS region": self.aws_region,
        }
        given = [way for way, value in ways.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} given; log in one way only")
        if self.user is not None:
            return login.basic(self.user, self.password or "")
        if self.api_key is not None:
            return login.api_key(self.api_key)
        if self.token is not None:
            return login.bearer(self.token)
        if self.aws_region is not None:
            return login.aws(self.aws_region, self.aws_service or "es", self.aws_profile)
        return CERTIFICATE if self.client_cert else NOBODY

    def open(self) -> OpenSearch:
        """Return a client; nothing is sent yet. The caller retries.

        Raises:
            InputError: the URL is invalid, or the login or a certificate cannot be used.
        """
        if "@" in self.url:
            raise InputError("no credentials in the URL; use --user and --password-env")
        scheme, host = scheme_and_host(self.url)
        loopback = host in ("localhost", "::1") or host.startswith("127.")
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
            http_compress=not loopback,
            **settings,
        )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Distribution and version of an engine."""

    distribution: str
    """"opensearch" or "elasticsearch"."""
    version: tuple[int, ...]
    """Parts of the version number: (3, 8, 0)."""

    @property
    def keeps_k1_factor(self) -> bool:
        """Whether BM25 scores have the constant factor k1 + 1, which OpenSearch 3 dropped."""
        return self.distribution != "opensearch" or self.version < (3,)

    @property
    def skips_in_blocks(self) -> bool:
        """Whether its Lucene, 10 or later, skips in blocks however many terms there are."""
        return self.version >= ((3,) if self.distribution == "opensearch" else (9,))

    @classmethod
    def read(cls, client: OpenSearch) -> EngineInfo:
        """Ask the engine; raises EngineError if it is not reachable.

        Serverless collections do not answer this; they are OpenSearch 2.
        """
        with engine_errors(client):
            try:
                version = client.info()["version"]
            except NotFoundError:
                return cls("opensearch", (2,))
        numbers = tuple(int(part) for part in version["number"].split("-")[0].split("."))
        return cls(version.get("distribution", "elasticsearch"), numbers)


def default_url() -> str:
    """OPENSEARCH_URL if set, else the running local engine, else http://localhost:9200."""
    return os.environ.get("OPENSEARCH_URL") or local_url() or DEFAULT_URL


def scheme_and_host(url: str) -> tuple[str, str]:
    """Scheme and host of an engine's URL; raises InputError if it is invalid."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.scheme, parts.hostname
    except ValueError:  # for example a port that is not a number
        pass
    raise InputError(f"{url!r}: not a URL; write http://host:9200")


def url_of(client: OpenSearch) -> str:
    """The URL a client sends its requests to, or what its transport calls it."""
    if name := getattr(client.transport, "engine_name", None):
        return str(name)
    host = client.transport.hosts[0]
    scheme = "https" if host.get("use_ssl") or host.get("scheme") == "https" else "http"
    return f"{scheme}://{host['host']}:{host.get('port', 9200)}"


@contextmanager
def engine_errors(client: OpenSearch) -> Iterator[None]:
    """Inside the block, turn the client's exceptions into an EngineError that says what to do."""
    try:
        yield
    except OpenSearchException as error:
        raise in_words(error, url_of(client)) from error


def in_words(error: Exception, url: str) -> EngineError:
    """The error of a failed request as one line: where, what, and how to fix it."""
    if isinstance(error, SSLError):
        inner = error.info.args[0] if isinstance(error.info, Exception) else None
        return EngineError(tls_in_words(inner, url, cause(error)))
    if isinstance(error, ConnectionTimeout):
        told = TIMEOUT.search(str(error.info))
        within = f"within {told[1]} s" if told else "in time"
        return EngineError(f"{url} did not answer {within}; is it overloaded?")
    if isinstance(error, NoConnection):
        if not isinstance(error.info, (HTTPError, OSError)):
            return EngineError(f"cannot send requests to {url}: {cause(error)}")
        advice = (
            "start a local engine with 'latent-ingest engine up', or name another with --url or "
            "OPENSEARCH_URL"
        )
        # What a server with TLS does when it is asked without.
        if url.startswith("http:") and any(
            isinstance(a, RemoteDisconnected) for a in error.info.args
        ):
            advice = (
                f"if it has TLS, as Elasticsearch 8 and later have by themselves, write https://; "
                f"or {advice}"
            )
        return EngineError(f"nothing answers at {url} ({cause(error)}); {advice}")
    if isinstance(error, TransportError):
        login: Login = getattr(error, "login", OF_CLIENT)
        # The engine itself answers with an object; gateways in front of it have other formats.
        by_engine = isinstance(error.info, dict) and isinstance(error.info.get("error"), dict)
        by_aws = login.sign is not None and not by_engine
        if error.status_code == 401 or (error.status_code == 403 and by_aws):
            reason = f" ({reason_of(error)})" if by_aws else ""
            return EngineError(f"{url} {login.refused}{reason}")
        if error.status_code == 403 and error.error != "cluster_block_exception":
            return EngineError(f"{url} forbids this ({reason_of(error)}); ask for the permission")
        reason = reason_of(error) or "without a reason; it may lack this operation"
        return EngineError(f"{url} answered {error.status_code}: {reason}")
    return EngineError(f"{url}: {error}")


def cause(error: TransportError) -> str:
    """The innermost reason of a failed connection, without object addresses."""
    inner: Any = error.info
    while isinstance(getattr(inner, "reason", None), BaseException):
        inner = inner.reason
    text = str(inner)
    return text.split(": ", 1)[1] if text.startswith("<") and ": " in text else text


def reason_of(error: TransportError) -> str:
    """The reason for a refusal in the engine's words, or the first line of a gateway's answer.

    AWS's further lines repeat the request, including the session token.
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
    """The reason in an engine's error object, with its innermost cause."""
    text = str(detail.get("reason") or detail.get("type"))
    inner = detail.get("caused_by")
    while isinstance(inner, dict):
        if inner.get("reason"):
            text = f"{text}: {inner['reason']}"
        inner = inner.get("caused_by")
    if block := block_of(text):
        text = f"{text.rstrip(';')}; {block}"
    return " ".join(text.split())
