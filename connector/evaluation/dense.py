"""The system dense: exact cosine of the backbone's own vectors, which are cached on disk."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.rankings import HITS, Ranking, Tick, batched, measured

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.backbone import Backbone

# Documents embedded and written at once, and vectors compared with all questions at once.
EMBED_DOCUMENTS = 512
COMPARE_DOCUMENTS = 8192


def rank_by_dense(collection: Collection, backbone: Backbone, cache: Path, tick: Tick) -> Ranking:
    """Rank all documents of the corpus by the cosine with each question.

    Raises:
        InputError: the collection has no corpus, or the cache cannot be written.
    """
    import torch

    queries = list(collection.queries)
    asked = backbone.text_vectors([collection.queries[q] for q in queries], kind="query")
    vectors = document_vectors(collection, backbone, cache, tick)
    scores, places = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(vectors), COMPARE_DOCUMENTS):
        part = torch.from_numpy(vectors[start : start + COMPARE_DOCUMENTS].astype(np.float32))
        here = torch.arange(start, start + len(part)).expand(len(queries), -1)
        scores = torch.cat([scores, asked @ part.T], dim=1)
        scores, best = scores.topk(min(HITS, scores.shape[1]), dim=1)
        places = torch.cat([places, here], dim=1).gather(1, best)
    ids = collection.contents.ids
    ranking: Ranking = {}
    for query, row, values in zip(queries, places.tolist(), scores.tolist(), strict=True):
        hits = {ids[place]: value for place, value in zip(row, values, strict=True)}
        ranking[query] = measured(query, hits)
    return ranking


def document_vectors(
    collection: Collection, backbone: Backbone, cache: Path, tick: Tick
) -> NDArray[np.float16]:
    """Return unit vectors of all documents, float16 `[n_documents, d_in]`, memory-mapped.

    Vectors missing from the cache are embedded; an interrupted run resumes. Each row is written at
    its own offset, so two processes may embed the same collection at once.

    Raises:
        InputError: the cache cannot be written.
    """
    n_documents = len(collection.contents.ids)
    row_bytes = 2 * backbone.d_in
    path = cache / "dense" / f"{collection.name}-{key(collection, backbone)}.f16"
    part = path.with_suffix(".part")
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            done = min(part.stat().st_size // row_bytes, n_documents)
            tick(done)
            with part.open("r+b") as file:
                file.seek(done * row_bytes)
                for batch in batched(islice(collection.documents(), done, None), EMBED_DOCUMENTS):
                    found = backbone.text_vectors([document.text for document in batch])
                    file.write(found.numpy().astype(np.float16).tobytes())
                    file.flush()
                    tick(len(batch))
            with suppress(FileNotFoundError):  # another process was faster
                part.replace(path)
        else:
            tick(n_documents)
        shape = (n_documents, backbone.d_in)
        vectors: NDArray[np.float16] = np.memmap(path, dtype=np.float16, mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; name another folder with --cache") from error
    return vectors


def key(collection: Collection, backbone: Backbone) -> str:
    """Hash everything that the vectors depend on; 24 hexadecimal digits."""
    parts: list[Any] = [
        collection.contents.digest,
        backbone.fingerprint,
        str(backbone.dtype),
        backbone.prompts.get("document", ""),
        backbone.max_tokens,
        *([backbone.pooling] if backbone.pooling != "mean" else []),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
