"""What the engine tells about indices, without all of their mappings and settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.meta import IndexMeta, stored_meta

# The parts of the engine's answer about indices that are used.
WANTED = ",".join(
    f"*.{path}"
    for path in (
        "aliases",
        "data_stream",
        "mappings._meta.latent_ingest",
        "settings.index.creation_date",
        "settings.index.number_of_replicas",
        "settings.index.uuid",
        "settings.index.verified_before_close",
    )
)

# End of a guard alias: the number of the run, and the hash of what it loads.
GUARD = re.compile(r"\.loading-(\d+)-[0-9a-f]{8}$")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """One index in a listing, with latent terms or without."""

    name: str
    uuid: str
    aliases: dict[str, dict[str, Any]]
    """Aliases that point at it, with their filters and routing; without `guards`."""
    guards: list[str]
    """Guard aliases of runs that load it or were killed; see `Guard`."""
    created: float
    """Unix time in seconds."""
    closed: bool
    replicas: int
    stored: dict[str, Any]
    """`_meta.latent_ingest`; empty if the index has no latent terms."""
    data_stream: str | None = None
    """The data stream whose documents it holds."""

    @classmethod
    def read(cls, client: OpenSearch, name: str) -> IndexInfo:
        """The existing index of that name; raises EngineError."""
        (info,) = list_indices(client, name)
        return info

    @property
    def meta(self) -> IndexMeta:
        """The index meta; raises MismatchError if the index has none."""
        return IndexMeta.from_stored(self.name, self.stored or None)

    @property
    def alias(self) -> str | None:
        """The alias it is a version of; None if it is no version."""
        alias: str | None = self.stored.get("alias")
        return alias

    @property
    def number(self) -> int:
        """Number of the version; 0 if it is no version."""
        return int(self.stored.get("number") or 0)

    @property
    def complete(self) -> bool | None:
        """Whether the version has taken its alias; None if it is no version."""
        complete: bool | None = self.stored.get("complete")
        return complete


def list_indices(client: OpenSearch, pattern: str = "*") -> list[IndexInfo]:
    """The indices that a name, alias or pattern stands for, sorted by name; raises EngineError."""
    with engine_errors(client):
        try:
            answer = client.indices.get(
                index=pattern, expand_wildcards="open,closed", filter_path=WANTED
            )
        except NotFoundError:
            return []
    return [info_of(name, content) for name, content in sorted(answer.items())]


def refuse_data_streams(found: list[IndexInfo]) -> None:
    """Raise InputError for an index of a data stream, which engines neither close nor block."""
    for info in found:
        if info.data_stream:
            raise InputError(
                f"{info.data_stream} is a data stream, to which documents can only be added; copy "
                f"its documents into an index (POST /_reindex), and use that"
            )


def info_of(name: str, content: dict[str, Any]) -> IndexInfo:
    """One index of the engine's answer."""
    settings, aliases = content["settings"]["index"], content.get("aliases", {})
    stored = stored_meta(content.get("mappings", {}))
    return IndexInfo(
        name=name,
        uuid=settings["uuid"],
        aliases={alias: kept for alias, kept in aliases.items() if not GUARD.search(alias)},
        guards=sorted(filter(GUARD.search, aliases)),
        created=int(settings["creation_date"]) / 1000,
        closed=settings.get("verified_before_close") == "true",
        replicas=int(settings["number_of_replicas"]),
        stored=stored if isinstance(stored, dict) else {},
        data_stream=content.get("data_stream"),
    )
