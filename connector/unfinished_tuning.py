"""What has to be put back in an index that is being tuned, in the index itself.

`_meta.latent_ingest.tuning` is written before anything is changed, so that whoever reads the index
next, on any machine, finds it when the process that tuned was killed, and puts the index right:
open, its similarity and write block as they were, its copy deleted.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthenticationException, AuthorizationException

from latent_ingest.connector.client import engine_errors

# A process of another machine that has not renewed its note for so long is taken for dead.
LEASE_SECONDS = 900

log = logging.getLogger(__name__)


def new_note(settings: dict[str, Any], copy: str | None = None) -> dict[str, Any]:
    """A note of this process.

    Args:
        settings: flat index settings as they were; none for those that were not set.
        copy: name of the index that is to be deleted.
    """
    return {
        "settings": settings,
        "copy": copy,
        "host": platform.node(),
        "pid": os.getpid(),
        "renewed": time.time(),
    }


def is_left(note: dict[str, Any]) -> bool:
    """Whether the process that wrote a note has ended without putting things back."""
    if time.time() - note["renewed"] > LEASE_SECONDS:
        return True
    # Signal 0 would end the process on Windows.
    if note["host"] != platform.node() or os.name == "nt":
        return False
    try:
        os.kill(note["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def write_note(client: OpenSearch, index: str, note: dict[str, Any] | None, **meta: Any) -> None:
    """Write the note, or take it away, with other changes of `_meta.latent_ingest`."""
    with engine_errors(client):
        (content,) = client.indices.get_mapping(index=index).values()
        stored = content["mappings"]["_meta"]
        stored["latent_ingest"].update(meta, tuning=note)
        client.indices.put_mapping(index=index, body={"_meta": stored})


def put_back_unfinished(client: OpenSearch, answer: dict[str, Any]) -> dict[str, Any]:
    """Put indices right that were left in the middle of tuning, and say so.

    Args:
        client: of the engine.
        answer: of a request for mappings.

    Returns:
        `answer` itself if there was nothing to do, else what the engine says now.

    Raises:
        EngineError: the engine refuses, for another reason than the login.
    """
    mended = False
    for name, content in answer.items():
        ours = content["mappings"].get("_meta", {}).get("latent_ingest")
        note = ours.get("tuning") if isinstance(ours, dict) else None
        if not note or not is_left(note):
            continue
        with engine_errors(client):
            try:
                put_back(client, name, note)
            except (AuthenticationException, AuthorizationException):
                log.warning(
                    "index %s was left in the middle of tuning, and this login may not put its "
                    "settings back: run 'latent-ingest tune' or 'verify' with one that may",
                    name,
                )
                continue
            write_note(client, name, None)
        mended = True
        log.warning(
            "index %s was left in the middle of tuning: it is open and has its settings again", name
        )
    with engine_errors(client):
        return client.indices.get_mapping(index=",".join(answer)) if mended else answer


def put_back(client: OpenSearch, index: str, note: dict[str, Any]) -> None:
    """Do what a note says; the index is open afterwards."""
    if note["copy"]:
        client.indices.delete(index=note["copy"], ignore=404)
    similarity = {k: v for k, v in note["settings"].items() if ".similarity." in k}
    others = {k: v for k, v in note["settings"].items() if k not in similarity}
    if others:
        client.indices.put_settings(index=index, body=others)
    if similarity:
        set_while_closed(client, index, similarity)


def set_while_closed(client: OpenSearch, index: str, settings: dict[str, Any]) -> None:
    """Change settings that an open index does not take, and open it in any case."""
    from latent_ingest.connector.indexing.existing import closed

    with closed(client, index):
        client.indices.put_settings(index=index, body=settings)
