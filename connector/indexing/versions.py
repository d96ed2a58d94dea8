"""Versions of an index behind an alias: each is built beside the one in use, then swapped in.

Versions of alias `papers` are indices `papers-<model>-<number>`. All that is known of one is kept
in its own `_meta.latent_ingest`: the alias, the number, and whether it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.listing import ListedIndex, list_indices
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import checked_mapping, make_index, note
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.mappings import MappingConfig

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

NAME_TAKES_NOT = set('\\/*?"<>| ,#:')


def versions_of(client: OpenSearch, alias: str) -> list[ListedIndex]:
    """All versions of an alias, complete or not, the oldest first."""
    found = [index for index in list_indices(client, f"{alias}-*") if index.alias == alias]
    return sorted(found, key=lambda version: version.number)


def behind(client: OpenSearch, alias: str) -> ListedIndex | None:
    """The index that an alias points at, or none where there is no such alias.

    Raises:
        InputError: the engine takes no such name, it is an index, or it points at several.
        EngineError: the engine cannot be asked.
    """
    if not alias or NAME_TAKES_NOT & set(alias) or alias != alias.lower() or alias[0] in "-_+.":
        raise InputError(
            f"alias {alias!r}: the engine takes lower case without spaces or "
            f'\\ / * ? " < > | , # : and not - _ + . in front'
        )
    found = list_indices(client, alias)
    names = [index.name for index in found]
    if alias in names:
        raise InputError(
            f"{alias} is an index, not an alias; name another alias, or ingest into the index "
            f"with --index {alias}"
        )
    if len(names) > 1:
        raise InputError(
            f"alias {alias} points at {len(names)} indices ({', '.join(names)}); take it away "
            f"from all but one"
        )
    return found[0] if found else None


class Build:
    """A version that is being built, by this command or by several of the same."""

    def __init__(
        self,
        client: OpenSearch,
        alias: str,
        index: str,
        before: ListedIndex | None,
        restarted: bool = False,
    ) -> None:
        self._client = client
        self.alias = alias
        self.index = index
        """Its name."""
        self.before = before
        """What the alias pointed at when it began."""
        self.restarted = restarted
        """Whether --restart was given; it would begin anew once more."""

    @classmethod
    def begin(
        cls,
        client: OpenSearch,
        alias: str,
        encoder: LatentEncoder,
        wanted: dict[str, Any],
        journal: Journal,
        corpus: str,
        *,
        restart: bool = False,
        warn: Callable[[str], None] = lambda line: None,
    ) -> Build:
        """Make the next version, without replicas, or find the one this corpus was going into.

        Args:
            client: of the engine.
            alias: its name; it need not be there yet.
            encoder: the model.
            wanted: fields of `MappingConfig` that were asked for.
            journal: knows which runs were not brought to their end.
            corpus: as in `RunKey.corpus`.
            restart: make a new one in any case.
            warn: called with lines the user should see at once.

        Raises:
            InputError: the alias is an index, or points at several or at one without latent
                terms; or the engine does not take the name or the mapping.
            EngineError: the engine cannot be asked.
        """
        before = behind(client, alias)
        if before and not before.stored:
            raise InputError(
                f"alias {alias} points at {before.name}, which has no latent terms; name another "
                f"alias, or take this one away from it"
            )
        mapping = checked_mapping(MappingConfig(), wanted)
        last = None
        for version in versions_of(client, alias) if not restart else ():
            if version.number < (before.number if before else 0):
                continue
            meta = IndexMeta.from_stored(version.name, version.stored)
            same = meta.fingerprint == encoder.fingerprint.digest and meta.mapping == mapping
            if same and journal.knows(corpus, version.uuid):
                last = version
        if last and not last.complete:
            warn(f"alias {alias}: going on with {last.name}, which is not complete")
            without_replicas(client, last)
            return cls(client, alias, last.name, before, restart)
        name, number = next_version(client, alias, encoder.name)
        make_index(client, name, encoder, mapping, alias=alias, number=number, complete=False)
        without_replicas(client, one(client, name))
        return cls(client, alias, name, before, restart)

    def finish(self, report: IngestReport, retry: Retry) -> str | None:
        """Swap the alias to the new version, if that is exactly what the run has indexed.

        Args:
            report: of the run.
            retry: for an engine that is away.

        Returns:
            Nothing, or in one line why the alias was not moved and what to do.

        Raises:
            EngineError: the engine cannot be asked, or refuses.
            InputError: the alias has become one that cannot be moved.
        """
        if report.stopped:
            return self.refusal("the run was stopped")
        if report.failed or report.not_sent:
            return self.refusal(
                f"{report.failed + report.not_sent:,} of the lines failed",
                f"mend {report.failures_file} and ingest it with --index {self.index}",
            )
        if not report.indexed:
            return self.refusal("the file has no documents", "give one that has")
        new = retry.ask(lambda: one(self._client, self.index))
        # In an index of chunks, a document is counted by its first.
        first = {"query": {"term": {"chunk": 0}}} if new.stored.get("long") == "chunks" else None
        answer = retry.ask(lambda: self._client.count(index=self.index, body=first))
        documents = answer["count"]
        if documents != report.indexed:
            return self.refusal(
                f"{self.index} has {documents:,} documents and the run indexed {report.indexed:,}, "
                + (
                    "so some may be there twice, since the engine makes the ids ('latent-ingest "
                    "verify' names them)"
                    if new.stored.get("ids") == "engine"
                    else "so something else writes there"
                ),
                "begin a new version with --restart",
            )
        retry.ask(lambda: take(self._client, self.alias, new))
        return None

    def refusal(self, reason: str, mend: str | None = None) -> str:
        """Why the alias stays where it is, and what to do: by default, to go on."""
        mend = mend or f"{self._same_command} goes on"
        where = f"still points at {self.before.name}" if self.before else "is not made"
        return (
            f"alias {self.alias} {where}: {reason}; {mend}, or take the index as it is with "
            f"'latent-ingest rollback --alias {self.alias} --to {self.index}'"
        )

    @property
    def _same_command(self) -> str:
        return "the same command without --restart" if self.restarted else "the same command"

    @contextmanager
    def refused_on_error(self, warn: Callable[[str], None]) -> Iterator[None]:
        """Within it, an error says that the alias was not moved."""
        try:
            yield
        except BaseException:
            mend = f"once what stopped it is mended, {self._same_command} goes on"
            warn(self.refusal("the run did not end", mend))
            raise


def next_version(client: OpenSearch, alias: str, model: str) -> tuple[str, int]:
    """The name and the number of the version after the last one."""
    safe = re.sub(r"[^a-z0-9._-]+", "-", model.lower()).strip("-._") or "model"
    taken = {index.name for index in list_indices(client, f"{alias}-*")}
    number = max((version.number for version in versions_of(client, alias)), default=0) + 1
    while f"{alias}-{safe}-{number}" in taken:  # by an index that is not ours
        number += 1
    return f"{alias}-{safe}-{number}", number


def without_replicas(client: OpenSearch, version: ListedIndex) -> None:
    """Load faster: copies are made when the index is complete, as many as it has now.

    An engine that wants a copy in each zone refuses; then they stay.
    """
    with engine_errors(client):
        if version.stored.get("replicas") is None:
            note(client, version.name, replicas=version.replicas)
        with suppress(RequestError):
            client.indices.put_settings(
                index=version.name, body={"index": {"number_of_replicas": 0}}
            )


def take(client: OpenSearch, alias: str, new: ListedIndex) -> ListedIndex | None:
    """Point an alias at an index in one request, whether it is there or not.

    A version that is not complete gets its replicas, is refreshed again, and is complete then;
    what a run that was killed has left of its own goes. Filters and routing of the alias are kept.

    Returns:
        The index that the alias pointed at.

    Raises:
        InputError: the alias cannot be moved, or the index is closed.
        EngineError: the engine refuses.
    """
    before = behind(client, alias)
    if new.closed:
        raise InputError(f"index {new.name} is closed; open it first (POST /{new.name}/_open)")
    unfinished = new.alias is not None and not new.complete
    move: list[dict[str, Any]] = []
    if before and before.name != new.name:
        move.append({"remove": {"index": before.name, "alias": alias}})
    kept = before.aliases[alias] if before else {}
    move.append({"add": {"index": new.name, "alias": alias, **kept}})
    with engine_errors(client):
        if unfinished:
            move += [{"remove": {"index": new.name, "alias": guard}} for guard in new.guards]
            settings = dict(new.stored.get("loading") or {})
            if (replicas := new.stored.get("replicas")) is not None:
                settings["number_of_replicas"] = replicas
            if settings:
                client.indices.put_settings(index=new.name, body={"index": settings})
        client.indices.update_aliases(body={"actions": move})
        if unfinished:
            # Last, so that a run that is cut before it is gone on with, not begun anew.
            note(client, new.name, complete=True, loading=None)
    return before


def rollback(
    client: OpenSearch, alias: str, journal: Journal, to: str | None = None
) -> tuple[ListedIndex | None, ListedIndex]:
    """Point an alias at the complete version before, or at the index `to`.

    Returns:
        The index it pointed at, and the one it points at now.

    Raises:
        InputError: there is no version before, or `to` is not an index the alias can have.
        EngineError: the engine cannot be asked, or refuses.
    """
    current = behind(client, alias)
    new = version_before(client, alias, current) if to is None else wanted_index(client, alias, to)
    if journal.running(new.uuid):
        raise InputError(f"index {new.name} is being ingested into; wait for it, or stop it")
    if current and current.name == new.name and new.complete is not False:
        raise InputError(f"alias {alias} points at {new.name} already")
    return take(client, alias, new), new


def version_before(client: OpenSearch, alias: str, current: ListedIndex | None) -> ListedIndex:
    """The last complete version before the one behind the alias."""
    number = live_number(alias, current)
    versions = versions_of(client, alias)
    if before := [v for v in versions if v.complete and v.number < number]:
        return before[-1]
    name = current.name if current else ""
    raise InputError(
        f"alias {alias}: there is no complete version before {name}; 'latent-ingest indices "
        f"--alias {alias}' lists them"
    )


def live_number(alias: str, current: ListedIndex | None) -> int:
    """Number of the version behind an alias; raises InputError where there is none."""
    if current is None:
        raise InputError(
            f"no alias {alias}; 'latent-ingest indices' lists what there is, and "
            f"'latent-ingest FILE --alias {alias}' makes it"
        )
    if current.alias != alias:
        raise InputError(
            f"alias {alias} points at {current.name}, which was not built with --alias {alias}, so "
            f"nothing is older; 'latent-ingest rollback --alias {alias} --to INDEX' names one"
        )
    return current.number


def wanted_index(client: OpenSearch, alias: str, name: str) -> ListedIndex:
    """The index of that name, if the alias may point at it."""
    index = next((index for index in list_indices(client) if index.name == name), None)
    if index is None or not index.stored:
        what = "is not an index" if index is None else "has no latent terms"
        raise InputError(f"{name} {what}; 'latent-ingest indices' lists those there are")
    if index.alias not in (None, alias):
        raise InputError(f"index {name} is a version of alias {index.alias}, not of {alias}")
    return index


def prunable(
    client: OpenSearch, alias: str, keep: int, journal: Journal
) -> tuple[list[ListedIndex], list[ListedIndex]]:
    """Versions older than the one behind the alias, but for the last `keep` complete ones.

    Never one that any alias points at, but for those of runs that were killed.

    Returns:
        Those that may go, and those that a run may be loading: of this journal, or of one that
        this journal does not know.

    Raises:
        InputError: there is no such alias, or it points at no version of it.
        EngineError: the engine cannot be asked.
    """
    number = live_number(alias, behind(client, alias))
    older = [version for version in versions_of(client, alias) if version.number < number]
    complete = [version.name for version in older if version.complete]
    known = {run.index for run in journal.runs()}
    old: list[ListedIndex] = []
    loading: list[ListedIndex] = []
    for version in older:
        if version.name in complete[-keep:] or version.aliases:
            continue
        foreign = version.guards and version.name not in known
        (loading if foreign or journal.running(version.uuid) else old).append(version)
    return old, loading


def delete(client: OpenSearch, indices: list[ListedIndex]) -> None:
    """Delete indices, one request each; raises EngineError."""
    for index in indices:
        with engine_errors(client):
            client.indices.delete(index=index.name, ignore_unavailable=True)


def one(client: OpenSearch, name: str) -> ListedIndex:
    """The index of that name, which is there."""
    (index,) = list_indices(client, name)
    return index
