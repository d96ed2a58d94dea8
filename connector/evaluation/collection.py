"""A judged collection: its documents, the questions with judgements, and the judgements.

A folder in BEIR's layout (corpus.jsonl[.gz], queries.jsonl[.gz], qrels/<split>.tsv) or with TREC's
files beside the corpus (topics*, qrels*).

Collections by their names: of folders, or in ir_datasets where that package can get them.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Collection as Ids
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from latent_ingest.connector.corpus import (
    DEFAULT_TEXT_FIELDS,
    BadLine,
    CorpusFile,
    Document,
    parse_line,
)
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.trec import read_judgements, read_topics
from latent_ingest.connector.files import replacing


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a corpus file."""

    ids: list[str]
    """Of its documents, in their order."""
    digest: str
    """SHA-256 over ids and texts, 32 hexadecimal digits."""


@dataclass(frozen=True)
class Collection:
    """Where the documents are, the judged questions, and the judgements."""

    name: str
    corpus: Path | None
    """None where the documents are in an index alone."""
    queries: dict[str, str]
    """Query id → text, of those that have a judgement."""
    qrels: dict[str, dict[str, int]]
    """Query id → document id → grade; 0 is not relevant."""
    split: str = "test"
    left_out: dict[str, int] = field(default_factory=dict)
    """Questions left out, by reason."""
    qrels_file: Path | None = None
    """Where the judgements are from, if from a file."""

    @classmethod
    def load(cls, folder: Path, split: str = "test") -> Collection:
        """Read queries and judgements; the corpus stays on disk.

        Raises:
            InputError: a file is missing, a judgement is broken or names no known query, or a
                query is empty.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give one in BEIR's layout")
        corpus = find(folder, "corpus.jsonl", "corpus.jsonl.gz")
        if queries_file := find(folder, "queries.jsonl", "queries.jsonl.gz"):
            texts = {document.id: document.text for document in read_documents(queries_file)}
            qrels_file = first_there(folder, f"qrels/{split}.tsv")
        elif split != "test":
            raise InputError(
                f"{folder}: TREC's layout has one file of judgements, not {split!r}; leave --split "
                f"out"
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
                    f"{queries_file.name}; give the queries the judgements were made for"
                )
            if not texts[judgement.query].strip():
                raise InputError(f"{queries_file}: query {judgement.query!r} has no text")
            qrels.setdefault(judgement.query, {})[judgement.document] = judgement.grade
        left_out = {"without_judgements": len(texts) - len(qrels)}
        queries = {query: texts[query] for query in qrels}
        name = folder.resolve().name
        return cls(name, corpus, queries, qrels, split, left_out, qrels_file)

    def documents(self) -> Iterator[Document]:
        """The corpus; raises InputError at a line that is no document, or without a corpus."""
        if self.corpus is None:
            raise InputError(
                f"{self.name}: no corpus.jsonl or corpus.jsonl.gz; add it, or name an index that "
                f"holds the documents with --index, and leave out dense"
            )
        return read_documents(self.corpus)

    @cached_property
    def contents(self) -> Contents:
        """The corpus, read once; raises InputError as `documents`, or where there is none."""
        digest = hashlib.sha256()
        ids = []
        for document in self.documents():
            ids.append(document.id)
            digest.update(f"{document.id}\0{document.text}\0".encode("utf-8", "replace"))
        if not ids:
            raise InputError(f"{self.corpus}: no documents")
        return Contents(ids, digest.hexdigest()[:32])

    def unknown_documents(self, known: Ids[str]) -> str | None:
        """A line on judged documents that the corpus lacks; none where it has them all.

        Args:
            known: ids of the corpus.

        Raises:
            InputError: it has none of them.
        """
        judged = {document for grades in self.qrels.values() for document in grades}
        unknown = judged - set(known)
        if not unknown:
            return None
        where = f"{self.name}: document {min(unknown)!r}"
        if self.qrels_file:
            first = next(j for j in read_judgements(self.qrels_file) if j.document in unknown)
            where = f"{self.qrels_file}: line {first.line}: document {first.document!r}"
        if unknown == judged:
            raise InputError(
                f"{where} is not in the corpus, nor is any other of the {len(judged):,} judged "
                f"documents; give the corpus the judgements were made for"
            )
        return (
            f"{where} is not in the corpus, as {len(unknown):,} of the {len(judged):,} judged "
            f"documents are not: nothing can find them"
        )

    def part(self, queries: Ids[str]) -> Collection:
        """The collection with some of its questions, in their order."""
        texts = {query: text for query, text in self.queries.items() if query in queries}
        return replace(self, queries=texts, qrels={query: self.qrels[query] for query in texts})

    def limited(self, n_queries: int | None, seed: int = 0) -> Collection:
        """The collection with `n_queries` of its questions at most, drawn by a seed."""
        if n_queries is None or n_queries >= len(self.queries):
            return self
        left_out = self.left_out | {"limit_queries": len(self.queries) - n_queries}
        drawn = self.part(set(shuffled(self.queries, seed)[:n_queries]))
        return replace(drawn, left_out=left_out)


def shuffled(queries: Ids[str], seed: int) -> list[str]:
    """Questions in an order of the seed's, whatever theirs."""
    ordered = sorted(queries)
    random.Random(seed).shuffle(ordered)
    return ordered


def find(folder: Path, *names: str) -> Path | None:
    """The first of some files that exists in a folder, if any does."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def first_there(folder: Path, *names: str) -> Path:
    """The first of some files that exists in a folder."""
    if found := find(folder, *names):
        return found
    raise InputError(f"{folder}: no {' or '.join(names)}; a BEIR folder holds one")


def only_one(folder: Path, pattern: str) -> Path:
    """The one file of a folder whose name begins as TREC's files do."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{folder}: {len(found)} files {pattern} ({names}); keep one of them")
    raise InputError(
        f"{folder}: neither queries.jsonl and qrels/*.tsv, as BEIR has them, nor a file "
        f"{pattern}, as TREC has it"
    )


def read_documents(path: Path) -> Iterator[Document]:
    """Documents of a file in which every line must be one."""
    with CorpusFile(path) as file:
        for line in file:
            if not line.content.strip():
                continue
            document = parse_line(line, text_fields=DEFAULT_TEXT_FIELDS)
            if isinstance(document, BadLine):
                raise InputError(f"{path}: line {line.number}: {document.reason}")
            yield document


PREFIX = "ir_datasets:"


def load_collection(name: str, split: str, cache: Path) -> Collection:
    """A collection by its folder, or by `ir_datasets:` and its name there; raises InputError.

    Args:
        name: of the folder, or of ir_datasets.
        split: which of a folder's judgements.
        cache: folder for the corpus file of one of ir_datasets.
    """
    if name.startswith(PREFIX):
        return load_ir_dataset(name.removeprefix(PREFIX), cache)
    return Collection.load(Path(name), split)


def load_ir_dataset(name: str, cache: Path) -> Collection:
    """A collection of ir_datasets; its documents are written once as a corpus file.

    Args:
        name: as in `ir_datasets.load`.
        cache: folder for the corpus file.

    Raises:
        InputError: the package is missing, knows no such collection or cannot get it, or that has
            no documents, queries or judgements.
    """
    try:
        import ir_datasets
    except ImportError:
        raise InputError(
            f"{PREFIX}{name}: the package is missing; pip install 'latent-ingest[ir-datasets]'"
        ) from None
    try:
        dataset = ir_datasets.load(name)
    except KeyError:
        raise InputError(f"{PREFIX}{name}: no such collection; see ir-datasets.com") from None
    for part in ("docs", "queries", "qrels"):
        if not dataset.has(part):
            raise InputError(f"{PREFIX}{name}: has no {part}; name a part of it that has them")
    try:
        qrels: dict[str, dict[str, int]] = {}
        for judgement in dataset.qrels_iter():
            qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = int(judgement.relevance)
        texts = {query.query_id: text_of(query) for query in dataset.queries_iter()}
        short = re.sub(r"[^\w.-]+", "-", name)
        corpus = cache / "corpora" / f"{short}.jsonl"
        if not corpus.is_file():
            write_corpus(dataset, corpus)
    except Exception as error:  # downloads fail in as many ways as there are places
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{PREFIX}{name}: cannot be had: {reason}") from error
    queries = {query: texts[query] for query in qrels if query in texts}
    if not queries:
        raise InputError(f"{PREFIX}{name}: none of its queries is judged")
    left_out = {"without_judgements": len(texts) - len(queries)}
    qrels = {query: qrels[query] for query in queries}
    return Collection(short, corpus, queries, qrels, name.rpartition("/")[2], left_out)


def write_corpus(dataset: Any, path: Path) -> None:
    """The documents as JSONL; the file is there when all of it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for document in dataset.docs_iter():
            file.write(json.dumps({"_id": document.doc_id, "text": text_of(document)}) + "\n")


def text_of(record: Any) -> str:
    """The text of a query or a document, as ir_datasets puts it together."""
    return str(record.default_text() if hasattr(record, "default_text") else record.text)
