"""What operators ask: is the proxy alive, is it ready, and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from latent_ingest.connector.proxy.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy


def operator_routes(proxy: Proxy) -> list[Route]:
    """Return the routes of a proxy, below `/_latent`."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_request: Request) -> Response:
        if proxy.stopping:
            return JSONResponse({"status": "stopping"}, 503)
        if proxy.models.problem:
            return JSONResponse({"status": "no model", "reason": proxy.models.problem}, 503)
        if not proxy.models.ready:
            return JSONResponse({"status": "loading the model"}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(_request: Request) -> Response:
        return Response(proxy.metrics.text(), headers={"content-type": CONTENT_TYPE.decode()})

    return [Route("/health", health), Route("/ready", ready), Route("/metrics", metrics)]
