"""A proxy with TLS and authentication before an engine, as in clouds and companies."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


@dataclass(frozen=True)
class Request:
    """A request that reached the proxy."""

    method: str
    path: str
    headers: dict[str, str]
    """Header names are lower-case."""
    body: bytes


@dataclass(frozen=True)
class Refusal:
    """An answer of the proxy itself."""

    status: int
    message: str = ""


Check = Callable[[Request], Refusal | None]


class Handler(BaseHTTPRequestHandler):
    """Forwards requests that pass the check to the engine."""

    server: Gate

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(self.command, self.path, headers, body)
        self.server.requests.append(request)
        if refusal := self.server.check(request):
            self.reply(refusal.status, json.dumps({"message": refusal.message}).encode())
            return
        kept = {n: v for n, v in headers.items() if n in ("content-type", "content-encoding")}
        url = self.server.engine + self.path
        reply = urllib3.request(self.command, url, body=body, headers=kept)
        self.reply(reply.status, reply.data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Gate(ThreadingHTTPServer):
    """The server; `requests` are those that completed its TLS handshake."""

    handler: type[Handler] = Handler

    def __init__(self, engine: str, context: ssl.SSLContext, check: Check) -> None:
        super().__init__(("127.0.0.1", 0), self.handler)
        self.engine, self.context, self.check = engine, context, check
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        tls = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with tls:
            try:
                tls.do_handshake()
            except (ssl.SSLError, OSError):
                # Read to the end: closing with bytes unread would reset the connection, and
                # the client might lose the alert that says why.
                with suppress(OSError):
                    tls.shutdown(socket.SHUT_WR)
                    while tls.recv(1 << 16):
                        pass
                return
            super().finish_request(tls, client_address)  # type: ignore[arg-type]


class Leaving(Handler):
    """Breaks the connection during the first bulk requests, as the server's `cuts` say."""

    server: LeavingGate

    def answer(self) -> None:
        if "_bulk" not in self.path or not self.server.cuts:
            super().answer()
            return
        self.rfile.read(1000)
        if self.server.cuts.pop(0) == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer


class LeavingGate(Gate):
    """Breaks the first connection during its handshake, then the first bulk requests."""

    handler = Leaving

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connections = 0
        self.cuts = ["reset", "end"]

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        if self.connections == 1:
            request.recv(1 << 16)
            return
        super().finish_request(request, client_address)


Kind = TypeVar("Kind", bound=Gate)


@contextmanager
def gate(
    engine: str,
    context: ssl.SSLContext,
    check: Check,
    kind: type[Kind] = Gate,  # type: ignore[assignment]
) -> Iterator[Kind]:
    """Run the proxy until the block ends."""
    server = kind(engine, context, check)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def everyone(_: Request) -> Refusal | None:
    return None


def asks_for(header: str) -> Check:
    """Accept only this Authorization header; a refusal repeats the header that was sent."""

    def check(request: Request) -> Refusal | None:
        shown = request.headers.get("authorization")
        return None if shown == header else Refusal(401, f"{shown} is not known here")

    return check


def asks_for_password(user: str, password: str) -> Check:
    return asks_for("Basic " + b64encode(f"{user}:{password}".encode()).decode())


def asks_for_signature(credentials: Credentials, region: str, service: str) -> Check:
    """Verify a request's signature as AWS does; a refusal repeats the signed text."""
    auth = SigV4Auth(credentials, service, region)

    def check(request: Request) -> Refusal | None:
        parts = dict(re.findall(r"(\w+)=([^,\s]+)", request.headers.get("authorization", "")))
        date = request.headers.get("x-amz-date")
        if not parts or date is None:
            return Refusal(403, "Missing Authentication Token")
        signed = {name: request.headers[name] for name in parts["SignedHeaders"].split(";")}
        assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(signed)
        if signed["x-amz-content-sha256"] != hashlib.sha256(request.body).hexdigest():
            return Refusal(403, "The body is not what was signed.")
        sent = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        if abs(time.time() - sent.timestamp()) > 300:
            return Refusal(403, "Signature expired")
        url = f"https://{signed['host']}{request.path}"
        again = AWSRequest(request.method, url, headers=signed, data=request.body)
        again.context["timestamp"] = date
        canonical = auth.canonical_request(again)
        expected = auth.signature(auth.string_to_sign(again, canonical), again)
        if parts["Signature"] == expected and parts["Credential"] == auth.scope(again):
            return None
        return Refusal(
            403,
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method. Consult the service "
            f"documentation for details.\n\nThe Canonical String should have been\n'{canonical}'",
        )

    return check
