"""Searches: bodies are rewritten by the library's rewriter, answers are the engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latent_ingest.connector.proxy import paths
from latent_ingest.connector.proxy.bodies import read
from latent_ingest.connector.proxy.caller import Caller
from latent_ingest.connector.proxy.messages import Exchange
from latent_ingest.connector.proxy.paths import Asked
from latent_ingest.connector.proxy.searching.bodies import parsed
from latent_ingest.connector.proxy.searching.left_alone import LeftAlone
from latent_ingest.connector.proxy.searching.several import multi_search
from latent_ingest.connector.proxy.searching.single import single_search
from latent_ingest.connector.proxy.searching.templates import rendered

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

# Bytes of the longest body that is rewritten.
MAX_SEARCH = 4_000_000


async def search(proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked) -> None:
    """Answer a search of any kind."""
    content, whole = await read(exchange, MAX_SEARCH)
    if not whole:
        proxy.guard.refuse_unread()
        await proxy.leave_alone(exchange, "the body is too long to be parsed")
        return
    proxy.guard.check_body(asked, exchange, content)
    if not proxy.guard.all and asked.kind in (paths.TEMPLATE, paths.MULTI_TEMPLATE):
        if asked.kind == paths.MULTI_TEMPLATE or not exchange.is_json:
            raise paths.not_served("templates of several searches")
        try:  # what a stored template searches shows only then
            await rendered(proxy, exchange, parsed(content))
        except LeftAlone as error:
            raise paths.not_served(f"this template: {error}") from error
    several = asked.kind in (paths.MULTI_SEARCH, paths.MULTI_TEMPLATE)
    answer = multi_search if several else single_search
    try:
        if content.strip() and not exchange.is_json:
            raise LeftAlone("the body is not JSON by its Content-Type")
        await answer(proxy, exchange, caller, asked, content)
    except LeftAlone as error:
        await proxy.leave_alone(exchange, str(error))
