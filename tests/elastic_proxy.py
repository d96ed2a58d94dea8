"""A proxy by which an engine passes for Elasticsearch 7.17, 8 and 9 to their clients."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Mapping

from faults import FaultProxy, Spoiling

USER = ("somebody", "secret")
LOGIN = f"Basic {b64encode(':'.join(USER).encode()).decode()}"


class ElasticProxy(FaultProxy):
    """Forwards requests that carry the login; answers others, and chosen ones, itself."""

    def __init__(self, engine: str) -> None:
        super().__init__(engine, seed=0, chance=0, others=0)
        self.paths: list[str] = []
        """Path of each request."""
        self.refuse: Callable[[str], int | None] = lambda path: None
        """The status to answer instead of the engine's, by the path; 0 answers late."""


class Elastic(Spoiling):
    """One connection: knows the media types of Elasticsearch 8 and 9 and says its product."""

    proxy: ElasticProxy
    extra: Mapping[str, str] = {"x-elastic-product": "Elasticsearch"}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        self.proxy.paths.append(path)
        status = self.proxy.refuse(path)
        if self.headers.get("authorization") != LOGIN:
            status = 401
        if status:
            error = {"type": "a_refusal", "reason": f"not {path}"}
            self.give(status, json.dumps({"error": error, "status": status}).encode(), self.kind())
            return
        if status == 0:
            time.sleep(0.5)
        del self.headers["content-type"]
        self.headers["content-type"] = "application/json"
        status, content, _ = self.forward(body)
        if path == "/":
            content = content.replace(b"7.10.2", b"8.19.0")
        self.give(status, b"" if self.command == "HEAD" else content, self.kind())

    def kind(self) -> str:
        """The media type that is asked for, as these engines answer."""
        asked = self.headers.get("accept", "")
        return asked if "vnd.elasticsearch" in asked else "application/json"

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST
