"""The index under evaluation: made from the corpus, or checked to hold the collection."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensearchpy.exceptions import TransportError

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.evaluation.rankings import batched
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.job import IngestJob, JobResult
from latent_ingest.connector.indexing.journal import DONE, Journal
from latent_ingest.connector.indexing.outcomes import IngestReport

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Ids looked up per request; engines return at most 10,000 hits.
LOOKED_UP = 5_000

# Frequent English words that are rarely words of other languages.
ENGLISH = frozenset({"the", "of", "and", "to", "that", "for", "with", "are", "this", "by", "from"})

# Smallest share of these words in an English text: .18 in SciFact, .05 in LIMIT, whose documents
# are lists of what people like.
LEAST_SHARE = 0.02

RunIngest = Callable[[IngestJob], JobResult[IngestReport]]
"""Runs a job; a command passes one that shows progress and stops the job on Ctrl-C."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluatedIndex:
    """An index, and the collection whose documents it holds or is to hold."""

    index: Index
    collection: Collection

    def is_complete(self) -> bool:
        """Whether the index exists and holds as many documents as the corpus has ids.

        Raises:
            MismatchError: the index has no latent terms, or the engine makes its ids.
            EngineError: the engine cannot be asked.
        """
        meta = IndexMeta.read(self.index.client, self.index.name)
        if meta is None:
            return False
        if meta.ids == "engine":
            raise MismatchError(
                f"the engine makes the ids of {self.index.name}, but judgements name the "
                f"collection's ids; name another index with --index"
            )
        if self.collection.corpus is None:
            return True
        return self.n_documents() == len(set(self.collection.contents.ids))

    def n_documents(self) -> int:
        """Number of documents in the index; chunks of one document count once."""
        chunked = self.index.meta().long == "chunks"
        return self.index.count({"term": {"chunk": 0}} if chunked else None)

    def make(
        self,
        encoder: LatentEncoder,
        *,
        users_own: bool,
        journal: Path | None,
        command: str | None,
        run_ingest: RunIngest,
    ) -> IngestReport | None:
        """Ingest the corpus unless the index is complete; resume an interrupted ingest.

        Args:
            encoder: model that encodes the documents.
            users_own: whether the user named the index. If it holds documents that no run in the
                journal explains, none are added.
            journal: path of the journal; None for the default one.
            command: command that resumes the run, for the journal.
            run_ingest: runs the job that ingests the corpus.

        Returns:
            The report of the ingest; None if the index was complete.

        Raises:
            InputError: the index holds other documents, or the collection has no corpus.
            EngineError: not all documents could be indexed.
            KeyboardInterrupt: the ingest was stopped.
        """
        if self.is_complete():
            return None
        name = self.index.name
        corpus = str(Path(str(self.collection.corpus)).resolve())
        _ = self.collection.contents  # raises InputError before the index is created
        open_index(self.index.client, name, encoder, {})
        with closing(Journal(journal)) as book:
            runs = [run for run in book.runs() if (run.corpus, run.index) == (corpus, name)]
        explained = any(run.state != DONE for run in runs)
        if users_own and not explained and self.index.holds_documents():
            raise self._other_documents()
        log.info("indexing %s into %s", self.collection.corpus, name)
        report = run_ingest(
            IngestJob(
                self.index.client,
                corpus,
                index=name,
                encoder=encoder,
                journal=journal,
                command=command,
            )
        ).report
        if report.stopped == "interrupted":
            raise KeyboardInterrupt
        if not report.ok:
            why = report.stopped or f"{report.failures_file} says why"
            lost = f"{report.failed + report.not_sent:,} of {report.lines:,} documents"
            raise EngineError(f"{lost} are not in {name}: {why}")
        if not self.is_complete():
            raise self._other_documents()
        return report

    def _other_documents(self) -> InputError:
        return InputError(
            f"index {self.index.name} holds other documents than {self.collection.corpus}; name a "
            f"new index with --index"
        )

    def check_judged(self) -> None:
        """Check that the index holds the judged documents; log a warning if it lacks some.

        Raises:
            MismatchError: it has none of them, or lacks one that is in the corpus.
        """
        judged, corpus = self.collection.judged, self.collection.corpus
        if corpus is not None:
            judged &= set(self.collection.contents.ids)
        missing = self.missing(judged)
        if not missing:
            return
        line = (
            f"index {self.index.name} lacks {len(missing):,} of the {len(judged):,} documents that "
            f"{self.collection.name} judges, such as {missing[0]!r}"
        )
        if corpus is not None or len(missing) == len(judged):
            raise MismatchError(
                f"{line}; it holds other documents, or has other ids; name another with --index"
            )
        log.warning("%s", line)

    def check_language(self) -> None:
        """Log a warning if words are analyzed as English but the corpus seems not to be English."""
        if self.collection.corpus is None or self.index.meta().analyzer != "english":
            return
        if not seems_english(self.collection.contents.sample):
            log.warning(
                "%s does not seem to be English, but %s analyzes its words as English; ingest it "
                "with --analyzer, and name that index with --index",
                self.collection.name,
                self.index.name,
            )

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Return the sorted ids of the documents that the index lacks."""
        client, name = self.index.client, self.index.name
        suffix = "#0" if self.index.meta().long == "chunks" else ""
        missing: list[str] = []
        for some in batched(sorted(ids), LOOKED_UP):
            wanted = {"ids": {"values": [id + suffix for id in some]}}
            body = {"query": wanted, "size": len(some), "_source": False}
            with engine_errors(client):
                hits = client.search(index=name, body=body)["hits"]["hits"]
            held = {hit["_id"] for hit in hits}
            missing += [id for id in some if id + suffix not in held]
        return missing

    def field_bytes(self) -> dict[str, int] | None:
        """Bytes of each field on disk; None if the engine has no such statistics.

        Elasticsearch has them since 7.15; OpenSearch 3.8 does not.

        Raises:
            EngineError: the engine cannot be reached.
        """
        client = self.index.client
        with engine_errors(client):
            try:
                answer = client.transport.perform_request(
                    "POST",
                    f"/{self.index.name}/_disk_usage",
                    params={"run_expensive_tasks": "true"},
                )
            except TransportError as error:
                if not isinstance(error.status_code, int):  # no response at all
                    raise
                return None
        return fields_in(answer)


def fields_in(answer: dict[str, Any]) -> dict[str, int]:
    """Sum the bytes of each field over the indices of a `_disk_usage` response."""
    sizes: dict[str, int] = {}
    for index, content in answer.items():
        if index != "_shards":
            for name, size in content["fields"].items():
                sizes[name] = sizes.get(name, 0) + size["total_in_bytes"]
    return sizes


def seems_english(texts: Iterable[str]) -> bool:
    """Whether texts seem to be English; True if they have no words."""
    words = [word for text in texts for word in re.findall(r"\w+", text)]
    return not words or sum(word.lower() in ENGLISH for word in words) / len(words) >= LEAST_SHARE
