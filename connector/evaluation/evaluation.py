"""An evaluation: systems compared on judged collections, through the engine.

collection → index (made unless complete) → rankings → measures → comparisons → report
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector.collections.catalog import default_cache
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.evaluation.evaluated_index import EvaluatedIndex
from latent_ingest.connector.evaluation.measures import (
    DEFAULT_MEASURES,
    compare,
    means,
    parse_measures,
    per_query,
)
from latent_ingest.connector.evaluation.overlap import by_overlap, word_overlap
from latent_ingest.connector.evaluation.rankings import Tick
from latent_ingest.connector.evaluation.report import new_report, published, write_report
from latent_ingest.connector.evaluation.runs import Run, run_systems
from latent_ingest.connector.evaluation.systems import (
    BY_TABLE,
    REFERENCES,
    RESCORED,
    SYSTEMS,
    Requests,
    Template,
    searching,
)
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.index.repair import repair
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.jobs.job import JobResult
from latent_ingest.connector.indexing.journal import DONE, Journal
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.questions.index_table import model_table

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

Progress = Callable[[str, int], AbstractContextManager[Tick]]
"""Given a collection's name and the amount of work, opens a display and returns its `Tick`."""

RunIngest = Callable[[IngestJob], JobResult[IngestReport]]
"""Runs a job; a command passes one that shows progress and stops the job on Ctrl-C."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """Systems and measures of an evaluation."""

    systems: tuple[str, ...] | None
    """Names from `SYSTEMS`; None for all that can be used on the index."""
    templates: tuple[Template, ...]
    measures: tuple[Any, ...]
    """Measures of ir-measures; systems are compared on the first."""
    cache: Path
    """Folder for dense vectors."""

    @classmethod
    def of(
        cls,
        systems: Sequence[str] | None = None,
        templates: Sequence[str] = (),
        measures: Sequence[str] | None = None,
        cache: Path | None = None,
    ) -> Plan:
        """Make a plan from names, as the command `evaluate` takes them.

        Args:
            systems: names from `SYSTEMS`; None for all that can be used.
            templates: request bodies of the user's own, each as `name=body.json`.
            measures: names of measures as ir-measures has them; None for the default ones.
            cache: folder for dense vectors; None for the user's cache folder.

        Raises:
            InputError: a name is unknown or used twice, or a template is not a request.
        """
        if unknown := set(systems or ()) - set(SYSTEMS):
            raise InputError(f"--systems: {min(unknown)!r}: use some of {','.join(SYSTEMS)}")
        loaded = tuple(Template.load(spec) for spec in templates)
        if len({template.name for template in loaded}) < len(loaded):
            raise InputError("--system: two have the same name; give each its own")
        return cls(
            tuple(dict.fromkeys(systems)) if systems else None,
            loaded,
            tuple(parse_measures(measures or DEFAULT_MEASURES)),
            cache or default_cache(),
        )

    def chosen(self, meta: IndexMeta, encoder: LatentEncoder) -> tuple[str, ...]:
        """Names of the systems to run.

        Engines cannot rescore hits of an index of chunks, and not every index or model has a
        question table.
        """
        if self.systems:
            return self.systems
        left_out: set[str] = set(RESCORED if meta.long == "chunks" else ())
        if meta.questions is None and model_table(encoder) is None:
            left_out |= BY_TABLE.keys()
        return tuple(system for system in SYSTEMS if system not in left_out)

    def work(self, collection: Collection, meta: IndexMeta, encoder: LatentEncoder) -> int:
        """Number of questions asked over all systems, plus documents embedded for dense."""
        systems = self.chosen(meta, encoder)
        asked = len(searching(systems)) + len(self.templates)
        documents = len(collection.contents.ids) if "dense" in systems else 0
        return asked * len(collection.queries) + documents


@dataclass
class Evaluation:
    """Evaluates systems on one collection after the other.

        evaluation = Evaluation(client, encoder, load_collections(["scifact/"]), Plan.of())
        for part in evaluation.run():
            print(part["name"], part["systems"]["hybrid"]["means"])

    Raises EngineError if the engine does not answer.
    """

    client: OpenSearch | Client
    encoder: LatentEncoder
    collections: Sequence[Collection]
    """Collections with different names."""
    plan: Plan
    index: str | None = None
    """Index of the only collection; None for evaluate-COLLECTION-FINGERPRINT, one per model."""
    journal: Path | None = None
    """Path of the journal of ingest runs; None for the default one."""
    folder: Path | None = None
    """Existing folder, to which the report is written after each collection; None for nowhere."""
    command: str | None = None
    """Command that resumes an interrupted ingest, for the journal."""
    report: dict[str, Any] = field(init=False)
    """Content of report.json, which grows with each collection."""

    def __post_init__(self) -> None:
        self._client = adapted(self.client)
        names = [str(measure) for measure in self.plan.measures]
        self.report = new_report(EngineInfo.read(self._client), self.encoder, names)

    def run(
        self,
        progress: Progress = lambda name, work: nullcontext(lambda done: None),
        run_ingest: RunIngest = IngestJob.run,
    ) -> Iterator[dict[str, Any]]:
        """Evaluate the collections; yield the part of the report on each when it is complete.

        Args:
            progress: opens a progress display per collection.
            run_ingest: runs the job that ingests a collection that is not indexed yet.

        Raises:
            InputError: a system cannot be used, or the index holds other documents.
            MismatchError: the index was made with another model, or lacks judged documents.
            EngineError: a document could not be indexed, or a search failed.
            KeyboardInterrupt: the ingest was stopped.
        """
        model = self.encoder.fingerprint.digest[:8]
        for collection in self.collections:
            name = self.index or f"evaluate-{collection.name.lower()}-{model}"
            repair(self._client, name)
            index = EvaluatedIndex(Index(self._client, name), collection)
            ingested = self._ingest(index, run_ingest)
            index.check_judged()
            index.check_language()
            work = self.plan.work(collection, index.index.meta(), self.encoder)
            with progress(collection.name, work) as tick:
                part, runs = measure(index, self.encoder, self.plan, ingested, tick)
            self.report["collections"].append(part)
            yield part
            if self.folder:
                write_report(self.folder, self.report, runs)

    def _ingest(self, evaluated: EvaluatedIndex, run_ingest: RunIngest) -> IngestReport | None:
        """Ingest the corpus unless the index is complete; resume an interrupted ingest."""
        if evaluated.is_complete():
            return None
        name, collection = evaluated.index.name, evaluated.collection
        _ = collection.contents  # raises InputError before the index is created
        corpus = str(Path(str(collection.corpus)).resolve())
        exists = Index.find(self._client, name) is not None
        if exists:
            open_index(self._client, name, self.encoder, {})
        with closing(Journal(self.journal)) as book:
            runs = [run for run in book.runs() if (run.corpus, run.index) == (corpus, name)]
        explained = any(run.state != DONE for run in runs)
        # The user named the index, and its documents are not from an interrupted run.
        if exists and self.index and not explained and evaluated.index.holds_documents():
            raise evaluated.other_documents()
        log.info("indexing %s into %s", collection.corpus, name)
        job = IngestJob(
            self._client,
            corpus,
            index=name,
            encoder=self.encoder,
            journal=self.journal,
            command=self.command,
        )
        report = run_ingest(job).report
        if report.stopped == "interrupted":
            raise KeyboardInterrupt
        if not report.ok:
            why = report.stopped or f"{report.failures_file} says why"
            lost = f"{report.failed + report.not_sent:,} of {report.lines:,} documents"
            raise EngineError(f"{lost} are not in {name}: {why}")
        if not evaluated.is_complete():
            raise evaluated.other_documents()
        return report


def measure(
    evaluated: EvaluatedIndex,
    encoder: LatentEncoder,
    plan: Plan,
    ingested: IngestReport | None = None,
    tick: Tick = lambda done: None,
) -> tuple[dict[str, Any], dict[str, Run]]:
    """Run all systems on one collection; return its part of the report, and the runs by system.

    Raises:
        InputError: a system cannot be used: dense without a corpus, two phases on chunks.
        ModelError: a system needs the question table, and there is none of this model.
        MismatchError: the index was made with another model.
        EngineError: a search fails.
    """
    index, collection = evaluated.index, evaluated.collection
    queries = QueryEncoder(encoder, cache_size=len(collection.queries))
    rewriter = QueryRewriter.from_index(index.client, index.name, queries)
    meta = index.meta()
    query_k = (meta.query_settings or {}).get("query_k")
    systems = plan.chosen(meta, encoder)
    by_table = None
    if BY_TABLE.keys() & set(systems):
        if meta.questions is None:
            model_table(encoder, strict=True)  # raises if it is of another model
        table = QueryEncoder(encoder.folder, questions="table")
        by_table = QueryRewriter.from_index(index.client, index.name, table)
    requests = Requests(rewriter, queries, index.client, query_k, by_table)
    runs = run_systems(index, requests, collection, systems, plan.templates, plan.cache, tick)
    values = {
        system: per_query(collection.qrels, run.ranking, plan.measures)
        for system, run in runs.items()
    }
    main = str(plan.measures[0])
    of_main = {
        system: {query: row[main] for query, row in rows.items()} for system, rows in values.items()
    }
    n_documents = evaluated.n_documents()
    n_queries = len(collection.queries)
    rates = ingested.to_json() if ingested else {}
    measured = {
        system: {
            "means": means(values[system], plan.measures),
            **run.costs(),
            "per_query": values[system],
        }
        for system, run in runs.items()
    }
    report = {
        "name": collection.name,
        "split": collection.split,
        "index": index.name,
        "documents": n_documents,
        "queries": n_queries,
        "left_out": collection.left_out,
        "systems": measured,
        "comparisons": [
            asdict(comparison)
            for reference in REFERENCES
            if reference in runs
            for comparison in compare(of_main, reference, main, collection.queries)
        ],
        "cost": {
            "index_bytes": evaluated.field_bytes(),
            "index_total_bytes": index.size().bytes,
            "documents_per_second": rates.get("documents_per_second"),
            "tokens_per_second": rates.get("tokens_per_second"),
        },
        "published": published(collection.name, collection.split, n_documents, n_queries),
        "overlap": by_overlap(word_overlap(index, collection), measured, main)
        if collection.corpus
        else None,
        "texts": collection.queries,
    }
    return report, runs
