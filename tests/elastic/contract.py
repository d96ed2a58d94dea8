"""What Elasticsearch 8 and 9 answer by modules that are not published as jars, recorded by hand.

Each record names where it was read. A gate gives these answers before a server that has the rest.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3
from faults import FaultProxy, Spoiling
from tls_proxy import Gate, Handler

PASSWORD = "made-at-the-first-start"
BASIC = "Basic " + b64encode(f"elastic:{PASSWORD}".encode()).decode()
KEY = "aWQtb2Yta2V5OnNlY3JldC1vZi1rZXk="
READING_KEY = "cmVhZC1vbmx5OnNlY3JldC1vZi1rZXk="

# "Automatic security setup", of Elastic's documentation: TLS and a password for `elastic` are made
# at the first start; the certificate of the authority is http_ca.crt.
# "received plaintext http traffic on an https channel, closing connection": elasticsearch-py issue
# 1911. The client has no answer.

TLS_HANDSHAKE = b"\x16"  # the first byte of a connection with TLS

SCHEMES = ['Basic realm="security" charset="UTF-8"', 'Bearer realm="security"', "ApiKey"]


@dataclass(frozen=True)
class Recorded:
    """An answer."""

    source: str
    """Where it was read."""
    status: int
    reason: str
    """With {path} and {key} for those of the request."""
    kind: str = "security_exception"
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, path: str) -> bytes:
        cause = {"type": self.kind, "reason": self.reason.replace("{path}", path)}
        if self.status == 401:
            cause["header"] = {"WWW-Authenticate": SCHEMES}  # type: ignore[assignment]
        error = {"error": {"root_cause": [cause], **cause}, "status": self.status}
        return json.dumps(error).encode()


MISSING = Recorded(
    "go-elasticsearch issue 279, elasticsearch-js issue 2592",
    401,
    "missing authentication credentials for REST request [{path}]",
)
WRONG = Recorded(
    "azure-marketplace issue 358, bitnami/charts issue 10076",
    401,
    "unable to authenticate user [elastic] for REST request [{path}]",
)
WRONG_KEY = Recorded(
    "terraform-provider-elasticstack issue 1082",
    401,
    "unable to authenticate with provided credentials and anonymous access is not allowed for this "
    "request",
)
FORBIDDEN = Recorded(
    "elasticsearch issue 118465, pull request 60357",
    403,
    "action [indices:admin/create] is unauthorized for API key id [read-only] of user [elastic] on "
    "indices [papers], this action is granted by the index privileges [create_index,manage,all]",
)

# "Semantic text field type reference": the mapping. The field is of the family `text`, by
# SemanticTextFieldMapper.familyTypeName in Elasticsearch's source, and so field_caps says text.
SEMANTIC_TEXT = {
    "type": "semantic_text",
    "inference_id": ".elser-2-elasticsearch",
    "model_settings": {"service": "elasticsearch", "task_type": "sparse_embedding"},
}

# "Search and retrieve semantic_text fields": the queries that ask the engine's own model.
SEMANTIC_QUERIES: list[dict[str, Any]] = [
    {"match": {"meaning": "how do bees tell of flowers"}},
    {"match": {"meaning": {"query": "how do bees tell of flowers", "boost": 2}}},
    {"match": {"text.meaning": "how do bees tell of flowers"}},
    {"semantic": {"field": "meaning", "query": "how do bees tell of flowers"}},
    {"sparse_vector": {"field": "meaning", "query": "how do bees tell of flowers"}},
    {
        "knn": {
            "field": "meaning",
            "k": 3,
            "num_candidates": 9,
            "query_vector_builder": {"text_embedding": {"model_text": "how do bees tell"}},
        }
    },
]


class SecuredHandler(Handler):
    """Asks for a login, says the product, and refuses what a key may not do."""

    def answer(self) -> None:
        path = self.path.split("?")[0]
        login = self.headers.get("authorization")
        writes = self.command in ("PUT", "DELETE") or "_bulk" in path
        refusal = None
        if login is None:
            refusal = MISSING
        elif login == f"ApiKey {READING_KEY}":
            refusal = FORBIDDEN if writes else None
        elif login not in (BASIC, f"ApiKey {KEY}"):
            refusal = WRONG if login.startswith("Basic") else WRONG_KEY
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if refusal:
            self.give(refusal.status, refusal.body(path))
            return
        names = ("content-type", "content-encoding")
        kept = {name: self.headers[name] for name in names if name in self.headers}
        url = self.server.engine + self.path
        reply = urllib3.request(self.command, url, body=body, headers=kept)
        self.give(reply.status, reply.data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def give(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("x-elastic-product", "Elasticsearch")
        if status == 401:
            for scheme in SCHEMES:
                self.send_header("www-authenticate", scheme)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Secured(Gate):
    """A server with security on, as it is from the first start."""

    handler = SecuredHandler

    def finish_request(self, request: Any, client_address: Any) -> None:
        if request.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:
            super().finish_request(request, client_address)
        else:  # plain HTTP
            request.recv(1 << 16)


class SemanticProxy(FaultProxy):
    """An engine that has `semantic_text` fields beside others."""

    def __init__(self, engine: str) -> None:
        super().__init__(engine, seed=0, chance=0, others=0)
        self.put: list[str] = []
        """Bodies of the mappings that were put."""


class WithSemanticText(Spoiling):
    """Shows the text fields `meaning` and `text.meaning` as of type `semantic_text`."""

    proxy: SemanticProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.command == "PUT" and "_mapping" in self.path:
            self.proxy.put.append(body.decode())
        status, content, kind = self.forward(body)
        if self.command == "GET" and status == 200 and kind.startswith("application/json"):
            content = json.dumps(shown(json.loads(content))).encode()
        self.give(status, content, kind)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST


def shown(answer: Any) -> Any:
    """The answer, with `SEMANTIC_TEXT` for the mapping of each field `meaning`."""
    if isinstance(answer, list):
        return [shown(part) for part in answer]
    if not isinstance(answer, dict):
        return answer
    return {
        name: SEMANTIC_TEXT if name == "meaning" and is_mapping(part) else shown(part)
        for name, part in answer.items()
    }


def is_mapping(part: Any) -> bool:
    """Whether a part of an answer is a field's mapping; in field_caps, types are the keys."""
    return isinstance(part, dict) and part.get("type") == "text"
