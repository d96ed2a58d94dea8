"""Collections by their names: folders, and datasets of the package ir_datasets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import platformdirs

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.files import replacing

PREFIX = "ir_datasets:"


def default_cache() -> Path:
    """Return the folder for vectors and downloaded collections."""
    return platformdirs.user_cache_path("latent-ingest")


def load_collection(name: str, split: str, cache: Path | None) -> Collection:
    """Load a collection, named by a folder or by `ir_datasets:` and a dataset.

    Raises:
        InputError: the collection cannot be used.
    """
    if name.startswith(PREFIX):
        return load_ir_dataset(name.removeprefix(PREFIX), cache)
    return Collection.load(Path(name), split)


def load_collections(
    names: Sequence[str],
    split: str = "test",
    limit_queries: int | None = None,
    cache: Path | None = None,
) -> list[Collection]:
    """Load several collections and check each against its corpus.

    Args:
        names: as for `load_collection`.
        split: which judgements of folders in BEIR layout.
        limit_queries: maximum number of questions per collection, a random sample; None for all.
        cache: folder for corpus files of ir_datasets; None for the user's cache folder.

    Raises:
        InputError: a collection cannot be used, or two have the same name.
    """
    collections: list[Collection] = []
    for name in names:
        whole = load_collection(name, split, cache)
        if any(other.name == whole.name for other in collections):
            raise InputError(f"{name}: another collection is named {whole.name}; rename one")
        collection = whole.limited(limit_queries)
        if whole.corpus:
            whole.check_judged(collection.contents.ids)
        collections.append(collection)
    return collections


def load_ir_dataset(name: str, cache: Path | None) -> Collection:
    """Load a dataset of ir_datasets; its documents are written to a corpus file in `cache` once.

    Raises:
        InputError: the package is not installed, has no such dataset or cannot download it, or the
            dataset has no documents, queries or judgements.
    """
    try:
        import ir_datasets
    except ImportError:
        raise InputError(
            f"{PREFIX}{name}: ir_datasets is not installed; pip install "
            f"'latent-ingest[ir-datasets]'"
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
        corpus = (cache or default_cache()) / "corpora" / f"{short}.jsonl"
        if not corpus.is_file():
            write_corpus(dataset, corpus)
    except Exception as error:  # each source of a dataset fails in its own way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{PREFIX}{name}: could not be downloaded: {reason}") from error
    queries = {query: texts[query] for query in qrels if query in texts}
    if not queries:
        raise InputError(f"{PREFIX}{name}: none of its queries is judged")
    left_out = {"without_judgements": len(texts) - len(queries)}
    qrels = {query: qrels[query] for query in queries}
    return Collection(short, corpus, queries, qrels, name.rpartition("/")[2], left_out)


def write_corpus(dataset: Any, path: Path) -> None:
    """Write the documents of a dataset as JSONL; the file appears once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for document in dataset.docs_iter():
            file.write(json.dumps({"_id": document.doc_id, "text": text_of(document)}) + "\n")


def text_of(record: Any) -> str:
    """Return the text of a query or document as ir_datasets combines it from its fields."""
    return str(record.default_text() if hasattr(record, "default_text") else record.text)
