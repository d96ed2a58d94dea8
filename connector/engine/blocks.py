"""Blocks: settings that make the engine refuse requests, set by an operator or on a full disk."""

from __future__ import annotations

import re
from typing import Any

from latent_ingest.connector.errors import EngineError

# Setting of each block, by the number in the engine's refusal.
SETTINGS = {
    "5": "index.blocks.read_only",
    "6": "cluster.blocks.read_only",
    "7": "index.blocks.read",
    "8": "index.blocks.write",
    "9": "index.blocks.metadata",
    "10": "cluster.blocks.create_index",
    "12": "index.blocks.read_only_allow_delete",
    "13": "cluster.blocks.read_only_allow_delete",
}

# Blocks of an index under which nothing can be changed, and those that also stop a first enrich.
LASTING = ("read_only", "read_only_allow_delete", "metadata")
PREPARING = (*LASTING, "read", "write")

# The engine sets and removes this one itself.
FULL_DISK = "read_only_allow_delete"

CLOSED = "index.verified_before_close"


def block_of(reason: str) -> str | None:
    """The setting that a refusal names by its number, with the fix; None if it names none."""
    found = re.search(r"blocked by: \[\w+/(\d+)/", reason)
    setting = SETTINGS.get(found[1]) if found else None
    return fix(setting) if setting else None


def fix(setting: str) -> str:
    """What to do about a setting that blocks."""
    if setting.endswith(FULL_DISK):
        return f"free disk space, or set {setting} to null if it was set by hand"
    return f"set {setting} to null"


def check_blocks(index: str, settings: dict[str, Any], blocks: tuple[str, ...]) -> None:
    """Raise EngineError if flat settings have one of these blocks: no waiting removes it."""
    for block in blocks:
        setting = f"index.blocks.{block}"
        if str(settings.get(setting)).lower() == "true":
            raise EngineError(f"index {index} is blocked by {setting}; {fix(setting)} first")


def check_open(index: str, settings: dict[str, Any]) -> None:
    """Raise EngineError if flat settings are those of a closed index."""
    if settings.get(CLOSED) == "true":
        raise EngineError(f"index {index} is closed; open it (POST /{index}/_open)")
