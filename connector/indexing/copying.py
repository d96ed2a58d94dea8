"""A copy of an index, to be enriched: the next version behind an alias.

The engine copies the documents itself (`_reindex`); the index that is copied is never written to
nor closed, but takes no writes in the moment in which the alias moves. What is known of a copy is
in its own `_meta.latent_ingest`, as for other versions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.client import engine_errors, reason_of
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.guard import guarded, let_writes_in, no_writes
from latent_ingest.connector.index.listing import ListedIndex
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import flat, index_uuid, refresh_off
from latent_ingest.connector.index.preparing import ExistingIndex, Preparation, plan
from latent_ingest.connector.indexing.enrich import EnrichReport
from latent_ingest.connector.indexing.versions import (
    Build,
    behind,
    next_version,
    one,
    take,
    versions_of,
    without_replicas,
)

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# How often the engine is asked how far it is with copying.
ASK_SECONDS = 0.5

# Settings that belong to one index and not to a copy of it.
ITS_OWN = (
    "index.blocks.",
    "index.creation_date",
    "index.provided_name",
    "index.resize.",
    "index.routing.allocation.initial_recovery.",
    "index.uuid",
    "index.verified_before_close",
    "index.version.",
)


@dataclass(frozen=True, slots=True)
class Copy:
    """A version that is made of an index's documents, by this command or by several of the same."""

    client: OpenSearch
    source: ExistingIndex
    build: Build
    preparation: Preparation
    """Of the copy, which lacks nothing any more."""
    warn: Callable[[str], None]
    """Called with lines the user should see at once."""

    @classmethod
    def begin(
        cls,
        client: OpenSearch,
        source: ExistingIndex,
        alias: str,
        encoder: LatentEncoder,
        wanted: dict[str, Any],
        *,
        restart: bool = False,
        warn: Callable[[str], None] = lambda line: None,
    ) -> Copy:
        """Make the next version, empty, or find the one that was not brought to its end.

        Args:
            client: of the engine.
            source: the index that is copied.
            alias: its name; it need not be there yet.
            encoder: the model.
            wanted: fields of `MappingConfig` that were asked for, as for `existing.plan`.
            restart: make a new one in any case.
            warn: called with lines the user should see at once.

        Raises:
            InputError: the alias is an index, or points at several or at another without latent
                terms; the source has latent terms already or is closed; or as `existing.plan`.
            MismatchError: the source cannot take latent terms.
            EngineError: the engine cannot be asked.
        """
        before = behind(client, alias)
        if before and not before.stored and before.name != source.name:
            raise InputError(
                f"alias {alias} points at {before.name}, which has no latent terms and is not "
                f"{source.name}; name another alias, or take this one away from it"
            )
        if "latent_ingest" in source.mapping.get("_meta", {}):
            raise InputError(
                f"index {source.name} has latent terms already; leave --alias out to bring them "
                f"up to date"
            )
        if not source.open:
            raise InputError(f"index {source.name} is closed; open it (POST /{source.name}/_open)")
        lacking = plan(client, source, encoder, wanted)
        meta = replace(lacking.meta, source=index_uuid(client, source.name))
        for version in versions_of(client, alias):
            if version.stored.get("source") == meta.source:
                let_writes_in(client, source.name, version.name)
        name = None if restart else unfinished(client, alias, meta)
        if name is not None:
            warn(f"alias {alias}: going on with {name}, which is not complete")
        else:
            name, number = next_version(client, alias, encoder.name)
            meta = replace(
                meta,
                alias=alias,
                number=number,
                complete=False,
                source_written=written(client, source.name),
            )
            create(client, name, lacking, meta)
        without_replicas(client, one(client, name))
        refresh_off(client, name)
        made = ExistingIndex.read(client, name)
        stored = IndexMeta.from_stored(name, made.mapping["_meta"]["latent_ingest"])
        build = Build(client, alias, name, before, restart)
        return cls(client, source, build, Preparation(made, stored), warn)

    def fill(
        self,
        retry: Retry,
        ended: threading.Event,
        on_progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        """Have the engine copy the documents that are not there yet.

        Args:
            retry: for an engine that is away.
            ended: once it is set, copying ends; what was copied stays.
            on_progress: called now and then with documents done, and how many there are.

        Raises:
            EngineError: the engine cannot be asked, or cannot copy a document.
        """
        name, source = self.build.index, self.source.name
        with guarded(self.client, name, f"index:{source}", retry, self.warn) as target:
            body = {
                "source": {"index": source},
                # A document that was copied before has this version, or a later one of ours.
                "dest": {"index": target["index"], "version_type": "external"},
                "conflicts": "proceed",
            }
            params = {
                "wait_for_completion": "false",
                "slices": "auto",
                "require_alias": str("require_alias" in target).lower(),
            }
            task = retry.ask(lambda: self.client.reindex(body=body, params=params))["task"]
            while True:
                found = retry.ask(lambda: self.client.tasks.get(task_id=task))
                status = found["task"]["status"]
                on_progress(status["created"] + status["version_conflicts"], status["total"])
                if found["completed"]:
                    break
                if ended.wait(ASK_SECONDS):
                    retry.ask(lambda: self.client.tasks.cancel(task_id=task))
                    return
            problem = found.get("error") or next(iter(found["response"]["failures"]), None)
            if problem:
                raise EngineError(
                    f"documents of {self.source.name} cannot be copied to {self.build.index}: "
                    f"{problem.get('cause', problem).get('reason')}"
                )

    def finish(self, report: EnrichReport, retry: Retry) -> str | None:
        """Swap the alias to the copy, if it has every document of the source as it is now.

        Args:
            report: of the run.
            retry: for an engine that is away.

        Returns:
            Nothing, or in one line why the alias was not moved and what to do.

        Raises:
            EngineError: the engine cannot be asked, or refuses.
            InputError: the alias has become one that cannot be moved.
        """
        name, source = self.build.index, self.source.name
        if report.stopped:
            return self.build.refusal("the run was stopped")
        if report.failed:
            return self.build.refusal(
                f"{report.failed:,} of the documents failed", "mend them, and give --restart"
            )
        there, here = (retry.ask(partial(count, self.client, of)) for of in (source, name))
        with no_writes(self.client, source, name, retry):
            now = retry.ask(lambda: written(self.client, source))
            if now != self.preparation.meta.source_written:
                return self.build.refusal(
                    f"{source} was written to since its copy was begun",
                    "give the same command with --restart while nothing writes there",
                )
            if here != there:
                return self.build.refusal(
                    f"{name} has {here:,} documents and {source} has {there:,}, so something else "
                    f"writes there",
                    "begin a new version with --restart",
                )
            retry.ask(lambda: take(self.client, self.build.alias, one(self.client, name)))
        return None


def count(client: OpenSearch, index: str) -> int:
    """Documents in an index, all of them; raises EngineError."""
    with engine_errors(client):
        client.indices.refresh(index=index)
        return int(client.count(index=index)["count"])


def unfinished(client: OpenSearch, alias: str, wanted: IndexMeta) -> str | None:
    """The last version that is the same copy and was not brought to its end."""
    same = [
        version
        for version in versions_of(client, alias)
        if version.complete is False and is_same(version, wanted)
    ]
    return same[-1].name if same else None


def is_same(version: ListedIndex, wanted: IndexMeta) -> bool:
    meta = IndexMeta.from_stored(version.name, version.stored)
    parts = ("source", "fingerprint", "mapping")
    return all(getattr(meta, part) == getattr(wanted, part) for part in parts)


def create(client: OpenSearch, name: str, lacking: Preparation, meta: IndexMeta) -> None:
    """An empty index like the one that lacks latent terms, with what it lacks."""
    source = lacking.index
    kept = {key: value for key, value in source.settings.items() if not key.startswith(ITS_OWN)}
    mapping = {
        **source.mapping,
        "properties": {
            **source.mapping.get("properties", {}),
            **lacking.mapping.get("properties", {}),
        },
        "_meta": {**source.mapping.get("_meta", {}), "latent_ingest": meta.to_json()},
    }
    body = {"settings": {**kept, **dict(flat(lacking.settings))}, "mappings": mapping}
    with engine_errors(client):
        try:
            client.indices.create(index=name, body=body)
        except RequestError as error:
            reason = reason_of(error)
            raise InputError(f"index {name} cannot be made like {source.name}: {reason}") from error


def written(client: OpenSearch, index: str) -> int:
    """A number that grows with every write to an index; raises EngineError."""
    with engine_errors(client):
        stats = client.indices.stats(index=index, level="shards")
    (shards,) = (content["shards"].values() for content in stats["indices"].values())
    copies = [copy for copies in shards for copy in copies if copy["routing"]["primary"]]
    # -1 in a shard that was never written to
    return sum(int(copy["seq_no"]["max_seq_no"]) + 1 for copy in copies)
