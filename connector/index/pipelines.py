"""Ingest pipelines of an index: they may change, move or drop each document that is indexed.

They do not run for partial updates.
"""

from __future__ import annotations

import json
import logging
import re

from opensearchpy.exceptions import TransportError

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index

DEFAULT, FINAL = "index.default_pipeline", "index.final_pipeline"

# The name that stands for no pipeline.
NONE = "_none"

log = logging.getLogger(__name__)


def pipelines(settings: dict[str, str]) -> list[str]:
    """Names of the pipelines in the flat settings of an index."""
    names = (settings.get(key, NONE) for key in (DEFAULT, FINAL))
    return [name for name in names if name != NONE]


def say_pipelines(index: Index) -> list[str]:
    """Log and return the names of pipelines; raises InputError if one gives documents a routing.

    The engine's answers do not tell the routing, and a document is not found by its id without.
    """
    settings = index.settings()
    names = pipelines(settings)
    if not names:
        return []
    if settings.get("index.number_of_shards") != "1" and (name := routing_pipeline(index, names)):
        raise InputError(
            f"the ingest pipeline {name} of index {index.name} gives documents a routing, so they "
            f"cannot be found or replaced by their ids; take it off (PUT /{index.name}/_settings), "
            f"or use an index of one shard"
        )
    log.warning(
        "documents pass through the ingest pipeline %s of index %s, which may change them; "
        "'latent-ingest verify' names those that are not as in the file",
        " and ".join(names),
        index.name,
    )
    return names


def routing_pipeline(index: Index, names: list[str]) -> str | None:
    """The first pipeline that, by its text or those that it calls, sets `_routing`."""
    for name in names:
        waiting, seen = [name], set[str]()
        while waiting:
            called = waiting.pop()
            seen.add(called)
            try:
                found = json.dumps(index.client.ingest.get_pipeline(id=called, ignore=404))
            except TransportError as error:
                log.info("the ingest pipeline %s cannot be read: %s", called, error.error)
                continue
            if "_routing" in found:
                return name
            others = re.findall(r'"pipeline": \{[^{}]*"name": "([^"]+)"', found)
            waiting += [other for other in others if other not in seen]
    return None
