"""The search page and its API, to be mounted at `/_latent/`.

The page loads nothing from elsewhere, and its policy forbids scripts and styles within it. The API
asks the engine with the caller's own login.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import anyio
from opensearchpy.exceptions import ConnectionTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from latent_ingest.connector.errors import (
    EngineError,
    InputError,
    LatentIngestError,
    MismatchError,
    ModelError,
)
from latent_ingest.connector.proxy.page.answers import (
    MOST_PASSAGES,
    Allowed,
    Answers,
    Asked,
    status_of,
)
from latent_ingest.connector.proxy.page.opened import Caller, OpenedIndices
from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
from latent_ingest.connector.querying.query_encoder import QueryEncoder

log = logging.getLogger(__name__)

# Bytes of a request of the page: a question, and a filter.
LARGEST_BODY = 65_536

# Requests of the page that are worked on at once; others wait.
AT_ONCE = 4

FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}

POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src data:",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
))  # fmt: skip

HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

CallerOf = Callable[[Request], Caller]


def page_routes(
    caller_of: CallerOf,
    queries: Callable[[AskedIndices], QueryEncoder],
    *,
    folders: Sequence[str | Path | None] = (None,),
    allowed: Allowed = lambda names, clause: True,
) -> list[Route]:
    """Return the routes of the page.

    Args:
        caller_of: gives the client that asks the engine with the login of a request. It is kept for
            some seconds, for callers with the same key.
        queries: gives what encodes questions to indices.
        folders: model folders with labels and question tables; None is minilm-32k.
        allowed: says whether names of indices may be asked, with a filter that may name others.
    """
    opened = OpenedIndices(queries, folders)
    api = Api(Answers(opened, allowed), opened, caller_of)
    files = [
        Route(f"/{path}", file_endpoint(*FILES[path]), methods=["GET"], name=f"page-{path}")
        for path in FILES
    ]
    return [
        *files,
        Route("/api/indices", api.indices, methods=["GET"]),
        Route("/api/search", api.search, methods=["POST"]),
        Route("/api/passages", api.passages, methods=["POST"]),
        Route("/api/explain", api.explain, methods=["POST"]),
        Route("/api/latent", api.latent, methods=["GET"]),
    ]


def file_endpoint(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that serves a file of this folder."""
    content = resources.files(__package__).joinpath(name).read_bytes()
    tag = f'"{sha256(content).hexdigest()[:16]}"'
    headers = {**HEADERS, "cache-control": "no-cache", "etag": tag}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return serve


class Api:
    """The endpoints below `/_latent/api/`."""

    def __init__(self, answers: Answers, opened: OpenedIndices, caller_of: CallerOf) -> None:
        self._answers = answers
        self._opened = opened
        self._caller_of = caller_of
        self._limiter: anyio.CapacityLimiter | None = None

    async def indices(self, request: Request) -> Response:
        """Names of indices."""
        return await self._answer(request, self._answers.indices)

    async def search(self, request: Request) -> Response:
        """Hits of words, latent terms and both."""

        async def read() -> Callable[[Caller], Any]:
            asked = Asked.read(await content_of(request))
            return lambda caller: self._answers.search(caller, asked)

        return await self._answer(request, read=read)

    async def passages(self, request: Request) -> Response:
        """Passages of hits."""

        async def read() -> Callable[[Caller], Any]:
            content = await content_of(request)
            asked = Asked.read(content)
            hits = [key_of(hit) for hit in listed(content.get("hits"))]
            return lambda caller: self._answers.passages(caller, asked, hits)

        return await self._answer(request, read=read)

    async def explain(self, request: Request) -> Response:
        """Contributions to the score of a hit."""

        async def read() -> Callable[[Caller], Any]:
            content = await content_of(request)
            asked, key = Asked.read(content), key_of(content.get("hit"))
            column = str(content.get("column"))
            return lambda caller: self._answers.explain(caller, asked, column, key)

        return await self._answer(request, read=read)

    async def latent(self, request: Request) -> Response:
        """The card of a latent."""

        async def read() -> Callable[[Caller], Any]:
            index, latent = (request.query_params.get(name, "") for name in ("index", "latent"))
            if not index or not (latent.isascii() and latent.isdigit()) or len(latent) > 9:
                raise InputError("name an index and a latent: ?index=papers&latent=12")
            return lambda caller: self._answers.latent(caller, index, int(latent))

        return await self._answer(request, read=read)

    async def _answer(
        self,
        request: Request,
        call: Callable[[Caller], Any] | None = None,
        read: Callable[[], Awaitable[Callable[[Caller], Any]]] | None = None,
    ) -> Response:
        """Answer in a thread, or say in one line why not."""
        # A page of another site may not ask with the rights that somebody has here.
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return failed(403, "this address only answers its own page")
        try:
            call = await read() if read else call
            assert call is not None
            caller = self._caller_of(request)
            if self._limiter is None:
                self._limiter = anyio.CapacityLimiter(AT_ONCE)
            content = await anyio.to_thread.run_sync(
                partial(self._ask, call, caller), limiter=self._limiter, abandon_on_cancel=True
            )
        except LatentIngestError as error:
            return failed(*in_plain_words(error))
        except Exception:
            log.exception("the page's request %s failed", request.url.path)
            return failed(500, "something went wrong here; the log of the proxy says what")
        return answered(200, content)

    def _ask(self, call: Callable[[Caller], Any], caller: Caller) -> Any:
        """Call, and once more if an index is gone: its alias may stand for another one now."""
        try:
            return call(caller)
        except EngineError as error:
            if status_of(error) != 404 or not self._opened.forget(caller):
                raise
            return call(caller)


def answered(status: int, content: Any) -> Response:
    """A JSON answer."""
    return JSONResponse(content, status, {**HEADERS, "cache-control": "no-store"})


def failed(status: int, words: str) -> Response:
    """An answer that says in plain words what went wrong."""
    return answered(status, {"error": words, "status": status})


def in_plain_words(error: LatentIngestError) -> tuple[int, str]:
    """Status and message of an error, for somebody who did not set up the engine."""
    words = str(error).encode("utf-8", "replace").decode("utf-8")
    if isinstance(error, InputError):
        return 400, words
    if isinstance(error, MismatchError):
        return (404, words.split(";")[0]) if words.startswith("no index") else (409, words)
    if isinstance(error, ModelError):
        return 503, f"the model cannot be used: {words}"
    if not isinstance(error, EngineError):
        return 500, words
    status = status_of(error)
    if status == 401:
        return 401, "the search engine asks for a login, or refuses this one"
    if status == 403:
        return 403, f"this login may not do that: {inner(words)}"
    if status == 404:
        return 404, f"not found: {inner(words)}"
    if status is not None and status < 500 and status != 429:
        return 400, f"the search engine refuses this request: {inner(words)}"
    if isinstance(error.__cause__, ConnectionTimeout):
        return 504, "the search engine did not answer in time; try again"
    if status in (429, 503):
        return 503, "the search engine is busy or not ready; try again in a moment"
    return 502, "the search engine cannot be reached; try again, or ask who runs it"


def inner(words: str) -> str:
    """The engine's own reason in a message, without the engine's address."""
    for sign in (" forbids this (", " answered "):
        if sign in words:
            words = words.split(sign, 1)[1]
            return words.split("); ask for")[0] if sign.endswith("(") else words.split(": ", 1)[-1]
    return words


async def content_of(request: Request) -> Any:
    """The JSON of a request; raises InputError."""
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > LARGEST_BODY:
            raise InputError(f"the request has more than {LARGEST_BODY:,} bytes")
    try:
        content = json.loads(bytes(read))
    except (ValueError, RecursionError) as error:
        raise InputError("the request is not JSON") from error
    if not isinstance(content, dict):
        raise InputError("send a JSON object")
    return content


def listed(hits: object) -> Sequence[object]:
    """The hits whose passages are asked for; raises InputError."""
    if not isinstance(hits, list) or not 1 <= len(hits) <= MOST_PASSAGES:
        raise InputError(f"name 1 to {MOST_PASSAGES} hits")
    return hits


def key_of(hit: object) -> tuple[str, str]:
    """Index and id of a hit; raises InputError."""
    if isinstance(hit, dict):
        index, id = hit.get("index"), hit.get("id")
        if isinstance(index, str) and isinstance(id, str) and index and id:
            return index, id
    raise InputError("a hit has an index and an id")
