"""Versions of an alias: each is built beside the one in use, then takes the alias; see `Alias`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.alias import Alias, without_replicas
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.index.opening import checked_mapping, create_index
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.mappings import MappingConfig

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.indexing.sharding.load import ShardedLoad
    from latent_ingest.connector.questions.stored_table import StoredTable

log = logging.getLogger(__name__)

# What to do if no document has text.
OTHER_FIELDS = "name the fields that have text with --text-fields"


@dataclass(frozen=True, slots=True)
class Build:
    """A version that is being built, by this command or by several executions of it."""

    alias: Alias
    index: Index
    """The version."""
    before: IndexInfo | None
    """The index that the alias pointed at when the build began; None if there was none."""
    restarted: bool = False
    """Whether --restart was given; the same command would start another version."""

    @classmethod
    def begin(
        cls,
        alias: Alias,
        encoder: LatentEncoder,
        wanted: dict[str, Any],
        journal: Journal,
        corpus: str,
        *,
        restart: bool = False,
        questions: StoredTable | None = None,
        shards: ShardedLoad | None = None,
    ) -> Build:
        """Create the next version, or find the unfinished one of this `RunKey.corpus`.

        `wanted` are fields of `MappingConfig`; `restart` creates a new version in any case;
        `questions` is the question table of a new one; with `shards` it is the version that they
        build together. Raises InputError if the alias is an index,
        or points at several or at one without latent terms, or the engine refuses the name or the
        mapping.
        """
        before = alias.target()
        if before and not before.stored:
            raise InputError(
                f"alias {alias.name} points at {before.name}, which has no latent terms; name "
                f"another alias, or remove this one from it"
            )
        mapping = checked_mapping(MappingConfig(), wanted)
        last = None
        for version in alias.versions() if not restart else ():
            if version.number < (before.number if before else 0):
                continue
            meta = version.meta
            same = meta.fingerprint == encoder.fingerprint.digest and meta.mapping == mapping
            ours = shards.is_of(version.stored) if shards else journal.knows(corpus, version.uuid)
            if same and ours:
                last = version

        def create(name: str, state: dict[str, Any]) -> None:
            noted = {"shards": shards.note} if shards else {}
            create_index(alias.client, name, encoder, mapping, questions, **state, **noted)

        unfinished = last if last and not last.complete else None
        index = start_version(alias, unfinished, encoder.name, create)
        return cls(alias, index, before, restart)

    def finish(self, report: IngestReport, retry: Retry) -> str | None:
        """Move the alias to the new version, if that is exactly what the run has indexed.

        Returns None, or one line: why the alias was not moved and what to do.
        """
        if problem := self.problem_of(report):
            return problem
        if not report.indexed:
            return self.refusal("the file has no documents", "give one that has")
        return self.take(report.indexed, retry)

    def problem_of(self, report: IngestReport) -> str | None:
        """One line if the alias must not move after this run, or this shard; None if it may."""
        name = self.index.name
        if report.stopped:
            return self.refusal("the run was stopped")
        if report.failed or report.not_sent:
            return self.refusal(
                f"{report.failed + report.not_sent:,} of the lines failed",
                f"correct {report.failures_file} and ingest it with --index {name}",
            )
        if report.no_text:
            return self.refusal("no document has text", OTHER_FIELDS)
        return None

    def take(self, indexed: int, retry: Retry) -> str | None:
        """Move the alias if the version holds as many documents; returns as `finish`."""
        name = self.index.name
        if not indexed:
            return self.refusal("the files have no documents", "give some that have")
        meta = retry.ask(self.index.meta)
        # In an index of chunks, each document has one first chunk.
        query = {"term": {"chunk": 0}} if meta.long == "chunks" else None
        documents = retry.ask(self.index.count, query)
        if documents != indexed:
            reason = (
                "so some may be there twice, since the engine makes the ids ('latent-ingest "
                "verify' names them)"
                if meta.ids == "engine"
                else "so something else writes there"
            )
            fix = f"delete {name} and start again" if meta.shards else None
            return self.refusal(
                f"{name} has {documents:,} documents and the {'shards' if meta.shards else 'run'} "
                f"indexed {indexed:,}, {reason}",
                fix or "start a new version with --restart",
            )
        self.take_alias(retry)
        return None

    def take_alias(self, retry: Retry) -> None:
        """Move the alias to the version, whatever it holds."""
        info = retry.ask(IndexInfo.read, self.index.client, self.index.name)
        retry.ask(self.alias.move, info)

    def refusal(self, reason: str, fix: str | None = None) -> str:
        """Say why the alias stays where it is, and what to do: by default, to resume."""
        fix = fix or f"{self._same_command} resumes it"
        alias = self.alias.name
        where = f"still points at {self.before.name}" if self.before else "is not created"
        return (
            f"alias {alias} {where}: {reason}; {fix}, or take the index as it is with "
            f"'latent-ingest rollback --alias {alias} --to {self.index.name}'"
        )

    @property
    def _same_command(self) -> str:
        return "the same command without --restart" if self.restarted else "the same command"

    @contextmanager
    def refused_on_error(self) -> Iterator[None]:
        """A context in which an error also logs that the alias was not moved."""
        try:
            yield
        except BaseException:
            fix = f"once the cause is fixed, {self._same_command} resumes it"
            log.warning(self.refusal("the run did not end", fix))
            raise


def start_version(
    alias: Alias,
    unfinished: IndexInfo | None,
    model: str,
    create: Callable[[str, dict[str, Any]], object],
) -> Index:
    """Resume the unfinished version, or create the next one; it has no replicas until complete.

    `create` is called with the name of the version and the fields of its index meta.
    """
    if unfinished:
        name = unfinished.name
        log.info("alias %s: resuming %s, which is not complete", alias.name, name)
    else:
        name, number = alias.next_version(model)
        create(name, {"alias": alias.name, "number": number, "complete": False})
    index = Index(alias.client, name)
    without_replicas(index)
    return index


def rollback(
    alias: Alias, journal: Journal, to: str | None = None
) -> tuple[IndexInfo | None, IndexInfo]:
    """Point an alias at the complete version before, or at the index `to`.

    Returns the index it pointed at, and the one it points at now. Raises InputError if there is no
    version before, or the alias must not point at `to`.
    """
    current = alias.target()
    new = alias.version_before(current) if to is None else alias.candidate(to)
    if journal.running(new.uuid):
        raise InputError(f"index {new.name} is being ingested into; wait for it, or stop it")
    if current and current.name == new.name and new.complete is not False:
        raise InputError(f"alias {alias.name} points at {new.name} already")
    return alias.move(new), new


def prunable(alias: Alias, keep: int, journal: Journal) -> tuple[list[IndexInfo], list[IndexInfo]]:
    """Versions older than the one that the alias points at, without the last `keep` complete ones.

    A version that any alias but a guard alias points at is not among them. Returns versions to
    delete, and versions that a run may be loading: a run of this journal, or one that this journal
    does not know.
    """
    number = alias.live_number(alias.target())
    older = [version for version in alias.versions() if version.number < number]
    complete = [version.name for version in older if version.complete]
    known = {run.index for run in journal.runs()}
    old: list[IndexInfo] = []
    loading: list[IndexInfo] = []
    for version in older:
        if version.name in complete[-keep:] or version.aliases:
            continue
        foreign = version.guards and version.name not in known
        (loading if foreign or journal.running(version.uuid) else old).append(version)
    return old, loading


def delete(alias: Alias, versions: list[IndexInfo]) -> None:
    """Delete versions, one request each; raises EngineError."""
    for version in versions:
        with engine_errors(alias.client):
            alias.client.indices.delete(index=version.name, ignore_unavailable=True)
