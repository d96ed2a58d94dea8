"""Collections by their names: of folders, or in ir_datasets where that package can get them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.collection import Collection

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
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        for document in dataset.docs_iter():
            file.write(json.dumps({"_id": document.doc_id, "text": text_of(document)}) + "\n")
    part.replace(path)


def text_of(record: Any) -> str:
    """The text of a query or a document, as ir_datasets puts it together."""
    return str(record.default_text() if hasattr(record, "default_text") else record.text)
