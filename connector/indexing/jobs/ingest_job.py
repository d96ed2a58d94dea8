"""The ingest job: everything that `latent-ingest FILE` does, from Python.

open or create the index (or the next version of an alias) → resume the run in the journal
→ ingest → move the alias
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.finding import Sources, identity, listed, piped, short_name
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.document import DEFAULT_ID_FIELDS, BadLine
from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import check_ready, checked_mapping, open_index
from latent_ingest.connector.index.repair import repair
from latent_ingest.connector.indexing.actions import IndexAction
from latent_ingest.connector.indexing.batches import first_actions
from latent_ingest.connector.indexing.ingest import Ingest, OnProgress
from latent_ingest.connector.indexing.jobs.job import DEFAULT_INDEX, Job, JobResult
from latent_ingest.connector.indexing.journal import Journal, Run
from latent_ingest.connector.indexing.journal_records import RunKey
from latent_ingest.connector.indexing.on_ray.settings import OnRay, joined
from latent_ingest.connector.indexing.outcomes import (
    IngestReport,
    check_writable,
    default_path,
)
from latent_ingest.connector.indexing.questions.own_table import OnWords
from latent_ingest.connector.indexing.sharding.load import Completion, ShardedLoad, ShardEnd
from latent_ingest.connector.indexing.sharding.shard import Shard
from latent_ingest.connector.indexing.versions import Build
from latent_ingest.mappings import MappingConfig

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An index that is ready to be loaded."""

    index: Index
    """Under the name that was given, which may be an alias of one index."""
    meta: IndexMeta
    build: Build | None
    """The version that is built, with an alias."""


@dataclass(eq=False, repr=False)
class IngestJob(Job):
    """Ingests a corpus, as `latent-ingest FILE` does. A job runs once.

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

    Raises:
        InputError: the file cannot be read, the failures file cannot be written, or both `index`
            and `alias` are given.
    """

    corpus: Sources
    """Paths of files, folders or patterns, or "-" for standard input; see docs/files.md."""
    _: KW_ONLY
    index: str | None = None
    """Name of the index, by default "latent"; excludes `alias`."""
    long: str | None = None
    """"pool" (the default), "chunks" or "truncate": how documents longer than the backbone window
    are indexed."""
    ids: str | None = None
    """"document" (the default) or "engine": who makes the ids."""
    scale: float | None = None
    """Factor on weights; by default 1."""
    analyzer: str | None = None
    """Analyzer of the words; by default "english"."""
    lean: bool | None = None
    """Whether `_source` excludes latent terms."""
    id_fields: Sequence[str] = DEFAULT_ID_FIELDS
    """Names of id fields; the first that a document has is its id."""
    merge: bool = False
    """Whether to merge each shard to one segment at the end."""
    reading: Reading = field(default_factory=Reading)
    """How the files are read, and what is changed in each document."""
    max_rejected: int | None = None
    """Number of lines that may fail before the run ends early; by default 1,000, or 1 % of the
    lines if that is more."""
    on: OnRay | None = None
    """How to run on Ray; by default in this process. Then `encoder` is a function that loads the
    model in each worker, or None for the model that ships."""
    shard: str | None = None
    """Part of the corpus that this job indexes, such as "2/8"; other jobs, on any machines, index
    the other parts. See docs/distributed.md."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.index is not None and self.alias is not None:
            raise InputError("an alias names its own indices; give index or alias, not both")
        self._name = self.index or DEFAULT_INDEX
        self.file_bytes: int | None = None
        """Size of the corpus in bytes; None for a pipe."""
        self.unit = "line"
        """What the counts of lines are of: "line", "row", "item" or "action"."""
        self._piped = piped(self.corpus)
        self._corpus: Corpus | None = None
        if not self._piped:
            self._corpus = Corpus(self.corpus, self.reading)
            self.file_bytes, self.unit = self._corpus.size, self._corpus.unit
        self._shard = None if self.shard is None else Shard.parse(self.shard)
        if self._shard and self._piped:
            raise InputError("a pipe has no shards, since each command would need all of it")
        if self._shard and self.alias is not None and self.restart:
            raise InputError(
                "--restart with --shard and --alias would begin a version for each shard; to start "
                "over, delete the version that is not complete ('latent-ingest indices' names it)"
            )
        if self.on:
            self._check_on_ray()
        part = self._shard.file_name if self._shard else None
        check_writable(self.failures or default_path(short_name(self.corpus), self._name, part))

    def run(
        self,
        on_progress: OnProgress = lambda report, position: None,
        on_words: OnWords = lambda done, of: None,
    ) -> JobResult[IngestReport]:
        """Ingest the file.

        Args:
            on_progress: called with the counts so far and the bytes of the file that are done:
                when the run starts and after each request.
            on_words: called with the number of words for the question table that are encoded, and
                of all, once the documents are in the index.

        Returns:
            The counts, the index and the alias. If the file breaks off, the engine goes away or
            `stop` is called, the run ends early, with the reason in `report.stopped`.

        Raises:
            InputError, MismatchError, ModelError: the index, the failures file, the journal or the
                model cannot be used, or the file is not that of the interrupted run.
            EngineError: the engine cannot be asked at the start, or the index is closed or
                blocked.
        """
        EngineInfo.read(self._client)  # without retries: a wrong address fails at once
        shards = self._sharded_load()
        if shards is None:
            self._check_ready()
        encoder = self._load_encoder()
        if shards and (result := self._in_already(shards, encoder)):
            return result
        with ExitStack() as stack:
            pool = stack.enter_context(joined(self.on)) if self.on else None
            journal = stack.enter_context(closing(Journal(self.journal)))
            with shards.alone() if shards else nullcontext():
                if shards:
                    self._check_ready()
                opened = self._open(encoder, journal, stack, shards)
                index, meta, build = opened.index, opened.meta, opened.build
                is_in = bool(shards and shards.join(index, restart=self.restart))
                noted = None if is_in else self._noted(opened, journal, stack)
                if meta.sample != self.reading.sample:
                    self._retry.ask(lambda: index.update_meta(sample=self.reading.sample))
                own = None
                if shards is None or not self.questions:  # the last shard makes the table
                    own = self._own_table(index, meta, encoder, on_words)
            completion = Completion(encoder, self.question_words, self.merge, on_words)
            before = build.before.name if build and build.before else None
            if shards and is_in:
                log.info("index %s holds shard %s of these files", index.name, shards.shard)
                report = IngestReport()
                end = shards.again(index, report, build, completion)
                return JobResult(report, index.name, meta, self.alias, before, *end)
            ingest = self._ingest(
                index,
                encoder,
                meta,
                merge_after=self.merge and shards is None,
                run=noted,
                own_table=own,
                **({"pool": pool} if pool else {"shards": shards}),
            )
            self.unit = ingest.unit
            self._start(ingest)
            on_progress(ingest.report, 0)
            report = ingest.run(on_progress)
            if shards is None:
                refusal = build.finish(report, self._retry) if build else None
                end = ShardEnd(refusal, own.report if own else None)
            else:
                end = shards.end(index, report, build, completion)
            return JobResult(report, index.name, meta, self.alias, before, *end)

    def _ingest(
        self, index: Index, encoder: LatentEncoder, meta: IndexMeta, **named: Any
    ) -> Ingest:
        """The run, in this process or on Ray."""
        kind: Callable[..., Ingest] = Ingest
        if self.on:
            from latent_ingest.connector.indexing.on_ray.ingest import RayIngest

            kind, named = RayIngest, {**named, "on": self.on, "load": self._worker_model()}
        return kind(
            self._client,
            index.name,
            encoder,
            meta,
            self._corpus or Corpus(self.corpus, self.reading),
            id_fields=self.id_fields,
            failures=self.failures,
            max_rejected=self.max_rejected,
            concurrency=self.concurrency,
            give_up_after=self.give_up_after,
            **named,
        )

    def _check_on_ray(self) -> None:
        """Raise InputError for what a run on Ray cannot do."""
        for given, why in (
            (self._piped, "a pipe is read by one process; name files"),
            (self._shard, "--shard is for machines without Ray; leave out one of the two"),
            (self.reading.sample, "--sample reads the files in order; leave out one of the two"),
            (self.ids == "engine", "--ids engine might index documents twice; leave it out"),
        ):
            if given:
                raise InputError(f"--on ray: {why}")

    @property
    def _elsewhere(self) -> bool:
        return self.on is not None

    def _files(self) -> str | None:
        """The files as far as the versions of a run on Ray depend on them, which it keeps."""
        corpus = self._corpus
        return f"{len(corpus.files)}, {corpus.size:,} bytes in all" if corpus else None

    def _check_ready(self) -> None:
        """Put back what killed commands left; raises EngineError if the index cannot be loaded."""
        self._retry.ask(repair, self._client, self.alias or self._name, self._retry)
        if self.alias is None:
            self._retry.ask(check_ready, self._client, self._name)

    def _sharded_load(self) -> ShardedLoad | None:
        if self._shard is None or self._corpus is None:
            return None
        name = self.alias or self._name
        return ShardedLoad(self._client, name, self._shard, self._corpus, self._retry)

    def _in_already(
        self, shards: ShardedLoad, encoder: LatentEncoder
    ) -> JobResult[IngestReport] | None:
        """The result if the alias points at what all shards have built; None if there is work."""
        if self.alias is None:
            return None
        mapping = checked_mapping(MappingConfig(), self._wanted())
        found = shards.completed(Alias(self._client, self.alias), encoder, mapping)
        if found is None:
            return None
        log.info("index %s holds all %d shards of these files", found.name, shards.shard.of)
        return JobResult(IngestReport(), found.name, found.meta, self.alias)

    def _open(
        self,
        encoder: LatentEncoder,
        journal: Journal,
        stack: ExitStack,
        shards: ShardedLoad | None,
    ) -> Opened:
        """Open or create the index, or the version of the alias; the stack warns of an error."""
        table, build = self._question_table(encoder), None
        if self.alias is not None:
            # Without retries: a second attempt might create a second version.
            build = Build.begin(
                Alias(self._client, self.alias),
                encoder,
                self._wanted(),
                journal,
                identity(self.corpus),
                restart=self.restart,
                questions=table,
                shards=shards,
            )
            stack.enter_context(build.refused_on_error())
        index = build.index if build else Index(self._client, self._name)
        wanted = self._wanted()
        name = index.name
        meta = self._retry.ask(open_index, self._client, name, encoder, wanted, self._retry, table)
        return Opened(index, meta, build)

    def _noted(self, opened: Opened, journal: Journal, stack: ExitStack) -> Run:
        """The run in the journal, which the stack closes."""
        index, meta, versioned = opened.index, opened.meta, opened.build is not None
        corpus = identity(self.corpus)
        key = RunKey(
            corpus=f"{corpus} (shard {self._shard})" if self._shard else corpus,
            index=index.name,
            index_uuid=self._retry.ask(index.uuid),
            settings={
                "id_fields": list(self.id_fields),
                "long": meta.long,
                "reading": self.reading.to_json(),
                "on": "ray" if self.on else None,
                "files": self._files() if self.on else None,
            },
            command=self.command or f"IngestJob(client, {self._printed()}, ...).run()",
        )
        once = self._why_once(index, versioned) if meta.ids == "engine" else None
        noted = journal.open(key, restart=self.restart, reopen=versioned, once=once)
        stack.enter_context(closing(noted))
        return noted

    def preview(self, number: int = 3) -> list[IndexAction | BadLine]:
        """The first documents as they would be sent to a new index; the engine is not asked.

        Returns:
            The action of each document, and the lines before the last of them that hold none.

        Raises:
            InputError, ModelError: the corpus or the model cannot be used.
        """
        encoder = self._load_encoder()
        meta = IndexMeta.of(encoder, MappingConfig(**self._wanted()))
        with self._corpus or Corpus(self.corpus, self.reading) as corpus:
            self._corpus = corpus
            found = first_actions(corpus, self.id_fields, meta, encoder, number, self._shard)
        for text in self.reading.changes.unseen() if self.reading.changes else ():
            log.warning("%s: %s", corpus.name, text)
        return found

    def where(self, number: int) -> str:
        """The place of a line that was read, by its number."""
        return str(self._corpus.place(number)) if self._corpus else f"line {number}"

    def _printed(self) -> str:
        """The corpus as an argument in Python."""
        paths = listed(self.corpus)
        return repr(paths[0] if len(paths) == 1 else paths)

    def _why_once(self, index: Index, versioned: bool) -> str | None:
        """Why the file must not be ingested from its start, if the engine makes the ids."""
        log.warning(
            "the engine makes the ids of %s: its documents are never replaced, and one may be "
            "there twice if a request or this run is interrupted; 'latent-ingest verify' finds "
            "these",
            index.name,
        )
        # A pipe may hold another text each time.
        if self._piped and not self.restart:
            return None
        if not self._retry.ask(index.holds_documents):
            return None
        fix = "start a new version with --restart" if versioned else "use --alias"
        return (
            f"the engine makes the ids of {index.name}, which has documents, so those of "
            f"{self._printed()} might be there twice; {fix}, or delete the index first"
        )
