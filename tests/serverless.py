"""A proxy by which an engine passes for a collection of Amazon OpenSearch Serverless: it takes the
operations that the service's documentation lists, and no others; see docs/hosted.md.
"""

from __future__ import annotations

import json

from faults import Spoiling

# Methods → last parts of the path, of operations on an index; and of those without an index.
OF_INDEX = {
    "HEAD": {""},
    "GET": {
        "", "_mapping", "_mappings", "_setting", "_settings", "_analyze", "_doc", "_explain",
        "_mget", "_source", "_count", "_field_caps", "_msearch", "_search", "_validate", "_alias",
    },
    "POST": {
        "_bulk", "_doc", "_create", "_update", "_analyze", "_explain", "_mget", "_count",
        "_field_caps", "_msearch", "_search", "_validate", "_mapping", "_mappings",
    },
    "PUT": {"", "_create", "_doc", "_mapping", "_mappings", "_setting", "_settings"},
    "DELETE": {"", "_doc"},
}  # fmt: skip
OF_ALL = {
    "GET": {"_cat/indices", "_mapping", "_resolve/index", "_alias", "_search/point_in_time"},
    "POST": {"_bulk", "_aliases", "_mget", "_msearch", "_search", "_analyze"},
    "DELETE": {"_search/point_in_time"},
}


class Serverless(Spoiling):
    """A collection of type *search*, to which documents bring their ids."""

    takes_ids = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if not listed(self.command, self.path.split("?")[0]):
            self.give(404, b"", "text/plain")
        elif not self.takes_ids and "_bulk" in self.path and b'"_id"' in body:
            error = {
                "type": "illegal_argument_exception",
                "reason": "Document ID is not supported in create/index operation request",
            }
            items = [{"index": {"status": 400, "error": error}}] * (body.count(b"\n") // 2)
            self.give(200, json.dumps({"items": items}).encode(), "application/json")
        else:
            self.give(*self.forward(body))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST


class WithoutIds(Serverless):
    """A collection of another type, which makes the ids itself."""

    takes_ids = False


def listed(method: str, path: str) -> bool:
    """Whether the documentation lists an operation."""
    parts = path.strip("/").split("/")
    if parts[0].startswith("_"):
        return any(f"{'/'.join(parts)}/".startswith(f"{name}/") for name in OF_ALL.get(method, ()))
    if not parts[0]:
        return False
    operation = parts[1] if len(parts) > 1 else ""
    return operation in OF_INDEX.get(method, ())
