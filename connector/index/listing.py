"""What the engine says of an index, without asking for all of its mapping and settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError

from latent_ingest.connector.engine.client import engine_errors

# What is asked of the engine about indices, of all that it could say.
WANTED = ",".join(
    f"*.{path}"
    for path in (
        "aliases",
        "mappings._meta.latent_ingest",
        "settings.index.creation_date",
        "settings.index.number_of_replicas",
        "settings.index.uuid",
        "settings.index.verified_before_close",
    )
)

# How the alias ends that a run puts on the index it loads: the number of the run, and whose it is.
GUARD = re.compile(r"\.loading-(\d+)-[0-9a-f]{8}$")


@dataclass(frozen=True, slots=True)
class ListedIndex:
    """An index as the engine lists it."""

    name: str
    uuid: str
    aliases: dict[str, dict[str, Any]]
    """That point at it, with their filters and routing, but for `guards`."""
    guards: list[str]
    """Aliases of runs that load it, or were killed; see `Guard`."""
    created: float
    """Seconds since 1970."""
    closed: bool
    replicas: int
    stored: dict[str, Any]
    """`_meta.latent_ingest`; empty where the index has no latent terms."""

    @property
    def model(self) -> str:
        return str(self.stored.get("model"))

    @property
    def alias(self) -> str | None:
        """The alias it is a version of."""
        alias: str | None = self.stored.get("alias")
        return alias

    @property
    def number(self) -> int:
        """Of the version; 0 for an index that is none."""
        return int(self.stored.get("number") or 0)

    @property
    def complete(self) -> bool | None:
        """Whether the version has taken its alias; none for an index that is no version."""
        complete: bool | None = self.stored.get("complete")
        return complete


def list_indices(client: OpenSearch, pattern: str = "*") -> list[ListedIndex]:
    """The indices that a name, alias or pattern stands for, with latent terms or without.

    Raises:
        EngineError: the engine cannot be asked.
    """
    with engine_errors(client):
        try:
            answer = client.indices.get(
                index=pattern, expand_wildcards="open,closed", filter_path=WANTED
            )
        except NotFoundError:
            return []
    return [
        ListedIndex(
            name=name,
            uuid=settings["uuid"],
            aliases={alias: kept for alias, kept in aliases.items() if not GUARD.search(alias)},
            guards=sorted(filter(GUARD.search, aliases)),
            created=int(settings["creation_date"]) / 1000,
            closed=settings.get("verified_before_close") == "true",
            replicas=int(settings["number_of_replicas"]),
            stored=stored if isinstance(stored, dict) else {},
        )
        for name, content in sorted(answer.items())
        for settings in [content["settings"]["index"]]
        for aliases in [content.get("aliases", {})]
        for stored in [content.get("mappings", {}).get("_meta", {}).get("latent_ingest")]
    ]
