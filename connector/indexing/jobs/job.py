"""What the ingest job and the enrich job share: arguments, how to stop, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER, Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.outcomes import (
    EnrichReport,
    IngestReport,
    WatchReport,
)
from latent_ingest.connector.indexing.questions.own_table import OnWords, OwnTable, TableReport
from latent_ingest.connector.indexing.questions.refresh import ReadBackTable
from latent_ingest.connector.indexing.sender import CONCURRENCY
from latent_ingest.connector.indexing.versions import OTHER_FIELDS
from latent_ingest.connector.questions.stored_table import INDEX_WORDS, StoredTable
from latent_ingest.mappings import MappingConfig

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

DEFAULT_INDEX = "latent"

Report = TypeVar("Report", IngestReport, EnrichReport, WatchReport)


@dataclass(frozen=True, slots=True)
class JobResult(Generic[Report]):
    """How a job ended."""

    report: Report
    """Counts of all documents."""
    index: str
    """Name of the index, which with an alias is the version."""
    meta: IndexMeta
    alias: str | None = None
    """The alias that was asked for; None without one."""
    before: str | None = None
    """Index that the alias pointed at when the job began; None if it did not exist."""
    refusal: str | None = None
    """Why the alias was not moved and what to do; None if it was, or none was asked for."""
    table: TableReport | None = None
    """The table of the words of its documents that a new index got; None if it got none."""

    waiting: str | None = None
    """The shards that are still to come; None without shards, or if this was the last one."""

    @property
    def problem(self) -> str | None:
        """What is wrong with the index as a whole, and what to do; None if nothing is."""
        if not self.report.no_text:
            return None
        names = ", ".join(self.meta.text_fields)
        return f"no document of index {self.index} has text in {names}; {OTHER_FIELDS}"

    @property
    def ok(self) -> bool:
        """Whether every document is in the index, and the alias points at it."""
        return self.report.ok and not self.refusal

    def to_json(self) -> dict[str, Any]:
        """All counts; with an alias also `index`, `alias` and `alias_moved`; `questions`.

        Also `waiting`, while other shards are still to come.
        """
        moved = not (self.refusal or self.waiting)
        swap = {"index": self.index, "alias": self.alias, "alias_moved": moved}
        table = {"questions": asdict(self.table)} if self.table else {}
        waiting = {"waiting": self.waiting} if self.waiting else {}
        return {**self.report.to_json(), **(swap if self.alias else {}), **table, **waiting}


@dataclass(eq=False, repr=False)
class Job:
    """Arguments that both jobs have, and how to stop."""

    client: OpenSearch | Client
    """Client of opensearch-py or `elasticsearch`."""
    _: KW_ONLY
    alias: str | None = None
    """Alias for which a new version of the index is built."""
    encoder: LatentEncoder | Callable[[], LatentEncoder] | None = None
    """The model, or a function that loads it; by default the model that ships."""
    text_fields: Sequence[str] | None = None
    """Fields to encode; by default those of the index, or title and text."""
    spelling: str | None = None
    """Spelling of counts, "repeat" (the default) or "delimited"."""
    latent_field: str | None = None
    """Name of the latent field; by default "latent"."""
    failures: Path | None = None
    """Path of the failures file; by default in the current folder, named after the corpus."""
    concurrency: int = CONCURRENCY
    """Maximum number of concurrent requests; fewer while the engine is busy."""
    give_up_after: float = GIVE_UP_AFTER
    """Seconds of refusals or silence after which the run ends."""
    restart: bool = False
    """Start from the beginning instead of resuming; with an alias, build another version."""
    questions: bool = True
    """Whether an index that gets latent terms also gets a question table: that of its model, if
    that has one, and a new index then that of the words of its documents."""
    question_words: int = INDEX_WORDS
    """Most words of a question table."""
    journal: Path | None = None
    """Path of the journal; by default in the user's state folder."""
    command: str | None = None
    """How to resume the run, for `latent-ingest runs`."""

    def __post_init__(self) -> None:
        self._client = adapted(self.client)
        self._stopped = threading.Event()
        self._retry = Retry(self._client, give_up_after=self.give_up_after, ended=self._stopped)
        self._run: Ingest | Enrich | None = None

    @property
    def _elsewhere(self) -> bool:
        """Whether documents pass through other processes than this."""
        return False

    def stop(self) -> None:
        """End after the requests in flight; a new job resumes the run. Signal-safe."""
        self._stopped.set()
        if self._run is not None:
            self._run.stop()

    def _start(self, run: Ingest | Enrich) -> None:
        """From now on, `stop` ends this run."""
        self._run = run
        if self._stopped.is_set():
            run.stop()

    def _wanted(self) -> dict[str, Any]:
        """Fields of `MappingConfig` that were given."""
        given = {item.name: getattr(self, item.name, None) for item in fields(MappingConfig)}
        if given["text_fields"] is not None:
            given["text_fields"] = tuple(given["text_fields"])
        return {name: value for name, value in given.items() if value is not None}

    def _load_encoder(self) -> LatentEncoder:
        if self.encoder is None:
            from latent_ingest.connector.encoding.encoder import LatentEncoder

            return LatentEncoder.load()
        return self.encoder() if callable(self.encoder) else self.encoder

    def _worker_model(self) -> Callable[[], LatentEncoder]:
        """What loads the model in a worker of Ray."""
        if callable(self.encoder):
            return self.encoder
        if self.encoder is not None:
            raise InputError(
                "on Ray, encoder is a function that loads the model, such as LatentEncoder.load: "
                "each worker calls it"
            )
        from latent_ingest.connector.encoding.encoder import LatentEncoder

        return LatentEncoder.load

    def _question_table(self, encoder: LatentEncoder) -> StoredTable | None:
        """The question table of a new index."""
        return StoredTable.of_model(encoder, self.question_words) if self.questions else None

    def _own_table(
        self, index: Index, meta: IndexMeta, encoder: LatentEncoder, on_words: OnWords
    ) -> OwnTable | None:
        """The table of the words of the documents, if the index is to get one."""
        if not self.questions:
            if meta.own_words:  # of a run that this one resumes
                self._retry.ask(lambda: index.update_meta(own_words=None))
            return None
        kind = ReadBackTable if self._elsewhere else OwnTable
        return kind.begin(index, meta, encoder, self._retry, self.question_words, on_words)
