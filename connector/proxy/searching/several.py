"""Several searches in a request: `_msearch`, `_msearch/template`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from latent_ingest.connector.proxy import paths
from latent_ingest.connector.proxy.caller import Caller
from latent_ingest.connector.proxy.messages import Exchange
from latent_ingest.connector.proxy.paths import Asked
from latent_ingest.connector.proxy.searching.attempts import MOVED, ROUNDS, Attempts
from latent_ingest.connector.proxy.searching.bodies import asked_body, parsed, written
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

# Searches of one `_msearch` that are rewritten, and templates that are rendered for it.
MOST_SEARCHES = 1000
MOST_TEMPLATES = 100

GONE = b"index_not_found_exception"


async def multi_search(
    proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked, content: bytes
) -> None:
    """Answer `_msearch`; raises LeftAlone before anything is answered."""
    chosen = Chosen.of(exchange)
    given = exchange.parameters() or {}
    default = asked.index or given.get("index") or "_all"
    if not content.endswith(b"\n"):  # the engine refuses that
        raise LeftAlone("the last line has no end")
    lines = content.removesuffix(b"\n").split(b"\n")
    templates = asked.kind == paths.MULTI_TEMPLATE
    if len(lines) % 2 or len(lines) > 2 * (MOST_TEMPLATES if templates else MOST_SEARCHES):
        raise LeftAlone("the lines are not pairs, or too many")
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    async with Attempts(proxy, exchange) as attempts:
        for last in (False,) * (ROUNDS - 1) + (True,):
            results = await asyncio.gather(
                *(
                    rewritten_pair(proxy, exchange, caller, default, chosen, *pair, templates)
                    for pair in pairs
                )
            )
            made = [one for _, one in results if isinstance(one, Rewritten)]
            if not made:
                raise LeftAlone(next(str(why) for _, why in results))
            if len(made) < len(results):
                proxy.refuse_if_strict(next(w for _, w in results if isinstance(w, str)))
            new = b"".join(part for part, _ in results)
            target = exchange.target
            if templates:
                target = target.replace("/_msearch/template", "/_msearch", 1)
            whole = await attempts.send(target, new, read=True)
            movable = any(one.may_move for one in made)
            wrong = movable and (
                not whole or foreign(attempts.content, [one for _, one in results])
            )
            gone = GONE in attempts.content or attempts.status in MOVED
            stale = (wrong or gone) and not last
            if stale and any([await moved(proxy, caller, one, attempts.status) for one in made]):
                continue
            if wrong:
                raise LeftAlone("the answers may be of other indices than those looked up")
            clauses = sum(len(one.report.rewritten) for one in made)
            exchange.done(
                "rewritten",
                f"form={made[0].report.form.value}",
                f"clauses={clauses}",
                f"searches={len(made)} of {len(results)}",
            )
            await attempts.relay()
            return


async def rewritten_pair(
    proxy: Proxy,
    exchange: Exchange,
    caller: Caller,
    default: str,
    chosen: Chosen,
    head: bytes,
    body: bytes,
    template: bool,
) -> tuple[bytes, Rewritten | str]:
    """Return the two lines of a search of `_msearch`, and what was done or why nothing was."""
    given = parsed(body) if template else None
    if template:
        given = await rendered(proxy, exchange, given)
        body = written(given)
    try:
        header = parsed(head) if head.strip() else {}
        if not isinstance(header, dict):
            raise LeftAlone("a header of the searches is not an object")
        given = parsed(body) if given is None else given
        named = header.get("index", header.get("indices")) or default
        name = ",".join(map(str, named)) if isinstance(named, list) else str(named)
        if point_in_time(given):
            name = ""
        made = await rewrite(proxy, caller, One(asked_body(given, {}), name, chosen, len(body)))
        if made.target:
            header = {**header, "index": made.target.split(",")}
            header.pop("indices", None)
            head = written(header)
        return b"%b\n%b\n" % (head, written(made.body)), made
    except LeftAlone as error:
        return b"%b\n%b\n" % (head, body), str(error)
