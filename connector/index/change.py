"""The change of an index that a preparation plans: all of it, or nothing.

close → analyzer and similarity, which an open index refuses → fields and `_meta` → open
"""

from __future__ import annotations

import logging

from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.creation import refusal
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.preparing import ExistingIndex, Preparation

log = logging.getLogger(__name__)


def prepare(preparation: Preparation, retry: Retry) -> None:
    """Add what the index lacks, and leave it open; `retry` opens it.

    If a step fails, or Ctrl-C is pressed, the index is put back: open or closed, its settings and
    `_meta` as before. Raises InputError if the engine refuses, and EngineError.
    """
    before = preparation.index
    index = before.index
    if preparation.settings and before.open:
        index.close(retry)
    try:
        if preparation.settings:
            index.put_settings(preparation.settings)
        if preparation.mapping:
            index.put_mapping(preparation.mapping)
        if preparation.settings or not before.open:
            open_once(index, retry)
    except BaseException as error:
        try:
            put_back(preparation, retry)
        except EngineError as second:
            log.warning("index %s could not be put back: %s", index.name, second)
        if not isinstance(error.__cause__, RequestError):
            raise
        reason = refusal(error.__cause__)
        raise InputError(f"index {index.name} refuses latent terms: {reason}") from error


def open_once(index: Index, retry: Retry) -> None:
    """Open the index; if the time is up, what follows is tried once and not waited for again."""
    try:
        index.open(retry)
    except EngineError:
        retry.ended.set()
        raise


def put_back(preparation: Preparation, retry: Retry) -> None:
    """Make an index what it was before `prepare`; log what cannot be undone. EngineError."""
    before = preparation.index
    index = before.index
    try:
        now = retry.ask(ExistingIndex.read, index.client, index.name)
        if now.meta != before.meta:
            retry.ask(index.put_mapping, {"_meta": before.meta})
        added = preparation.mapping.get("properties", {}).keys()
        kept = (now.fields & added) - before.fields
        changed = {
            name: before.settings.get(name)
            for name in preparation.settings
            if now.settings.get(name) != before.settings.get(name)
        }
        if kept:
            log.warning(
                "index %s keeps the fields %s, empty, and the settings of their analyzer, since no "
                "engine removes a field; the same command uses them",
                index.name,
                ", ".join(sorted(kept)),
            )
        elif changed:
            if now.open:
                index.close(retry)
            retry.ask(index.put_settings, changed)
    except EngineError:
        retry.ended.set()
        raise
    finally:
        if before.open and preparation.settings:
            index.reopen(retry)
    if not before.open and ExistingIndex.read(index.client, index.name).open:
        index.close(retry)
