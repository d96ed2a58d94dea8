"""Jobs: everything that `latent-ingest FILE` and `latent-ingest enrich` do, from Python.

open or create the index (or the next version of an alias) → resume the run in the journal
→ ingest or enrich → move the alias
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opensearchpy import OpenSearch

from latent_ingest.connector.corpus import DEFAULT_ID_FIELDS, CorpusFile, is_pipe
from latent_ingest.connector.engine.retry import GIVE_UP_AFTER, Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.index.repair import repair
from latent_ingest.connector.indexing.copying import Copy
from latent_ingest.connector.indexing.enrich import Enrich, EnrichReport
from latent_ingest.connector.indexing.ingest import Ingest, OnProgress
from latent_ingest.connector.indexing.journal import Journal, RunKey
from latent_ingest.connector.indexing.outcomes import IngestReport, check_writable, default_path
from latent_ingest.connector.indexing.sender import CONCURRENCY
from latent_ingest.connector.indexing.versions import Build

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)

DEFAULT_INDEX = "latent"

Report = TypeVar("Report", IngestReport, EnrichReport)


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

    @property
    def ok(self) -> bool:
        """Whether every document is in the index, and the alias points at it."""
        return self.report.ok and not self.refusal

    def to_json(self) -> dict[str, Any]:
        """All counts; with an alias also `index`, `alias` and `alias_moved`."""
        counts = self.report.to_json()
        if self.alias is None:
            return counts
        return {
            **counts,
            "index": self.index,
            "alias": self.alias,
            "alias_moved": not self.refusal,
        }


class Job:
    """The parts that both jobs share: engine, model, options, and how to stop."""

    def __init__(
        self,
        client: OpenSearch,
        encoder: LatentEncoder | Callable[[], LatentEncoder] | None,
        failures: Path,
        concurrency: int,
        give_up_after: float,
        mapping: dict[str, Any],
    ) -> None:
        check_writable(failures)
        self._client = client
        self._given_encoder = encoder
        self._options: dict[str, Any] = {
            "failures": failures,
            "concurrency": concurrency,
            "give_up_after": give_up_after,
        }
        self._wanted = {name: value for name, value in mapping.items() if value is not None}
        if "text_fields" in self._wanted:
            self._wanted["text_fields"] = tuple(self._wanted["text_fields"])
        self._stopped = threading.Event()
        self._retry = Retry(client, give_up_after=give_up_after, ended=self._stopped)
        self._run: Ingest | Enrich | None = None

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

    def _encoder(self) -> LatentEncoder:
        if self._given_encoder is None:
            from latent_ingest.connector.encoding.encoder import LatentEncoder

            return LatentEncoder.load()
        return self._given_encoder() if callable(self._given_encoder) else self._given_encoder


class IngestJob(Job):
    """Ingests a corpus file, as `latent-ingest FILE` does. A job runs once.

    The index is created if it does not exist, else checked. What the engine has acknowledged is
    noted in a journal: a job with the same file and index resumes an interrupted run. Lines that
    fail go to a failures file. With an alias, the documents go into a new version of the index,
    which takes the alias if it holds every document of the file. Notices and warnings are logged
    (logger "latent_ingest").

        from latent_ingest.connector import Connection, IngestJob

        client = Connection("http://localhost:9200").open()
        result = IngestJob(client, "corpus.jsonl", index="papers").run()
        if not result.ok:
            print(result.report.stopped, result.report.failures_file)
    """

    def __init__(
        self,
        client: OpenSearch,
        corpus: str | Path,
        *,
        index: str | None = None,
        alias: str | None = None,
        encoder: LatentEncoder | Callable[[], LatentEncoder] | None = None,
        id_fields: Sequence[str] = DEFAULT_ID_FIELDS,
        failures: Path | None = None,
        merge: bool = False,
        max_rejected: int | None = None,
        concurrency: int = CONCURRENCY,
        give_up_after: float = GIVE_UP_AFTER,
        restart: bool = False,
        journal: Path | None = None,
        command: str | None = None,
        **mapping: Any,
    ) -> None:
        """Check what can be checked without the engine and the model.

        Args:
            client: connection to the engine.
            corpus: path of a JSONL file, plain or .gz, or "-" for standard input.
            index: name of the index; by default "latent".
            alias: alias for which a new version is built; excludes `index`.
            encoder: the model, or a function that loads it; by default the one that ships. It is
                loaded after the engine has answered.
            id_fields: names of id fields; the first that a document has is its id.
            failures: path of the failures file; by default in the current folder, named after the
                corpus.
            merge: merge each shard to one segment at the end.
            max_rejected: number of lines that may fail before the run ends early; by default 1,000,
                or 1 % of the lines if that is more.
            concurrency: maximum number of concurrent requests; fewer while the engine is busy.
            give_up_after: seconds of refusals or silence after which the run ends.
            restart: start from the beginning, not where a run was interrupted; with an alias, build
                another version.
            journal: path of the journal; by default in the user's state folder.
            command: how to resume the run, for `latent-ingest runs`.
            mapping: fields of `MappingConfig`: `text_fields`, `spelling`, `long`, `ids`, `scale`,
                `analyzer`, `latent_field`, `lean`; by default those of the index. None counts as
                not given.

        Raises:
            InputError: the file cannot be read, the failures file cannot be written, or both
                `index` and `alias` are given.
        """
        if index is not None and alias is not None:
            raise InputError("an alias names its own indices; give index or alias, not both")
        self.file_bytes: int | None = None
        """Size of the corpus file in bytes; None for a pipe."""
        self._piped = is_pipe(corpus)
        if not self._piped:
            with CorpusFile(corpus) as file:
                self.file_bytes = file.size
        self._index = index or DEFAULT_INDEX
        failures = failures or default_path(str(corpus), alias or self._index)
        super().__init__(client, encoder, failures, concurrency, give_up_after, mapping)
        self._options |= {
            "id_fields": id_fields,
            "merge_after": merge,
            "max_rejected": max_rejected,
        }
        self._corpus = corpus
        self._alias = alias
        self._restart = restart
        self._journal = journal
        self._command = command or f"IngestJob(client, {str(corpus)!r}, ...).run()"

    def run(
        self, on_progress: OnProgress = lambda report, position: None
    ) -> JobResult[IngestReport]:
        """Ingest the file.

        Args:
            on_progress: called with the counts so far and the bytes of the file that are done:
                when the run starts and after each request.

        Returns:
            The counts, the index and the alias. If the file breaks off, the engine goes away or
            `stop` is called, the run ends early, with the reason in `report.stopped`.

        Raises:
            EngineError: the engine cannot be asked at the start.
            InputError: the engine refuses a name or a mapping; the failures file or the journal
                cannot be written; another process has the run; or the file or the settings are not
                those of the interrupted run.
            MismatchError: the index was made by another model or with another mapping.
            ModelError: the model cannot be loaded.
        """
        # Without retries: a wrong address fails at once.
        repair(self._client, self._alias or self._index)
        encoder = self._encoder()
        corpus = "-" if self._piped else str(Path(self._corpus).resolve())
        build = None
        with ExitStack() as stack:
            journal = stack.enter_context(closing(Journal(self._journal)))
            if self._alias is not None:
                # Without retries: a second attempt might create a second version.
                build = Build.begin(
                    Alias(self._client, self._alias),
                    encoder,
                    self._wanted,
                    journal,
                    corpus,
                    restart=self._restart,
                )
                stack.enter_context(build.refused_on_error())
            index = build.index if build else Index(self._client, self._index)
            name = index.name
            meta = self._retry.ask(open_index, self._client, name, encoder, self._wanted)
            key = RunKey(
                corpus=corpus,
                index=name,
                index_uuid=self._retry.ask(index.uuid),
                settings={"id_fields": list(self._options["id_fields"]), "long": meta.long},
                command=self._command,
            )
            once = self._why_once(index, build is not None) if meta.ids == "engine" else None
            noted = journal.open(key, restart=self._restart, reopen=build is not None, once=once)
            stack.enter_context(closing(noted))
            ingest = Ingest(
                self._client, name, encoder, meta, self._corpus, run=noted, **self._options
            )
            self._start(ingest)
            on_progress(ingest.report, 0)
            report = ingest.run(on_progress)
            if build is None:
                return JobResult(report, name, meta)
            refusal = build.finish(report, self._retry)
            before = build.before.name if build.before else None
            return JobResult(report, name, meta, self._alias, before, refusal)

    def _why_once(self, index: Index, versioned: bool) -> str | None:
        """Why the file must not be ingested from its start, if the engine makes the ids."""
        log.warning(
            "the engine makes the ids of %s: its documents are never replaced, and one may be "
            "there twice if a request or this run is interrupted; 'latent-ingest verify' finds "
            "these",
            index.name,
        )
        # A pipe may hold another text each time.
        if self._piped and not self._restart:
            return None
        if not self._retry.ask(index.holds_documents):
            return None
        fix = "start a new version with --restart" if versioned else "use --alias"
        return (
            f"the engine makes the ids of {index.name}, which has documents, so those of "
            f"{self._corpus} might be there twice; {fix}, or delete the index first"
        )


class EnrichJob(Job):
    """Adds latent terms to an existing index, as `latent-ingest enrich` does. A job runs once.

    Documents are read from the index, encoded and updated in place; those that are up to date are
    skipped, so another job resumes an interrupted run. With an alias the index stays as it is: a
    copy of it gets the latent terms, and then the alias. Notices and warnings are logged (logger
    "latent_ingest").

        job = EnrichJob(client, "products", text_fields=["title", "body"])
        result = job.run(confirm=print)  # the index may be closed for a moment: say so
    """

    def __init__(
        self,
        client: OpenSearch,
        index: str = DEFAULT_INDEX,
        *,
        alias: str | None = None,
        encoder: LatentEncoder | Callable[[], LatentEncoder] | None = None,
        failures: Path | None = None,
        concurrency: int = CONCURRENCY,
        give_up_after: float = GIVE_UP_AFTER,
        restart: bool = False,
        journal: Path | None = None,
        command: str | None = None,
        **mapping: Any,
    ) -> None:
        """Check what can be checked without the engine and the model.

        Args:
            client: connection to the engine.
            index: name of the index, or an alias of one.
            alias: alias that is pointed at an enriched copy of the index.
            encoder: the model, or a function that loads it; by default the one that ships. It is
                loaded after the engine has answered.
            failures: path of the failures file; by default in the current folder, named after the
                index.
            concurrency: maximum number of concurrent requests; fewer while the engine is busy.
            give_up_after: seconds of refusals or silence after which the run ends.
            restart: with an alias, make another copy instead of resuming an incomplete one.
            journal: path of the journal; by default in the user's state folder.
            command: how to resume the run, for `latent-ingest runs`.
            mapping: fields of `MappingConfig`: `text_fields`, which an index without latent terms
                needs, `spelling`, `latent_field`. None counts as not given.

        Raises:
            InputError: the failures file cannot be written, or `restart` is given without an alias.
        """
        if restart and alias is None:
            raise InputError("restart is for an alias; without one, nothing is done twice")
        failures = failures or default_path("-", index)
        super().__init__(client, encoder, failures, concurrency, give_up_after, mapping)
        self._index = index
        self._alias = alias
        self._restart = restart
        self._journal = journal
        self._command = command or f"EnrichJob(client, {index!r}, ...).run()"

    def run(
        self,
        on_progress: Callable[[EnrichReport, int], None] = lambda report, documents: None,
        on_copy: Callable[[int, int], None] = lambda done, of: None,
        confirm: Callable[[str], None] = lambda warning: None,
    ) -> JobResult[EnrichReport]:
        """Enrich the index, or its copy.

        Args:
            on_progress: called with the counts so far and the number of documents in the index
                after each request.
            on_copy: called with the number of documents copied and of all, every half second.
            confirm: called with a sentence if users of the index will notice the run: an index
                without latent terms is closed for a moment. Raise an exception to refuse.

        Returns:
            The counts, the index and the alias. If the engine goes away or `stop` is called, the
            run ends early, with the reason in `report.stopped`.

        Raises:
            InputError: no such index; a text field does not exist or is not text; the failures file
                or the journal cannot be written; or another process has the run.
            MismatchError: the index has latent terms of another model, or cannot take any.
            EngineError: the engine cannot be asked.
            ModelError: the model cannot be loaded.
        """
        repair(self._client, self._index)
        existing = ExistingIndex.read(self._client, self._index)
        encoder = self._encoder()
        copy = None
        if self._alias is not None:
            alias = Alias(self._client, self._alias)
            copy = Copy.begin(existing, alias, encoder, self._wanted, restart=self._restart)
            preparation = copy.preparation
        else:
            preparation = plan(existing, encoder, self._wanted)
            if preparation.warning:
                confirm(preparation.warning)
        name = preparation.index.name
        key = RunKey(
            corpus=f"index:{existing.name}",
            index=name,
            index_uuid=preparation.index.index.uuid(),
            command=self._command,
        )
        with ExitStack() as stack:
            journal = stack.enter_context(closing(Journal(self._journal)))
            # From the start: the state is in the index itself.
            noted = stack.enter_context(closing(journal.open(key, restart=True)))
            if copy:
                stack.enter_context(copy.build.refused_on_error())
            enrich = Enrich(self._client, preparation, encoder, run=noted, **self._options)
            self._start(enrich)
            on_progress(enrich.report, enrich.documents)
            if copy:
                copy.fill(self._retry, self._stopped, on_copy)
            else:
                prepare(preparation)
            report = enrich.run(lambda report: on_progress(report, enrich.documents))
            if copy is None:
                return JobResult(report, name, preparation.meta)
            refusal = copy.finish(report, self._retry)
            before = copy.build.before.name if copy.build.before else None
            return JobResult(report, name, preparation.meta, self._alias, before, refusal)
