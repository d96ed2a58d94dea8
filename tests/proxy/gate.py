"""An engine with users: a real one behind a gate that knows who may use which index."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from faults import FaultProxy, Spoiling

FORBIDDEN = {"error": {"type": "security_exception", "reason": "no permissions"}, "status": 403}


class Gate(FaultProxy):
    """Forwards requests of those who may make them, and remembers all."""

    def __init__(self, engine: str) -> None:
        super().__init__(engine, seed=0, chance=0, others=0)
        self.closed_to: Mapping[str, set[str]] = {}
        """Authorization → parts of paths that are forbidden to it."""
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        """Method, path and headers of each request."""
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()


class Guarded(Spoiling):
    """One connection of the gate."""

    proxy: Gate

    def do_POST(self) -> None:
        body = self.body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.proxy.lock:
            self.proxy.seen.append((self.command, self.path, headers))
            self.proxy.bodies.append(body)
        closed = self.proxy.closed_to.get(headers.get("authorization", ""), set())
        if any(part in self.path or part.encode() in body for part in closed):
            self.give(403, json.dumps(FORBIDDEN).encode(), "application/json")
        else:
            status, content, kind = self.forward(body)
            self.give(status, b"" if self.command == "HEAD" else content, kind)

    def body(self) -> bytes:
        """The body, by its length or in chunks."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST
