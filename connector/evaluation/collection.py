"""A judged collection in BEIR's layout: corpus.jsonl[.gz], queries.jsonl, qrels/<split>.tsv."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latent_ingest.connector.corpus import (
    DEFAULT_TEXT_FIELDS,
    BadLine,
    CorpusFile,
    Document,
    parse_line,
)
from latent_ingest.connector.errors import InputError


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the documents are, the judged questions, and the judgements."""

    name: str
    corpus: Path
    queries: dict[str, str]
    """Query id → text, of those that have a judgement."""
    qrels: dict[str, dict[str, int]]
    """Query id → document id → grade; 0 is not relevant."""

    @classmethod
    def load(cls, folder: Path, split: str = "test") -> Collection:
        """Read queries and judgements; the corpus stays on disk.

        Raises:
            InputError: a file is missing, a judgement is broken or names no known query.
        """
        corpus = first_there(folder, "corpus.jsonl", "corpus.jsonl.gz")
        queries_file = first_there(folder, "queries.jsonl", "queries.jsonl.gz")
        qrels = read_qrels(first_there(folder, f"qrels/{split}.tsv"))
        texts = {document.id: document.text for document in read_documents(queries_file)}
        if unknown := qrels.keys() - texts.keys():
            raise InputError(
                f"{folder}/qrels/{split}.tsv: query {min(unknown)!r} is not in {queries_file.name} "
                f"({len(unknown)} such); give the queries the judgements were made for"
            )
        return cls(folder.resolve().name, corpus, {q: texts[q] for q in qrels}, qrels)

    def documents(self) -> Iterator[Document]:
        """The corpus; raises InputError at a line that is no document."""
        return read_documents(self.corpus)


def first_there(folder: Path, *names: str) -> Path:
    """The first of some files that exists in a folder."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: no {' or '.join(names)}; a BEIR folder holds one")


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


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements: a header, then query id, document id and grade, by tabs."""
    qrels: dict[str, dict[str, int]] = {}
    with CorpusFile(path) as file:
        for line in file:
            parts = line.content.decode("utf-8", "replace").split("\t")
            if line.number == 1 and parts[-1] == "score":
                continue
            try:
                query, document, grade = parts
                qrels.setdefault(query, {})[document] = int(grade)
            except ValueError:
                raise InputError(
                    f"{path}: line {line.number}: {line.content[:60]!r} is no judgement; write "
                    f"query id, document id and a whole number, by tabs"
                ) from None
    if not qrels:
        raise InputError(f"{path}: no judgements")
    return qrels
