"""Repair of an index that an interrupted tuning run, or change of its table of words, left changed.

Before a run closes an index, it writes a note of what to restore into the index itself,
`_meta.latent_ingest.tuning`. If its process is killed, the next command on any machine finds the
note and restores the index: open, with its similarity and write block, its copy deleted.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import time
import uuid
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthenticationException, AuthorizationException

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta, mappings_of, stored_meta, with_meta

# A living process renews its note at this age. Where process ids do not tell, one that has not
# renewed its note for so much longer is taken for dead; clocks of two machines may differ by as
# much.
RENEW_SECONDS = 30
LEASE_SECONDS = 300

# File with the kernel's id of this boot, where there is one.
BOOT = Path("/proc/sys/kernel/random/boot_id")

# What closes an index, in messages.
TUNING = "tuning run"
TABLE_CHANGE = "change of its table of words"

log = logging.getLogger(__name__)


def new_note(
    settings: dict[str, Any],
    copy: str | None = None,
    *,
    by: str = TUNING,
    meta: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A note written by this process.

    Flat settings to restore, a copy to delete, and fields that the index meta gets if nobody knows
    how far the change came.
    """
    return {
        "id": uuid.uuid4().hex,
        "by": by,
        "meta": meta or {},
        "settings": settings,
        "copy": copy,
        "host": platform.node(),
        "machine": machine(),
        "pid": os.getpid(),
        "began": began(os.getpid()),
        "renewed": time.time(),
    }


def new_copy_name(index: str) -> str:
    """A new name for the copy of an index that is tuned."""
    return f"{index}-tune-{uuid.uuid4().hex[:8]}"


def is_copy_name(name: str, index: str) -> bool:
    """Whether tuning could have given this name to a copy of the index."""
    return re.fullmatch(rf"{re.escape(index)}-tune-[0-9a-f]{{8}}", name) is not None


def is_left(note: dict[str, Any]) -> bool:
    """Whether the process that wrote a note has ended without restoring the index."""
    if note["machine"] == machine() and (now := began(note["pid"])) != "":
        return bool(now != note["began"])
    return bool(time.time() - note["renewed"] > LEASE_SECONDS)


def machine() -> str:
    """Id of the boot and container in which process ids are unique; else the host's name."""
    try:
        return f"{BOOT.read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def began(pid: int) -> str | None:
    """Start time of a process, by the kernel's clock; None if it has ended, "" if unknown."""
    # Signal 0 would end the process on Windows.
    if os.name == "nt":
        return ""
    try:
        os.kill(pid, 0)
        # After the name, which may hold anything: the state, and 19 fields later the start time.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return None if state == "Z" else fields[18]


def holds_note(index: Index, note: dict[str, Any]) -> bool:
    """Whether a note is still in the index, or another command has removed it."""
    found = index.stored_meta().get("tuning")
    return bool(found and found["id"] == note["id"])


def renew(index: Index, note: dict[str, Any]) -> None:
    """Write into the index that this process lives; EngineError if another restored the index."""
    if not holds_note(index, note):
        raise EngineError(
            f"index {index.name}: another command took this run for dead and restored the index's "
            f"settings; tune again"
        )
    note["renewed"] = time.time()
    index.update_meta(tuning=note)


def left_note(mapping: dict[str, Any]) -> dict[str, Any] | None:
    """The note in a mapping, if its process has ended without restoring the index."""
    stored = stored_meta(mapping)
    note: dict[str, Any] | None = stored.get("tuning") if isinstance(stored, dict) else None
    return note if note and is_left(note) else None


def warn_if_left(name: str, mapping: dict[str, Any]) -> None:
    """Log a warning if an interrupted run left the index; a reader does not restore it."""
    if note := left_note(mapping):
        log.warning(
            "index %s was left changed by an interrupted %s: it may be closed or have "
            "other k1 and b; 'latent-ingest search' restores it, as does any command with "
            "--index %s",
            name,
            note.get("by", TUNING),
            name,
        )


def repair(client: OpenSearch, names: str, retry: Retry | None = None) -> None:
    """Restore the indices that interrupted runs left; log a warning for each.

    Commands call this before they open an index; reading an index repairs nothing. `names` are
    names, aliases or patterns of indices, separated by commas; `retry` opens an index that is
    closed. Raises EngineError if the engine cannot be asked, or refuses for another reason than
    the login.
    """
    for name, mapping in mappings_of(client, names).items():
        note = left_note(mapping)
        if note is None:
            continue
        index, by = Index(client, name), note.get("by", TUNING)
        try:
            restore(index, note, retry or Retry(client))
            index.update_meta(tuning=None, **note.get("meta", {}))
        except EngineError as error:
            if not isinstance(error.__cause__, (AuthenticationException, AuthorizationException)):
                raise
            log.warning(
                "index %s was left changed by an interrupted %s, and this login may not "
                "restore it: run 'latent-ingest tune' or 'verify' with a login that may",
                name,
                by,
            )
        else:
            log.warning(
                "index %s was left changed by an interrupted %s: it is open and has its "
                "settings again",
                name,
                by,
            )


def restore(index: Index, note: dict[str, Any], retry: Retry) -> None:
    """Restore the settings in a note and delete the copy; the index is open afterwards."""
    if copy := note["copy"]:
        if is_copy_name(copy, index.name):
            with engine_errors(index.client):
                index.client.indices.delete(index=copy, ignore=404)
        else:
            log.warning(
                "index %s: its tuning note names %s, which is not a name that tuning gives to a "
                "copy of it; it is not deleted",
                index.name,
                copy,
            )
    similarity = {k: v for k, v in note["settings"].items() if ".similarity." in k}
    others = {k: v for k, v in note["settings"].items() if k not in similarity}
    if others:
        index.put_settings(others)
    if similarity:
        index.put_settings_closed(similarity, retry)
    elif note.get("by") == TABLE_CHANGE:
        index.reopen(retry)


def change_closed(
    index: Index,
    settings: dict[str, Any],
    note: dict[str, Any],
    retry: Retry,
    properties: dict[str, Any] | None = None,
    **meta: Any,
) -> None:
    """Change settings that an open index refuses, and then fields, and those of its meta.

    The note makes the next command restore the index if this process is killed; if a step fails, it
    is restored at once. Raises EngineError.
    """
    before = index.settings()
    index.update_meta(tuning=note)
    try:
        index.put_settings_closed(settings, retry)
    except BaseException:
        restore(index, note, retry)
        now = index.settings()
        same = all(now.get(name) == before.get(name) for name in settings)
        index.update_meta(tuning=None, **({} if same else note["meta"]))
        raise
    mapping = index.mapping()
    stored = {**(stored_meta(mapping) or {}), "tuning": None, **meta}
    index.put_mapping({"properties": properties or {}, "_meta": with_meta(mapping, stored)})


def check_unchanged(index: str, meta: IndexMeta) -> None:
    """Raise InputError if another process is tuning the index, or changing its table of words."""
    if note := meta.tuning:
        doing = "changed" if note.get("by") == TABLE_CHANGE else "tuned"
        raise InputError(
            f"index {index} is being {doing} by process {note['pid']} on {note['host']}; wait "
            f"until it ends"
        )
