"""An alias and its versions: indices built one after the other, of which the alias has one.

Versions of alias `papers` are indices `papers-<model>-<number>`. All that is known of a version is
kept in its own `_meta.latent_ingest`: the alias, the number, and whether it is complete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo, list_indices

FORBIDDEN = set('\\/*?"<>| ,#:')


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of an engine, existing or not. Each method asks the engine.

    All methods raise EngineError if the engine cannot be asked, or refuses.
    """

    client: OpenSearch
    name: str

    def versions(self) -> list[IndexInfo]:
        """All versions, complete or not, the oldest first."""
        found = [info for info in self._named_like_versions() if info.alias == self.name]
        return sorted(found, key=lambda version: version.number)

    def target(self) -> IndexInfo | None:
        """The index that the alias points at; None if the alias does not exist.

        Raises InputError if the name is invalid or an index, or if it points at several indices.
        """
        name = self.name
        if not name or FORBIDDEN & set(name) or name != name.lower() or name[0] in "-_+.":
            raise InputError(
                f"alias {name!r}: an alias is lower case, without spaces and "
                f'\\ / * ? " < > | , # : and does not begin with - _ + .'
            )
        found = list_indices(self.client, name)
        names = [info.name for info in found]
        if name in names:
            raise InputError(
                f"{name} is an index, not an alias; name another alias, or ingest into the index "
                f"with --index {name}"
            )
        if len(names) > 1:
            raise InputError(
                f"alias {name} points at {len(names)} indices ({', '.join(names)}); remove it "
                f"from all but one"
            )
        return found[0] if found else None

    def next_version(self, model: str) -> tuple[str, int]:
        """Name and number of a new version, made with the model of that name."""
        safe = re.sub(r"[^a-z0-9._-]+", "-", model.lower()).strip("-._") or "model"
        taken = {info.name for info in self._named_like_versions()}
        number = max((version.number for version in self.versions()), default=0) + 1
        while f"{self.name}-{safe}-{number}" in taken:  # by an index of somebody else
            number += 1
        return f"{self.name}-{safe}-{number}", number

    def move(self, new: IndexInfo) -> IndexInfo | None:
        """Point the alias at an index in one request; create it if it does not exist.

        An incomplete version gets its replicas, refresh interval and final pipeline, loses the
        guard aliases of killed runs, and is then complete. The alias keeps its filters and routing.
        Returns the index that it pointed at before; raises InputError if it cannot be moved.
        """
        before = self.target()
        if new.closed:
            raise InputError(f"index {new.name} is closed; open it first (POST /{new.name}/_open)")
        index = Index(self.client, new.name)
        unfinished = new.alias is not None and not new.complete
        actions: list[dict[str, Any]] = []
        if before and before.name != new.name:
            actions.append({"remove": {"index": before.name, "alias": self.name}})
        kept = before.aliases[self.name] if before else {}
        actions.append({"add": {"index": new.name, "alias": self.name, **kept}})
        if unfinished:
            actions += [{"remove": {"index": new.name, "alias": guard}} for guard in new.guards]
            settings = dict(new.stored.get("loading") or {})
            if (replicas := new.stored.get("replicas")) is not None:
                settings["number_of_replicas"] = replicas
            if pipeline := new.stored.get("final_pipeline"):
                settings["final_pipeline"] = pipeline
            if settings:
                index.put_settings({"index": settings})
        with engine_errors(self.client):
            self.client.indices.update_aliases(body={"actions": actions})
        if unfinished:
            # Last, so that a run interrupted before this resumes, and starts no new version.
            index.update_meta(complete=True, loading=None)
        return before

    def live_number(self, target: IndexInfo | None) -> int:
        """Number of the version that the alias points at; raises InputError if it is none."""
        if target is None:
            raise InputError(
                f"no alias {self.name}; 'latent-ingest indices' lists the existing ones, and "
                f"'latent-ingest FILE --alias {self.name}' creates it"
            )
        if target.alias != self.name:
            raise InputError(
                f"alias {self.name} points at {target.name}, which was not built with --alias "
                f"{self.name}, so it has no older version; name one with 'latent-ingest rollback "
                f"--alias {self.name} --to INDEX'"
            )
        return target.number

    def version_before(self, target: IndexInfo | None) -> IndexInfo:
        """The last complete version before the one that the alias points at; InputError if none."""
        number = self.live_number(target)
        if before := [v for v in self.versions() if v.complete and v.number < number]:
            return before[-1]
        name = target.name if target else ""
        raise InputError(
            f"alias {self.name}: there is no complete version before {name}; 'latent-ingest "
            f"indices --alias {self.name}' lists the versions"
        )

    def candidate(self, name: str) -> IndexInfo:
        """The index of that name; raises InputError if the alias must not point at it."""
        info = next((info for info in list_indices(self.client) if info.name == name), None)
        if info is None or not info.stored:
            problem = "is not an index" if info is None else "has no latent terms"
            raise InputError(f"{name} {problem}; 'latent-ingest indices' lists those that have")
        if info.alias not in (None, self.name):
            raise InputError(f"index {name} is a version of alias {info.alias}, not of {self.name}")
        return info

    def _named_like_versions(self) -> list[IndexInfo]:
        return list_indices(self.client, f"{self.name}-*")


def without_replicas(index: Index) -> None:
    """Load faster: replicas are made when the version is complete, as many as it has now.

    An engine that requires a replica in each zone refuses; then they stay.
    """
    info = IndexInfo.read(index.client, index.name)
    if info.stored.get("replicas") is None:
        index.update_meta(replicas=info.replicas)
    try:
        index.put_settings({"index": {"number_of_replicas": 0}})
    except EngineError as error:
        if not isinstance(error.__cause__, RequestError):
            raise
