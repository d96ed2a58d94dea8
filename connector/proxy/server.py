"""Runs the proxy: address, TLS, and an end that waits for requests in progress."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.proxy.app import Proxy
from latent_ingest.connector.proxy.messages import error_body
from latent_ingest.connector.proxy.metrics import access_log

# Seconds that requests in progress have to end.
GRACE_SECONDS = 30

# Seconds in which new requests are answered with 503 at least, before the port is closed.
NOTICE_SECONDS = 1.0

# Seconds for which an idle connection of a client is kept.
KEEP_ALIVE_SECONDS = 75

# Bytes of the headers of a request.
MAX_HEADERS = 65_536


class StrictProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn reads it, with a limit on headers and without what we never mean."""

    _unread = 0
    """Bytes since the headers of the last request ended, or a part of its body."""
    _in_headers = True

    def data_received(self, data: bytes) -> None:
        """Refuse headers that do not end."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEADERS and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        """Headers begin."""
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Leave out trailers, which would pass for headers."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse a target that is a URL, which names a host of its own."""
        self._in_headers = False
        self._unread = 0
        if not self.url.startswith(b"/"):
            raise ValueError("not a path")  # uvicorn answers 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes of bodies are counted elsewhere."""
        self._unread = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request in the engine's error shape, and close the connection."""
        content = error_body(400, "illegal_argument_exception", msg)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=UTF-8\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def on_message_complete(self) -> None:
        """The next request may begin."""
        self._unread = 0
        super().on_message_complete()


class Server(uvicorn.Server):
    """A server that refuses new requests while those in progress end, and then ends itself."""

    def __init__(self, config: uvicorn.Config, proxy: Proxy, grace_seconds: float) -> None:
        super().__init__(config)
        self._proxy = proxy
        self._grace_seconds = grace_seconds
        self._asked_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once."""
        if self._proxy.stopping:
            super().handle_exit(sig, frame)
        self._proxy.stopping = True
        self._asked_at = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """End once nothing is in progress, but not before balancers can have noticed."""
        if self._proxy.stopping:
            waited = time.monotonic() - self._asked_at
            idle = not self._proxy.in_progress and waited > NOTICE_SECONDS
            self.should_exit |= idle or waited > self._grace_seconds
        return await super().on_tick(counter)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises InputError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(2048)
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}:{port}: {error.strerror}; choose another with --host and "
            f"--port"
        ) from error
    found.set_inheritable(True)
    return found


def check_certificate(certificate: str | Path, key: str | Path | None) -> None:
    """Raise InputError if the proxy's own certificate and key cannot be used."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{certificate}: no certificate and key in PEM; check --tls-cert and --tls-key "
            f"({error})"
        ) from error


def configured(
    proxy: Proxy,
    certificate: str | None = None,
    key: str | None = None,
) -> uvicorn.Config:
    """Return the configuration of the server."""
    tls: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key} if certificate else {}
    return uvicorn.Config(
        proxy,
        http=StrictProtocol,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
        **tls,
    )


def serve(
    proxy: Proxy,
    host: str,
    port: int,
    *,
    certificate: str | None = None,
    key: str | None = None,
    log_requests: bool = True,
    grace_seconds: float = GRACE_SECONDS,
) -> None:
    """Serve until SIGINT or SIGTERM; raises InputError if the address cannot be used."""
    if certificate:
        check_certificate(certificate, key)
    if log_requests:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        access_log.addHandler(handler)
        access_log.propagate = False
        access_log.setLevel(logging.INFO)
    else:
        access_log.setLevel(logging.ERROR)
    config = configured(proxy, certificate, key)
    Server(config, proxy, grace_seconds).run(sockets=[listening(host, port)])
