"""One search in a request: `_search`, `_search/template`, `_async_search`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from latent_ingest.connector.proxy import paths
from latent_ingest.connector.proxy.caller import Caller
from latent_ingest.connector.proxy.messages import Exchange
from latent_ingest.connector.proxy.paths import Asked
from latent_ingest.connector.proxy.searching.attempts import MOVED, ROUNDS, Attempts
from latent_ingest.connector.proxy.searching.bodies import QUERY_STRING, asked_body, parsed, written
from latent_ingest.connector.proxy.searching.chosen import Chosen
from latent_ingest.connector.proxy.searching.left_alone import LeftAlone
from latent_ingest.connector.proxy.searching.rewritten import (
    One,
    Rewritten,
    foreign,
    moved,
    rewrite,
)
from latent_ingest.connector.proxy.searching.templates import rendered
from latent_ingest.connector.querying.application.point_in_time import point_in_time

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy


async def single_search(
    proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked, content: bytes
) -> None:
    """Answer a search; raises LeftAlone before anything is answered."""
    chosen = Chosen.of(exchange)
    given = exchange.parameters()
    if given is None:
        raise LeftAlone("a parameter of the URL is given twice")
    body = parsed(content) if content.strip() else {}
    if asked.kind == paths.TEMPLATE:
        body = await rendered(proxy, exchange, body)
    body = asked_body(body, given)
    if "scroll" in given:
        chosen = chosen.in_one_phase()
    name = "" if point_in_time(body) else asked.index or given.get("index") or "_all"
    one = One(body, name, chosen, len(content))
    async with Attempts(proxy, exchange) as attempts:
        for last in (False,) * (ROUNDS - 1) + (True,):
            made = await rewrite(proxy, caller, one)
            if made.may_move and (asked.kind == paths.ASYNC_SEARCH or "filter_path" in given):
                raise LeftAlone("the alias may move, and the answer would not show it")
            target = target_of(exchange, asked, given, made)
            new = written(made.body)
            whole = await attempts.send(target, new, read=made.may_move)
            wrong = made.may_move and (not whole or foreign(attempts.content, [made]))
            stale = (wrong or attempts.status in MOVED) and not last
            if stale and await moved(proxy, caller, made, attempts.status):
                continue
            if wrong:
                raise LeftAlone("the answer may be of other indices than those looked up")
            exchange.done(
                "rewritten",
                f"form={made.report.form.value}",
                f"clauses={len(made.report.rewritten)}",
            )
            await attempts.relay()
            return


def target_of(exchange: Exchange, asked: Asked, given: dict[str, str], made: Rewritten) -> str:
    """Return path and query for a rewritten search."""
    path, query = exchange.path, exchange.query
    dropped = {*QUERY_STRING} if "q" in given else set()
    if made.one.name and asked.kind != paths.ASYNC_SEARCH:
        names = quote(made.target, safe=",") if made.target else None
        if names is None and asked.index is None:
            names = quote(made.one.name, safe=",*")
        written_index = names or exchange.path.split("/")[1]
        path = f"/{written_index}/_search"
        dropped |= {"index"}
    elif made.target and asked.index:
        path = f"/{quote(made.target, safe=',')}{asked.raw_rest}"
    elif made.target:
        given = {**given, "index": made.target}
        query = urlencode(given)
    if dropped & given.keys():
        query = urlencode({name: v for name, v in given.items() if name not in dropped})
    return f"{path}?{query}" if query else path
