"""The proxy as an ASGI application.

request → path and limits → (search, write: rewritten) → engine → answer, streamed
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount

from latent_ingest.connector.proxy import paths
from latent_ingest.connector.proxy.bodies import limited, read, too_large
from latent_ingest.connector.proxy.caller import LOGIN_HEADERS, NOT_BELIEVED, Caller, client_of
from latent_ingest.connector.proxy.indices import Indices
from latent_ingest.connector.proxy.messages import (
    ClientGone,
    Exchange,
    Message,
    Receive,
    Refused,
    Scope,
    Send,
    forwarded,
    without,
)
from latent_ingest.connector.proxy.metrics import Metrics
from latent_ingest.connector.proxy.models import Models
from latent_ingest.connector.proxy.operators import operator_routes
from latent_ingest.connector.proxy.page.opened import Caller as PageCaller
from latent_ingest.connector.proxy.page.routes import page_routes
from latent_ingest.connector.proxy.searching.search import MAX_SEARCH, search
from latent_ingest.connector.proxy.serving.stopping import Stop
from latent_ingest.connector.proxy.settings import Settings
from latent_ingest.connector.proxy.upstream import Answer, Content, Headers, Unreachable, Upstream
from latent_ingest.connector.proxy.writing.bulk import bulk
from latent_ingest.connector.proxy.writing.writer import write

log = logging.getLogger(__name__)

# Paths below this one are the proxy's own; engines refuse such a name of an index.
OWN = "/_latent"

# Seconds after which a client that was refused may ask again.
RETRY_AFTER = (b"retry-after", b"1")


def create_app(settings: Settings, routes: Sequence[BaseRoute] = ()) -> Proxy:
    """Return the proxy.

    Args:
        settings: what the operator chose.
        routes: further routes below `/_latent`.

    Raises:
        InputError: a certificate or the login cannot be used.
    """
    return Proxy(settings, routes)


class Proxy:
    """The ASGI application: paths below `/_latent` are its own, all others the engine's."""

    def __init__(self, settings: Settings, routes: Sequence[BaseRoute] = ()) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.upstream = Upstream(settings)
        self.models = Models(settings)
        self.indices = Indices(self.upstream, self.models, settings)
        self.indices.on_lookup = self.metrics.lookup
        self.guard = paths.Allowed(settings.allow)
        self.stopping = False
        """Whether new requests are refused."""
        self._stop = Stop(self)
        named = {name.lower().encode() for name in settings.drop_headers}
        self._dropped = NOT_BELIEVED | named
        self._tells_address = b"x-forwarded-for" not in named
        self._login_headers = LOGIN_HEADERS | {
            name.lower().encode() for name in settings.login_headers
        }
        self.in_progress = 0
        """Requests that have begun and not ended."""
        self._loading: asyncio.Future[None] | None = None
        page = page_routes(
            self._page_caller,
            self.models.queries,
            folders=settings.models,
            allowed=self.guard.allows,
        )
        self._pages = Starlette(
            routes=[Mount(OWN, routes=[*operator_routes(self), *routes, *page])]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or begin and end with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            path = scope["raw_path"]
            if path.startswith(OWN.encode()) and path[len(OWN) : len(OWN) + 1] in (b"", b"/"):
                await self._pages(scope, receive, send)
            else:
                await self._serve(Exchange(scope, receive, send, timeout=self.settings.timeout))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.upstream.open()
                self._stop.listen()
                loop = asyncio.get_running_loop()
                self._loading = loop.run_in_executor(self.models.pool, self._load)
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.stopping = True
                await self.upstream.close()
                self.models.pool.shutdown(wait=False, cancel_futures=True)
                self._stop.ended()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _load(self) -> None:
        self.models.load()
        self.models.on_batch(self.metrics.encoded)
        if self.models.problem:
            log.error("%s", self.models.problem)

    async def _serve(self, exchange: Exchange) -> None:
        self.in_progress += 1
        self.metrics.in_progress.inc()
        try:
            if self.stopping or self.in_progress > self.settings.max_concurrent:
                why = "is stopping" if self.stopping else "has too many requests in progress"
                raise Refused(503, "unavailable_exception", f"the proxy {why}", [RETRY_AFTER])
            await self._answer(exchange)
        except Refused as refused:
            exchange.outcome = "refused"
            await self._refuse(exchange, refused)
        except Unreachable as error:
            exchange.outcome = "unreachable"
            self.metrics.unreachable.inc()
            status = 504 if error.late else 502 if error.sent else 503
            kind = "timeout_exception" if error.late else "unavailable_exception"
            headers = [] if error.sent else [RETRY_AFTER]
            await self._refuse(exchange, Refused(status, kind, str(error), headers))
        except ClientGone:
            exchange.outcome = "client gone"
        except Exception:
            exchange.outcome = "failed"
            log.exception("a request failed: %s %s", exchange.method, exchange.path)
            await self._refuse(
                exchange, Refused(500, "internal_error", "the proxy failed; its log says why")
            )
        finally:
            self.in_progress -= 1
            self.metrics.in_progress.dec()
            self.metrics.finished(exchange)

    async def _refuse(self, exchange: Exchange, refused: Refused) -> None:
        """Answer with an error; an answer that has begun is broken off, not ended."""
        if exchange.status:  # the server sees that it is not complete, and closes the connection
            exchange.outcome = "broken off"
            return
        try:
            await exchange.refuse(refused)
        except ClientGone:
            exchange.outcome = "client gone"

    async def _answer(self, exchange: Exchange) -> None:
        asked = paths.read_path(exchange.path, exchange.method)
        exchange.kind = asked.kind
        if self.settings.read_only:
            paths.check_reading(asked, exchange.method)
        self.guard.check_path(asked, exchange)
        if exchange.word(b"transfer-encoding") not in ("", "chunked"):
            raise Refused(400, "illegal_argument_exception", "only chunked bodies are read")
        length = exchange.header(b"content-length")
        if length is not None and int(length) > self.settings.max_body:
            raise too_large()
        if asked.kind != paths.OTHER and self._loading and not self._loading.done():
            await asyncio.shield(self._loading)
        if asked.kind in paths.SEARCHES:
            await search(self, exchange, self.caller(exchange), asked)
        elif asked.kind == paths.BULK and (self.settings.documents or not self.guard.all):
            await bulk(self, exchange, self.caller(exchange), asked)
        elif asked.kind in (paths.DOCUMENT, paths.UPDATE):
            if self.settings.documents:
                await write(self, exchange, self.caller(exchange), asked)
            else:
                await self.pass_through(exchange)
        else:
            await self._pass_other(exchange, asked)

    async def _pass_other(self, exchange: Exchange, asked: paths.Asked) -> None:
        """Pass a request through that is neither a search nor a document."""
        if not self.guard.all and exchange.has_body:
            content, whole = await read(exchange, MAX_SEARCH)
            if not whole:
                self.guard.refuse_unread()
            self.guard.check_body(asked, exchange, content)
        await self.pass_through(exchange, exchange.taken)
        if exchange.method in ("PUT", "POST", "DELETE") and paths.changes_indices(asked):
            self.indices.forget()

    def caller(self, exchange: Exchange) -> Caller:
        """Return who asks."""
        return Caller(self.forwarded(exchange), self._login_headers)

    def forwarded(self, exchange: Exchange) -> Headers:
        """Return the headers of a request that the engine gets."""
        return forwarded(exchange, self._dropped, address=self._tells_address)

    def json_headers(self, exchange: Exchange) -> Headers:
        """Return the headers for a request with another body, of JSON."""
        headers = without(
            self.forwarded(exchange), b"content-length", b"content-encoding", b"content-type"
        )
        kind = exchange.raw_type if exchange.is_json else b"application/json"
        return [*headers, (b"content-type", kind)]

    async def pass_through(self, exchange: Exchange, start: bytes = b"") -> None:
        """Send a request as it is; `start` is what has been read of its body."""
        content: Content = None
        headers = without(self.forwarded(exchange), b"content-length")
        if start and exchange.ended:
            content = start
        elif exchange.has_body:
            content = limited(exchange, start, self.settings.max_body)
            if length := exchange.header(b"content-length"):
                headers.append((b"content-length", str(int(length)).encode()))
        again = exchange.method in ("GET", "HEAD") and content is None
        answer = await self.send(exchange, exchange.target, headers, content, again=again)
        async with answer:
            await self.relay(exchange, answer)

    async def leave_alone(self, exchange: Exchange, reason: str) -> None:
        """Pass a search through as it is, and say why; with `--strict` it is refused."""
        self.metrics.leave_alone(reason)
        if exchange.word(b"x-latent") != "off":
            self.refuse_if_strict(reason)
        exchange.done("passed through", reason)
        await self.pass_through(exchange, exchange.taken)

    def refuse_if_strict(self, reason: str) -> None:
        """Raise Refused for a search that is not rewritten, with `--strict`."""
        if self.settings.strict:
            raise Refused(400, "illegal_argument_exception", f"not rewritten: {reason}")

    async def send(
        self,
        exchange: Exchange,
        target: str,
        headers: Headers,
        content: Content,
        *,
        again: bool = False,
    ) -> Answer:
        """Send a request to the engine; raises as `Upstream.send`."""
        began = time.monotonic()
        answer = await self.upstream.send(exchange.method, target, headers, content, again=again)
        self.metrics.engine.observe(time.monotonic() - began)
        return answer

    async def relay(self, exchange: Exchange, answer: Answer, start: bytes = b"") -> None:
        """Send an answer to the client, as it comes; `start` is what has been read of it."""
        await exchange.start(answer.status, answer.headers)
        if start:
            await exchange.write(start, more=True)
        async for chunk in answer.chunks():
            await exchange.write(chunk, more=True)
        await exchange.write(b"", more=False)

    def _page_caller(self, request: Request) -> PageCaller:
        """Return who asks by the page, and a client that asks the engine for them."""
        exchange = Exchange(request.scope, request.receive, nobody, timeout=self.settings.timeout)
        caller = self.caller(exchange)
        client = client_of(self.upstream, caller, asyncio.get_running_loop())
        return PageCaller(client, caller.key.hex())


async def nobody(message: Message) -> None:
    """Take the messages of an exchange that is only read."""
