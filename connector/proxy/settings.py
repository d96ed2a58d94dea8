"""What an operator chooses for the proxy."""

from __future__ import annotations

from dataclasses import dataclass

from latent_ingest.connector.engine.client import Connection, scheme_and_host
from latent_ingest.connector.errors import InputError

# Bytes of the largest request body; engines refuse more by default (`http.max_content_length`).
MAX_BODY = 100_000_000

# Requests in progress; more are refused, so that memory is bounded.
MAX_CONCURRENT = 256

# Seconds without a byte from the engine or the client after which a request ends.
TIMEOUT = 60.0

# Seconds after which the description of an index is read again.
RENEW_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one proxy. It can be pickled, for workers."""

    urls: tuple[str, ...]
    """URLs of the engine's nodes; a request goes to the next one that is up."""
    connection: Connection
    """TLS to the engine, and the proxy's own login, if any, which only reads about indices."""
    models: tuple[str | None, ...] = (None,)
    """Model folders; None is the model of this package."""
    device: str = "auto"
    dtype: str = "auto"
    questions: str = "auto"
    """What encodes questions: "model", "table", or "auto": the table of an index that has one of
    its documents' words, else the model."""
    documents: bool = True
    """Whether documents get latent terms on their way in."""
    complete_updates: bool = False
    """Whether documents of which a part of the text was updated are read and encoded again."""
    allow: tuple[str, ...] = ()
    """Patterns of the names of indices that may be asked for; all if empty."""
    read_only: bool = False
    strict: bool = False
    """Whether searches that cannot be rewritten are refused."""
    drop_headers: tuple[str, ...] = ()
    """Further headers of requests that are not forwarded, such as those that name a user."""
    login_headers: tuple[str, ...] = ()
    """Further headers of requests by which the engine knows who asks, such as one with a token."""
    max_body: int = MAX_BODY
    """Bytes of a request body, also after decompression."""
    max_concurrent: int = MAX_CONCURRENT
    timeout: float = TIMEOUT
    """Seconds to wait for the next byte of the engine or the client."""
    renew_seconds: float = RENEW_SECONDS
    """Seconds after which the description of an index is read again."""

    def __post_init__(self) -> None:
        if not self.urls:
            raise InputError("give the URL of the engine with --url")
        for url in self.urls:
            if "@" in url:
                raise InputError("no credentials in the URL; requests carry those of the caller")
            scheme_and_host(url)
        if self.connection.aws_region:
            raise InputError(
                "requests are not signed for AWS here: they carry the caller's Authorization; run "
                "an AWS signing proxy between this one and the engine"
            )

    @property
    def needs_model(self) -> bool:
        """Whether a model has to be loaded before requests are answered."""
        return self.documents or self.questions != "table"
