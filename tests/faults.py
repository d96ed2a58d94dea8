"""A proxy between the client and a real engine that injects faults chosen by a seed."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3

BUSY = {"error": {"type": "rejected_execution_exception", "reason": "queue is full"}}

# Requests with faults of BEFORE never reach the engine.
BEFORE = ("429", "502", "503", "504", "413", "reset before", "some 429", "late")
AFTER = ("reset after", "half an answer", "half a body", "fewer items", "delay")
FAULTS = BEFORE + AFTER


class FaultProxy:
    """Injects faults into bulk requests, with a given chance, and into few other requests."""

    def __init__(
        self,
        engine: str,
        seed: int,
        *,
        chance: float = 0.5,
        others: float = 0.1,
        timeout: float = 1.0,
    ) -> None:
        """Prepare the proxy; `listening` starts it.

        Args:
            engine: URL of the engine.
            seed: chooses the requests and their faults.
            chance: probability of a fault in a bulk request.
            others: probability of a fault in another request.
            timeout: seconds after which the client abandons a request.
        """
        self.engine = engine
        self.chance = chance
        self.others = others
        self.timeout = timeout
        self.injected: Counter[str] = Counter()
        self.applied: Callable[[str], None] = lambda path: None
        """Called with the path of each request when the engine has answered it, before the client
        has the answer."""
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.pool = urllib3.PoolManager(maxsize=32)

    def choose(self, path: str, body: bytes) -> str | None:
        """The fault to inject; None to pass the request on, as the first of a run."""
        bulk = "_bulk" in path
        if path == "/":
            return None
        with self._lock:
            if self._random.random() >= (self.chance if bulk else self.others):
                return None
            fault = self._random.choice(FAULTS if bulk else ("503", "reset before", "429"))
            if fault == "413" and body.count(b"\n") <= 2:
                return None  # a single document that is too large is rejected
            self.injected[fault] += 1
            return fault

    @contextmanager
    def listening(self, connection: type[Spoiling] | None = None) -> Iterator[str]:
        """Serve; yields the URL. `connection` replaces `Spoiling`."""
        handler = type("Handler", (connection or Spoiling,), {"proxy": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()
        thread.join()


class Spoiling(BaseHTTPRequestHandler):
    """One connection of the proxy."""

    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    extra: Mapping[str, str] = {}
    """Further headers of each answer."""

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        match self.proxy.choose(self.path, body):
            case None:
                self.give(*self.forward(body))
            case ("403" | "413" | "429" | "502" | "503" | "504") as status:
                self.give(int(status), b"<html>not now</html>", "text/html")
            case "reset before":
                self.reset()
            case "some 429":
                self.give(*self.turn_some_away(body))
            case "late":  # the engine gets it long after the client has sent it again
                time.sleep(1.5 * self.proxy.timeout)
                self.forward(body)
                self.reset()
            case "reset after":
                self.forward(body)
                self.reset()
            case "half an answer":
                status, content, kind = self.forward(body)
                self.give(status, content[: len(content) // 2], kind)
            case "half a body":
                status, content, kind = self.forward(body)
                self.give(status, content[: len(content) // 2], kind, promised=len(content))
            case "fewer items":
                status, content, kind = self.forward(body)
                answer = json.loads(content)
                answer["items"].pop()
                self.give(status, json.dumps(answer).encode(), kind)
            case "delay":
                answered = self.forward(body)
                time.sleep(1.5 * self.proxy.timeout)
                self.give(*answered)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

    def forward(self, body: bytes) -> tuple[int, bytes, str]:
        """Status, body and content type of the engine's answer; 503 if it does not answer."""
        kind = self.headers.get("content-type", "application/json")
        try:
            reply = self.proxy.pool.request(
                self.command,
                self.proxy.engine + self.path,
                body=body,
                headers={"content-type": kind},
                retries=False,
            )
        except urllib3.exceptions.HTTPError:
            return 503, b"no engine", "text/plain"
        self.proxy.applied(self.path.split("?")[0])
        return reply.status, reply.data, reply.headers.get("content-type", "text/plain")

    def turn_some_away(self, body: bytes) -> tuple[int, bytes, str]:
        """Forward every second document; answer 429 for the others."""
        rows = body.splitlines(keepends=True)
        pairs = [b"".join(rows[at : at + 2]) for at in range(0, len(rows), 2)]
        status, content, kind = self.forward(b"".join(pairs[::2]))
        if status != 200:
            return status, content, kind
        taken = iter(json.loads(content)["items"])
        away = {"index": {"status": 429, **BUSY}}
        items = [away if number % 2 else next(taken) for number in range(len(pairs))]
        return 200, json.dumps({"items": items}).encode(), kind

    def give(self, status: int, content: bytes, kind: str, promised: int | None = None) -> None:
        """Send an answer; hang up if `promised` bytes exceed its length."""
        try:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(promised or len(content)))
            for name, value in self.extra.items():
                self.send_header(name, value)
            if status == 429:
                self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client no longer waits
            self.close_connection = True
        if promised:
            self.close_connection = True

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
