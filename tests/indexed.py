"""An index that the tests of a module share."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.questions.stored_table import StoredTable

PREFIX = "latent-ingest-test-"


@contextmanager
def indexed(
    client: OpenSearch,
    encoder: LatentEncoder,
    documents: Path | Sequence[Mapping[str, Any]],
    *,
    name: str | None = None,
    table: StoredTable | None = None,
    prepare: Callable[[str], None] = lambda index: None,
) -> Iterator[str]:
    """Name an index that holds the documents of a file, or these, and delete it at the end.

    `prepare` is called with its name before documents are in it.
    """
    index = name or f"{PREFIX}{uuid.uuid4().hex[:12]}"
    with TemporaryDirectory() as folder:
        corpus = documents if isinstance(documents, Path) else Path(folder, "corpus.jsonl")
        if not isinstance(documents, Path):
            corpus.write_text("".join(json.dumps(document) + "\n" for document in documents))
        meta = open_index(client, index, encoder, {}, None, table)
        prepare(index)
        report = Ingest(client, index, encoder, meta, corpus).run()
    assert report.ok
    assert report.indexed
    yield index
    client.indices.delete(index=index)
