"""Proxies by which an engine passes for Amazon OpenSearch Serverless or Elastic Cloud Serverless:
they take the operations that its documentation lists, and no others; see docs/hosted.md.
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


# Operations of Elasticsearch whose availability in serverless projects is private, and those that
# the comparison with hosted deployments calls managed: parts of the path.
PRIVATE = {
    "_close", "_open", "_stats", "_segments", "_forcemerge", "_cluster", "_nodes", "_shard_stores",
    "_recovery", "_shrink", "_split", "_clone",
}  # fmt: skip

# Index settings that such a project has, of those in use here: parts of their names.
HAS_SETTINGS = (
    "analysis.", "similarity.", "refresh_interval", "blocks.", "query.default_field", "hidden",
    "mapping.total_fields.", "default_pipeline", "final_pipeline", "mode", "codec",
)  # fmt: skip


class ElasticServerless(Spoiling):
    """A project of Elastic Cloud Serverless."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        if PRIVATE & set(path.strip("/").split("/")):
            reason = (
                f"uri [{path}] with method [{self.command}] exists but is not available when "
                f"running in serverless mode"
            )
            self.refuse(410, "api_not_available_exception", reason)
        elif self.command == "PUT" and (others := other_settings(path, body)):
            self.refuse(400, "illegal_argument_exception", f"unknown setting [{others[0]}]")
        else:
            self.give(*self.forward(body))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

    def refuse(self, status: int, kind: str, reason: str) -> None:
        cause = {"type": kind, "reason": reason}
        error = {"error": {"root_cause": [cause], **cause}, "status": status}
        content = b"" if self.command == "HEAD" else json.dumps(error).encode()
        self.give(status, content, "application/json")


def other_settings(path: str, body: bytes) -> list[str]:
    """Index settings of a request that a project does not have; also `_source` with excludes."""
    sent = json.loads(body or b"{}")
    settings = sent if path.endswith("_settings") else sent.get("settings", {})
    names = [name.removeprefix("settings.").removeprefix("index.") for name in flat(settings)]
    lossy = {"excludes", "includes"} & set(sent.get("mappings", {}).get("_source", {}))
    return [name for name in names if not name.startswith(HAS_SETTINGS)] + sorted(lossy)


def flat(settings: dict[str, object], prefix: str = "") -> list[str]:
    """Names of settings, with dots."""
    names: list[str] = []
    for name, value in settings.items():
        inner = isinstance(value, dict)
        names += flat(value, f"{prefix}{name}.") if inner else [prefix + name]  # type: ignore[arg-type]
    return names
