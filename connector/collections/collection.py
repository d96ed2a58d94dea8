"""Judged collections: documents, questions and judgements.

A collection is a folder in BEIR layout (corpus.jsonl[.gz], queries.jsonl[.gz],
qrels/<split>.tsv), or a folder with TREC files beside the corpus (topics*, qrels*).
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Collection as Ids
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from latent_ingest.connector.collections.trec import read_judgements, read_topics
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.document import DEFAULT_TEXT_FIELDS, BadLine, Document, parse_line
from latent_ingest.connector.errors import InputError

# Documents at the beginning of a corpus by which its language is guessed.
SAMPLE_DOCUMENTS = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Contents:
    """Results of one pass over a corpus file."""

    ids: list[str]
    """Document ids, in the order of the file."""
    digest: str
    """SHA-256 over ids and texts, 32 hexadecimal digits."""
    sample: list[str]
    """Texts of the first `SAMPLE_DOCUMENTS` documents."""
    relevant: dict[str, str]
    """Document id → text, of the documents that are relevant to a question."""


@dataclass(frozen=True)
class Collection:
    """Corpus file, judged questions and their judgements."""

    name: str
    corpus: Path | None
    """None if the documents exist only in an index."""
    queries: dict[str, str]
    """Query id → text, of the questions that have a judgement."""
    qrels: dict[str, dict[str, int]]
    """Query id → document id → grade; 0 is not relevant."""
    split: str = "test"
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of questions left out, by reason."""
    qrels_file: Path | None = None
    """Source of the judgements; None if they are not from a file."""

    @classmethod
    def load(cls, folder: Path, split: str = "test") -> Collection:
        """Read questions and judgements of a folder; the corpus is not read yet.

        Raises:
            InputError: a file is missing, a judgement is malformed or names an unknown query, or a
                query has no text.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; name a folder in BEIR layout")
        corpus = find(folder, "corpus.jsonl", "corpus.jsonl.gz")
        if queries_file := find(folder, "queries.jsonl", "queries.jsonl.gz"):
            texts = {document.id: document.text for document in read_documents(queries_file)}
            qrels_file = first_existing(folder, f"qrels/{split}.tsv")
        elif split != "test":
            raise InputError(
                f"{folder}: TREC layout has one judgement file, not {split!r}; leave --split out"
            )
        else:
            queries_file = only_one(folder, "topics*")
            texts = read_topics(queries_file)
            qrels_file = only_one(folder, "qrels*")
        qrels: dict[str, dict[str, int]] = {}
        for judgement in read_judgements(qrels_file):
            if judgement.query not in texts:
                raise InputError(
                    f"{qrels_file}: line {judgement.line}: query {judgement.query!r} is not in "
                    f"{queries_file.name}; use the queries that the judgements were made for"
                )
            if not texts[judgement.query].strip():
                raise InputError(f"{queries_file}: query {judgement.query!r} has no text")
            qrels.setdefault(judgement.query, {})[judgement.document] = judgement.grade
        left_out = {"without_judgements": len(texts) - len(qrels)}
        queries = {query: texts[query] for query in qrels}
        name = folder.resolve().name
        return cls(name, corpus, queries, qrels, split, left_out, qrels_file)

    @property
    def judged(self) -> set[str]:
        """Ids of all judged documents, relevant or not."""
        return {document for grades in self.qrels.values() for document in grades}

    @property
    def relevant(self) -> set[str]:
        """Ids of the documents that are relevant to a question."""
        return {d for grades in self.qrels.values() for d, grade in grades.items() if grade > 0}

    def documents(self) -> Iterator[Document]:
        """Read the corpus; raises InputError at a malformed line, or if there is no corpus."""
        if self.corpus is None:
            raise InputError(
                f"{self.name}: no corpus.jsonl or corpus.jsonl.gz; add it, or name an index that "
                f"holds the documents with --index, and leave out the system dense"
            )
        return read_documents(self.corpus)

    @cached_property
    def contents(self) -> Contents:
        """Results of one pass over the corpus, made on first use.

        The texts are not kept but for these few, so that a corpus may be larger than the memory:
        ingest and the vectors of the system dense read the file again, each once.

        Raises:
            InputError: as for `documents`, or the corpus is empty.
        """
        digest = hashlib.sha256()
        ids: list[str] = []
        sample: list[str] = []
        relevant = self.relevant
        texts: dict[str, str] = {}
        for document in self.documents():
            ids.append(document.id)
            digest.update(f"{document.id}\0{document.text}\0".encode("utf-8", "replace"))
            if len(sample) < SAMPLE_DOCUMENTS:
                sample.append(document.text)
            if document.id in relevant:
                texts[document.id] = document.text
        if not ids:
            raise InputError(f"{self.corpus}: no documents")
        return Contents(ids, digest.hexdigest()[:32], sample, texts)

    def check_judged(self, known: Ids[str]) -> None:
        """Log a warning if a corpus, given by its ids, lacks judged documents.

        Raises:
            InputError: the corpus has none of them.
        """
        judged = self.judged
        unknown = judged.difference(known)
        if not unknown:
            return
        where = f"{self.name}: document {min(unknown)!r}"
        if self.qrels_file:
            first = next(j for j in read_judgements(self.qrels_file) if j.document in unknown)
            where = f"{self.qrels_file}: line {first.line}: document {first.document!r}"
        if unknown == judged:
            raise InputError(
                f"{where} is not in the corpus, nor is any other of the {len(judged):,} judged "
                f"documents; use the corpus that the judgements were made for"
            )
        log.warning(
            "%s is not in the corpus; %s of the %s judged documents are missing, and no system can "
            "find them",
            where,
            f"{len(unknown):,}",
            f"{len(judged):,}",
        )

    def part(self, queries: Ids[str]) -> Collection:
        """Return the collection with only some of its questions, in their order."""
        texts = {query: text for query, text in self.queries.items() if query in queries}
        return replace(self, queries=texts, qrels={query: self.qrels[query] for query in texts})

    def limited(self, n_queries: int | None, seed: int = 0) -> Collection:
        """Return the collection with a random sample of at most `n_queries` questions."""
        if n_queries is None or n_queries >= len(self.queries):
            return self
        left_out = self.left_out | {"limit_queries": len(self.queries) - n_queries}
        drawn = self.part(set(shuffled(self.queries, seed)[:n_queries]))
        return replace(drawn, left_out=left_out)


def shuffled(queries: Ids[str], seed: int) -> list[str]:
    """Shuffle query ids; the result depends on the ids and the seed, not on the given order."""
    ordered = sorted(queries)
    random.Random(seed).shuffle(ordered)
    return ordered


def find(folder: Path, *names: str) -> Path | None:
    """Return the first of some files that exists in a folder, or None."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def first_existing(folder: Path, *names: str) -> Path:
    """Return the first of some files that exists in a folder; raises InputError if none does."""
    if found := find(folder, *names):
        return found
    raise InputError(f"{folder}: no {' or '.join(names)}; a folder in BEIR layout needs it")


def only_one(folder: Path, pattern: str) -> Path:
    """Return the only file of a folder that matches a pattern; raises InputError otherwise."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{folder}: {len(found)} files {pattern} ({names}); keep one of them")
    raise InputError(
        f"{folder}: neither queries.jsonl and qrels/*.tsv (BEIR layout) nor a file {pattern} "
        f"(TREC layout)"
    )


def read_documents(path: Path) -> Iterator[Document]:
    """Read the documents of a file of any format; raises InputError at one that is not valid."""
    with Corpus(path) as corpus:
        for line in corpus:
            if not (line.problem or line.content.strip()):
                continue
            document = parse_line(line, text_fields=DEFAULT_TEXT_FIELDS)
            if isinstance(document, BadLine):
                raise InputError(f"{corpus.place(line.number)}: {document.reason}")
            yield document
