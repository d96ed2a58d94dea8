"""A small judged collection, and an index of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from indexed import indexed
from opensearchpy import OpenSearch
from tuned import HEADER

from latent_ingest.connector.encoding.encoder import LatentEncoder


@pytest.fixture(scope="module")
def folder(documents: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions are parts of documents; dev judges every third of them, test the others."""
    folder = tmp_path_factory.mktemp("tune") / "docs"
    (folder / "qrels").mkdir(parents=True)
    chosen = documents[:55]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in chosen))
    parts = [(d["_id"], d["text"].split()[n::2][:8]) for d in chosen for n in (0, 1)]
    queries = [{"_id": f"q{n}", "text": " ".join(words)} for n, (_, words) in enumerate(parts)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    lines = [f"q{n}\t{id_}\t1\n" for n, (id_, _) in enumerate(parts)]
    (folder / "qrels" / "dev.tsv").write_text(HEADER + "".join(lines[::3]))
    others = [line for n, line in enumerate(lines) if n % 3]
    (folder / "qrels" / "test.tsv").write_text(HEADER + "".join(others))
    (folder / "qrels" / "all.tsv").write_text(HEADER + "".join(lines))
    (folder / "qrels" / "few.tsv").write_text(HEADER + "".join(lines[:15]))
    return folder


@pytest.fixture(scope="module")
def made(client: OpenSearch, encoder: LatentEncoder, folder: Path) -> Iterator[str]:
    """An index of the documents, which tests leave as it is."""
    with indexed(client, encoder, folder / "corpus.jsonl") as index:
        yield index
