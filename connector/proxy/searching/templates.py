"""Search templates: the engine renders them, with the caller's rights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.proxy.caller import JSON_HEADERS, TooLong, ask_once
from latent_ingest.connector.proxy.messages import Exchange
from latent_ingest.connector.proxy.searching.bodies import written
from latent_ingest.connector.proxy.searching.left_alone import LeftAlone

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

# Parts of the request for a template that belong to the search.
OF_SEARCH = ("explain", "profile")


async def rendered(proxy: Proxy, exchange: Exchange, body: object) -> Any:
    """Return the body that a search template makes, by the engine; raises LeftAlone."""
    if not isinstance(body, dict):
        raise LeftAlone("the body is not an object")
    wanted = {name: body[name] for name in ("id", "source", "params") if name in body}
    caller = proxy.caller(exchange)
    try:
        status, answer = await ask_once(
            proxy.upstream,
            "POST",
            "/_render/template",
            [*caller.headers, *JSON_HEADERS],
            written(wanted),
        )
    except TooLong as error:
        raise LeftAlone("the rendered template is too long to be read") from error
    if status != 200:
        raise LeftAlone(f"the engine did not render the template (status {status})")
    try:
        made = json.loads(answer)["template_output"]
    except (ValueError, KeyError, TypeError) as error:
        raise LeftAlone("the engine did not render the template") from error
    proxy.guard.check_value(made)
    if not isinstance(made, dict):
        raise LeftAlone("the template makes no object")
    return {**made, **{name: body[name] for name in OF_SEARCH if name in body}}
