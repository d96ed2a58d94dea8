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
import uuid
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthenticationException, AuthorizationException

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import EngineError

# The note is renewed when it is so old. Where pids do not tell, a process that has not renewed its
# note for so much longer is taken for dead; clocks of two machines may differ by as much.
RENEW_SECONDS = 30
LEASE_SECONDS = 300

# The kernel's own name of the time since it was started, where there is one.
BOOT = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


def new_note(settings: dict[str, Any], copy: str | None = None) -> dict[str, Any]:
    """A note of this process.

    Args:
        settings: flat index settings as they were; none for those that were not set.
        copy: name of the index that is to be deleted.
    """
    return {
        "id": uuid.uuid4().hex,
        "settings": settings,
        "copy": copy,
        "host": platform.node(),
        "machine": machine(),
        "pid": os.getpid(),
        "began": began(os.getpid()),
        "renewed": time.time(),
    }


def is_left(note: dict[str, Any]) -> bool:
    """Whether the process that wrote a note has ended without putting things back."""
    if note["machine"] == machine() and (now := began(note["pid"])) != "":
        return bool(now != note["began"])
    return bool(time.time() - note["renewed"] > LEASE_SECONDS)


def machine() -> str:
    """Where a pid means what it means here: in this boot and this container; or the host's name."""
    try:
        return f"{BOOT.read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def began(pid: int) -> str | None:
    """When a process was started, by the kernel's clock; none if it has ended, "" if unknown."""
    # Signal 0 would end the process on Windows.
    if os.name == "nt":
        return ""
    try:
        os.kill(pid, 0)
        # After the name, which may hold anything: its state, and 19 fields on, its start.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return None if state == "Z" else fields[18]


def write_note(client: OpenSearch, index: str, note: dict[str, Any] | None, **meta: Any) -> None:
    """Write the note, or take it away, with other changes of `_meta.latent_ingest`."""
    with engine_errors(client):
        (content,) = client.indices.get_mapping(index=index).values()
        stored = content["mappings"]["_meta"]
        stored["latent_ingest"].update(meta, tuning=note)
        client.indices.put_mapping(index=index, body={"_meta": stored})


def holds_note(client: OpenSearch, index: str, note: dict[str, Any]) -> bool:
    """Whether a note is still in the index, or has been taken away by another command."""
    with engine_errors(client):
        (content,) = client.indices.get_mapping(index=index).values()
    found = content["mappings"]["_meta"]["latent_ingest"].get("tuning")
    return bool(found and found["id"] == note["id"])


def renew(client: OpenSearch, index: str, note: dict[str, Any]) -> None:
    """Say in the index that this process lives.

    Raises:
        EngineError: another command has taken it for dead, or the engine refuses.
    """
    if not holds_note(client, index, note):
        raise EngineError(
            f"index {index}: another command took this run for dead and put its settings back; "
            f"tune again"
        )
    note["renewed"] = time.time()
    write_note(client, index, note)


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
    from latent_ingest.connector.index.preparing import closed

    with closed(client, index):
        client.indices.put_settings(index=index, body=settings)
