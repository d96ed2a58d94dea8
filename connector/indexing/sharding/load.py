"""A load by shards: several commands, on as many machines as you like, fill one index.

each: lock → open or create the index → unlock → index the shard
→ lock → note that the shard is in → unlock
the last one, before it unlocks: question table → alias

What the shards have done is noted in the meta of the index, so the machines share nothing but the
engine. All changes of the index as a whole are made by the holder of the lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from opensearchpy import OpenSearch

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.indexing.chunks import delete_stale
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.questions.own_table import OnWords, TableReport
from latent_ingest.connector.indexing.questions.refresh import ReadBackTable
from latent_ingest.connector.indexing.sharding.lock import ShardLock
from latent_ingest.connector.indexing.sharding.shard import Shard
from latent_ingest.mappings import MappingConfig

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.indexing.versions import Build

log = logging.getLogger(__name__)


class ShardEnd(NamedTuple):
    """What became of the index when a shard was in."""

    refusal: str | None = None
    """Why the alias was not moved and what to do."""
    table: TableReport | None = None
    waiting: str | None = None
    """Which shards are still to come; None if this was the last one, or it did not end well."""


@dataclass(frozen=True, slots=True)
class Completion:
    """How the last shard completes the index."""

    encoder: LatentEncoder
    most_words: int
    """Most words of the question table."""
    merge: bool
    """Whether to merge each shard of the index to one segment."""
    on_words: OnWords


class ShardedLoad:
    """One shard's part in the load of an alias or index."""

    def __init__(
        self, client: OpenSearch, name: str, shard: Shard, corpus: Corpus, retry: Retry
    ) -> None:
        """Ask nothing yet; `name` is that of the alias or index."""
        self.shard = shard
        self._client = client
        self._name = name
        self._retry = retry
        self._lock = ShardLock(client, name, shard, retry)
        self._files = files_digest(corpus)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A context in which no other shard changes the index as a whole; raises EngineError."""
        with self._lock.held():
            yield

    @property
    def note(self) -> dict[str, Any]:
        """The note in the meta of a new version, before any shard is in."""
        return {"of": self.shard.of, "files": self._files, "done": {}}

    def is_of(self, stored: dict[str, Any]) -> bool:
        """Whether an index is loaded by these shards of these files, by its meta."""
        noted = stored.get("shards") or {}
        return bool((noted.get("of"), noted.get("files")) == (self.shard.of, self._files))

    def completed(
        self, alias: Alias, encoder: LatentEncoder, mapping: MappingConfig
    ) -> IndexInfo | None:
        """The version that the alias points at, if these shards have built it with these settings.

        So a command that was killed after the alias had moved can be given again.
        """
        target = alias.target()
        if not target or not target.complete or not self.is_of(target.stored):
            return None
        same = target.meta.fingerprint == encoder.fingerprint.digest
        return target if same and target.meta.mapping == mapping else None

    def join(self, index: Index, *, restart: bool) -> bool:
        """Note in the index that shards load it; returns whether this one is in already.

        Raises InputError if other shards, or shards of other files, are loading it.
        """
        stored = index.stored_meta()
        noted = stored.get("shards")
        if noted and not self.is_of(stored):
            if not restart:
                done = len(noted["done"])
                raise InputError(
                    f"index {index.name} is being loaded by {noted['of']} shards of other files, "
                    f"of which {done} are in; finish these, or give --restart to begin with yours"
                )
            noted = None
        noted = noted or self.note
        if restart:
            noted["done"].pop(str(self.shard.number), None)
        index.update_meta(shards=noted)
        return str(self.shard.number) in noted["done"]

    def end(
        self, index: Index, report: IngestReport, build: Build | None, completion: Completion
    ) -> ShardEnd:
        """Note that the shard is in; if it is the last, complete the index and move the alias.

        If this is interrupted, the command of any shard does the rest. Raises EngineError.
        """
        if build and (refusal := build.problem_of(report)):
            return ShardEnd(refusal=refusal)
        if report.stopped or report.not_sent:
            return ShardEnd()
        with self.alone():
            noted = self._retry.ask(index.meta).shards or self.note
            noted["done"][str(self.shard.number)] = report.indexed
            self._retry.ask(lambda: index.update_meta(shards=noted))
            return self._complete(index, report, build, completion)

    def again(
        self, index: Index, report: IngestReport, build: Build | None, completion: Completion
    ) -> ShardEnd:
        """Do what `end` has left to do, of a shard that is in; raises EngineError."""
        with self.alone():
            return self._complete(index, report, build, completion)

    def _complete(
        self, index: Index, report: IngestReport, build: Build | None, completion: Completion
    ) -> ShardEnd:
        """If all shards are in: table, merge, alias."""
        meta = self._retry.ask(index.meta)
        if meta.shards is None or meta.complete:  # another command has done it meanwhile
            return ShardEnd()
        done = meta.shards["done"]
        numbers = range(1, self.shard.of + 1)
        if missing := [number for number in numbers if str(number) not in done]:
            return ShardEnd(waiting=self._waiting(missing, build))
        if meta.long == "chunks":
            report.removed_chunks += delete_stale(index, self._retry)
        table = ReadBackTable(
            index, completion.encoder, self._retry, completion.most_words, completion.on_words
        )
        if meta.own_words:
            table.put()
        if completion.merge:
            self._retry.ask(index.merge, self._retry, lean=meta.lean)
        if build:
            return ShardEnd(build.take(sum(done.values()), self._retry), table=table.report)
        self._retry.ask(lambda: index.update_meta(shards=None))
        return ShardEnd(table=table.report)

    def _waiting(self, missing: list[int], build: Build | None) -> str:
        of = self.shard.of
        what = f"alias {self._name} moves" if build else f"index {self._name} is complete"
        shards = ", ".join(f"{number}/{of}" for number in missing[:10])
        more = f" and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        return f"shard {self.shard} is in; {what} once the others are, too: {shards}{more}"


def files_digest(corpus: Corpus) -> str:
    """A digest of the names and sizes of files, without their folders: machines may differ."""
    names = [PurePath(path).name for path in corpus.files]
    content = json.dumps([names, corpus.size, corpus.reading.to_json()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
