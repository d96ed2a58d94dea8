"""A copy of an index that gets latent terms: the next version of an alias.

The engine copies the documents itself (`_reindex`). The source index is never written to nor
closed; it refuses writes only in the moment in which the alias moves. All that is known of a copy
is in its own `_meta.latent_ingest`, as for other versions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.creation import ITS_OWN, create
from latent_ingest.connector.index.guard import guarded, no_writes, unblock_writes
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta, stored_meta, with_meta
from latent_ingest.connector.index.pipelines import DEFAULT, FINAL, NONE
from latent_ingest.connector.index.preparing import ExistingIndex, Preparation, plan
from latent_ingest.connector.indexing.outcomes import EnrichReport
from latent_ingest.connector.indexing.versions import OTHER_FIELDS, Build, start_version

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.questions.stored_table import StoredTable

# Seconds between two questions about the progress of copying.
ASK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Copy:
    """A version made of an index's documents, by this command or by several executions of it."""

    source: ExistingIndex
    build: Build
    preparation: Preparation
    """Preparation of the copy, which lacks nothing."""

    @classmethod
    def begin(
        cls,
        source: ExistingIndex,
        alias: Alias,
        encoder: LatentEncoder,
        wanted: dict[str, Any],
        *,
        restart: bool = False,
        questions: StoredTable | None = None,
    ) -> Copy:
        """Create the next version, empty, or find the unfinished one.

        `wanted` and `questions` are as for `preparing.plan`; `restart` creates a new version in
        any case. Raises InputError as `Build.begin` and `preparing.plan`, and if the source is
        closed or has latent terms already; MismatchError if it cannot take any.
        """
        before = alias.target()
        if before and not before.stored and before.name != source.name:
            raise InputError(
                f"alias {alias.name} points at {before.name}, which has no latent terms and is not "
                f"{source.name}; name another alias, or remove this one from it"
            )
        if stored_meta(source.mapping) is not None:
            raise InputError(
                f"index {source.name} has latent terms already; leave --alias out to bring them "
                f"up to date"
            )
        if not source.open:
            raise InputError(f"index {source.name} is closed; open it (POST /{source.name}/_open)")
        client = alias.client
        lacking = plan(source, encoder, wanted, questions)
        pipeline = source.settings.get(FINAL, NONE)
        meta = replace(
            lacking.meta,
            source=source.index.uuid(),
            own_words=bool(questions) or None,
            final_pipeline=None if pipeline == NONE else pipeline,
        )
        versions = alias.versions()
        for version in versions:
            if version.stored.get("source") == meta.source:
                unblock_writes(source.index, Index(client, version.name))
        same = [
            version
            for version in versions
            if version.complete is False and is_same(version.meta, meta)
            # Pipelines ran for the documents of copies that earlier releases began.
            if "final_pipeline" in version.stored
        ]

        def create(name: str, state: dict[str, Any]) -> None:
            written = source.index.writes()
            create_empty(
                Index(client, name), lacking, replace(meta, source_written=written, **state)
            )

        unfinished = same[-1] if same and not restart else None
        copy = start_version(alias, unfinished, encoder.name, create)
        copy.refresh_off()
        # Nothing else keeps a final pipeline from running for each document that is copied.
        copy.put_settings({FINAL: NONE})
        made = ExistingIndex.read(client, copy.name)
        preparation = Preparation(made, IndexMeta.from_mapping(copy.name, made.mapping))
        return cls(source, Build(alias, copy, before, restart), preparation)

    def fill(
        self,
        retry: Retry,
        ended: threading.Event,
        on_progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        """Have the engine copy the documents that the copy lacks.

        Once `ended` is set, copying ends; documents that were copied stay. `on_progress` is called
        with the number of documents done and of all, every half second.
        """
        copy, source = self.build.index, self.source.name
        client = copy.client
        with guarded(copy, f"index:{source}", retry) as target:
            body = {
                "source": {"index": source},
                # A document that was copied before has this version, or a later one from enriching.
                # Pipelines ran when the documents were indexed.
                "dest": {
                    "index": target["index"],
                    "version_type": "external",
                    "pipeline": NONE,
                },
                "conflicts": "proceed",
            }
            params = {
                "wait_for_completion": "false",
                "slices": "auto",
                "require_alias": str("require_alias" in target).lower(),
            }
            task = retry.ask(lambda: client.reindex(body=body, params=params))["task"]
            while True:
                found = retry.ask(lambda: client.tasks.get(task_id=task))
                status = found["task"]["status"]
                on_progress(status["created"] + status["version_conflicts"], status["total"])
                if found["completed"]:
                    break
                if ended.wait(ASK_SECONDS):
                    retry.ask(lambda: client.tasks.cancel(task_id=task))
                    return
            problem = found.get("error") or next(iter(found["response"]["failures"]), None)
            if problem:
                raise EngineError(
                    f"documents of {source} cannot be copied to {copy.name}: "
                    f"{problem.get('cause', problem).get('reason')}"
                )

    def finish(self, report: EnrichReport, retry: Retry) -> str | None:
        """Move the alias to the copy, if it has every document of the source as it is now.

        Returns as `Build.finish`.
        """
        copy, source = self.build.index, self.source.index
        if report.stopped:
            return self.build.refusal("the run was stopped")
        if report.failed:
            return self.build.refusal(
                f"{report.failed:,} of the documents failed", "correct them, and give --restart"
            )
        if report.no_text:
            return self.build.refusal("no document has text", OTHER_FIELDS)
        for index in (source, copy):
            retry.ask(index.refresh)
        expected, found = retry.ask(source.count), retry.ask(copy.count)
        with no_writes(source, copy, retry):
            if retry.ask(source.writes) != self.preparation.meta.source_written:
                return self.build.refusal(
                    f"{source.name} was written to since its copy was started",
                    "give the same command with --restart while nothing writes there",
                )
            if found != expected:
                return self.build.refusal(
                    f"{copy.name} has {found:,} documents and {source.name} has {expected:,}, so "
                    f"something else writes there",
                    "start a new version with --restart",
                )
            self.build.take_alias(retry)
        return None


def is_same(meta: IndexMeta, wanted: IndexMeta) -> bool:
    """Whether a version is a copy of the same index, for the same model and mapping."""
    parts = ("source", "fingerprint", "mapping", "words")
    return all(getattr(meta, part) == getattr(wanted, part) for part in parts)


def create_empty(copy: Index, lacking: Preparation, meta: IndexMeta) -> None:
    """Create an empty index like the source, with the lacking parts; InputError if refused."""
    source = lacking.index
    kept = {key: value for key, value in source.settings.items() if not key.startswith(ITS_OWN)}
    kept = {DEFAULT: NONE, **kept}  # no pipeline of a template
    added = lacking.mapping["properties"]
    properties = {**source.mapping.get("properties", {}), **added}
    _meta = with_meta(source.mapping, meta.to_json())
    body = {
        "settings": {**kept, **lacking.settings},
        "mappings": {**source.mapping, "properties": properties, "_meta": _meta},
    }
    create(copy.client, copy.name, body, meta)
