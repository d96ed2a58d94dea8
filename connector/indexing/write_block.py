"""Writes to an index that is copied: refused in the moment in which an alias moves to the copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException

from latent_ingest.connector.client import engine_errors
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.indexing.index import note
from latent_ingest.connector.indexing.patience import Patience
from latent_ingest.connector.indexing.versions import one

BLOCK = "index.blocks.write"
READ_ONLY = "index.blocks.read_only"


@contextmanager
def no_writes(client: OpenSearch, source: str, copy: str, patience: Patience) -> Iterator[None]:
    """Within it, the engine refuses writes to the index that is copied, so that none is missed.

    The copy notes it, so that the command after one that was killed meanwhile lets them in again.

    Raises:
        EngineError: the engine cannot be asked, or refuses.
    """
    try:
        patience.ask(lambda: block_writes(client, source, copy))
        yield
    finally:
        patience.ask(lambda: let_writes_in(client, source, copy))


def block_writes(client: OpenSearch, source: str, copy: str) -> None:
    """Have the engine refuse writes once those under way are done, unless it does so already."""
    with engine_errors(client):
        (found,) = client.indices.get_settings(index=source, flat_settings=True).values()
        blocked = any(found["settings"].get(block) == "true" for block in (BLOCK, READ_ONLY))
        if blocked and not one(client, copy).stored.get("source_blocked"):
            return  # by somebody else
        note(client, copy, source_blocked=True)
        try:
            client.indices.add_block(index=source, block="write")
        except AuthorizationException:
            note(client, copy, source_blocked=None)
            raise


def let_writes_in(client: OpenSearch, source: str, copy: str) -> None:
    """Take away the block that a copy has noted; not one that somebody else has set."""
    try:
        with engine_errors(client):
            if one(client, copy).stored.get("source_blocked"):
                client.indices.put_settings(index=source, body={BLOCK: None})
                note(client, copy, source_blocked=None)
    except EngineError as error:
        raise EngineError(
            f"{error}; index {source} may be left with {BLOCK}: the same command takes it away"
        ) from error
