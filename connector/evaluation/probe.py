"""The probe: nDCG@10 of an autoencoder's latents on a small judged collection, in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.pooling import pool
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.rankings import DEPTH, batched, without_itself
from latent_ingest.connector.inspection.vocabulary import every_word

# Texts embedded, and texts pooled, at once.
TEXTS_AT_ONCE = 512

# BM25 of words, with the engines' defaults.
WORDS_K1, WORDS_B = 1.2, 0.75

Weighted = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Terms of a question and their weights, `[n]` each."""


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """Token embeddings of some texts in a temporary file."""

    tokens: np.memmap[Any, np.dtype[np.float16]]
    """float16 `[n_tokens, d_in]`, ordered by text."""
    bounds: NDArray[np.int64]
    """Text boundaries, `[n_texts + 1]`."""


class Probe:
    """Embeds a collection once; each measurement then costs only the autoencoder and BM25."""

    def __init__(
        self,
        collection: Collection,
        backbone: Backbone,
        on_progress: Callable[[int], object] = lambda done: None,
    ) -> None:
        """Embed documents and questions.

        Autoencoders will compute in the backbone's dtype, as in an encoder.

        Args:
            collection: a small one; its documents' embeddings take 2 x d_in bytes per token in the
                folder for temporary files.
            backbone: the backbone of the autoencoders to be measured.
            on_progress: called with the number of texts just embedded.
        """
        self.name = collection.name
        self._dtype = backbone.dtype
        self._qrels = collection.qrels
        self._queries = list(collection.queries)
        documents = list(collection.documents())
        self._ids = [document.id for document in documents]
        # Kept, since the folder is deleted together with this object.
        self._folder = tempfile.TemporaryDirectory(prefix="latent-ingest-probe-")
        folder = Path(self._folder.name)
        texts = [document.text for document in documents]
        asked = list(collection.queries.values())
        self._documents = embed(backbone, texts, "document", folder / "documents", on_progress)
        self._questions = embed(backbone, asked, "query", folder / "questions", on_progress)
        words = WordIndex(texts)
        self.words = self._ndcg(words.bm25, map(words.query, asked))
        """nDCG@10 of lower-cased words, not stemmed."""

    @torch.no_grad()
    def ndcg(self, autoencoder: TokenAutoencoder) -> float:
        """nDCG@10 of an autoencoder's latents, at scale 1, with the index's k1 and b."""
        n_latents = autoencoder.config.n_latents
        with autoencoder.computing_in(self._dtype):
            documents = latents_of(autoencoder, self._documents)
            indices, values, offsets = latents_of(autoencoder, self._questions)
        bm25 = MemoryBM25(documents[0], terms.counts(documents[1]), documents[2], n_latents)
        weights = terms.weights(values)
        spans = [slice(start, end) for start, end in pairwise(offsets)]
        return self._ndcg(bm25, ((indices[span], weights[span]) for span in spans))

    def _ndcg(self, bm25: MemoryBM25, questions: Iterable[Weighted]) -> float:
        """nDCG@10 of questions, given as terms and their weights."""
        ranking = {
            query: without_itself(query, bm25.ranking(self._ids, *question, DEPTH))
            for query, question in zip(self._queries, questions, strict=True)
        }
        return mean_ndcg(self._qrels, ranking)


class WordIndex:
    """BM25 of lower-cased words, not stemmed, with the engines' default k1 and b."""

    def __init__(self, texts: list[str]) -> None:
        self._vocabulary: dict[str, int] = {}
        numbers = self._vocabulary
        rows = [
            np.unique(
                [numbers.setdefault(w, len(numbers)) for w in every_word(text)], return_counts=True
            )
            for text in texts
        ]
        self.bm25 = MemoryBM25(
            np.concatenate([row[0] for row in rows]).astype(np.int32),
            np.concatenate([row[1] for row in rows]).astype(np.int64),
            np.cumsum([0, *(len(row[0]) for row in rows)]),
            len(numbers),
            k1=WORDS_K1,
            b=WORDS_B,
        )

    def query(self, text: str) -> Weighted:
        """Numbers of the known words of a question, and their weights, 1."""
        known = [self._vocabulary[word] for word in every_word(text) if word in self._vocabulary]
        return np.array(known, dtype=np.int32), np.ones(len(known), dtype=np.float32)


def embed(
    backbone: Backbone,
    texts: list[str],
    kind: str,
    path: Path,
    on_progress: Callable[[int], object],
) -> EmbeddedTexts:
    """Token embeddings in the order of the texts, in a file."""
    lengths: list[int] = []
    with path.open("wb") as file:
        for chunk in batched(texts, TEXTS_AT_ONCE):
            rows = backbone.within_memory(partial(embeddings_of, backbone, chunk, kind))
            for row in rows:
                file.write(row.numpy().tobytes())
            lengths += [len(row) for row in rows]
            on_progress(len(chunk))
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shape = (int(bounds[-1]), backbone.d_in)
    return EmbeddedTexts(np.memmap(path, dtype=np.float16, mode="r", shape=shape), bounds)


def embeddings_of(backbone: Backbone, texts: Sequence[str], kind: str) -> list[torch.Tensor]:
    """Token embeddings of each text, of all its windows, float16 `[n_tokens, d_in]`, on the CPU."""
    parts: list[list[torch.Tensor]] = [[] for _ in texts]
    for batch in backbone.embed(texts, kind=kind, long="pool"):
        hidden = batch.hidden.to("cpu", torch.float16)
        windows = torch.split(hidden, batch.cu_seq_lens.diff().tolist())
        for position, window in zip(batch.positions, windows, strict=True):
            parts[position].append(window)
    return [torch.cat(part) for part in parts]


def latents_of(
    autoencoder: TokenAutoencoder, embedded: EmbeddedTexts
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """`indices`, `values` and `offsets` of the texts' sum-pooled latents, as in `LatentVectors`."""
    device = autoencoder.W_enc.device
    n_texts = len(embedded.bounds) - 1
    indices, values, sizes = [], [], []
    for first in range(0, n_texts, TEXTS_AT_ONCE):
        bounds = embedded.bounds[first : first + TEXTS_AT_ONCE + 1]
        hidden = torch.from_numpy(embedded.tokens[bounds[0] : bounds[-1]].copy()).to(device)
        latents = autoencoder.encode(hidden, cu_seq_lens=torch.from_numpy(bounds - bounds[0]))
        texts, latent, value = pool(latents, autoencoder.config.n_latents)
        indices.append(latent.cpu().numpy().astype(np.int32))
        values.append(value.cpu().numpy())
        sizes.append(np.bincount(texts.cpu().numpy(), minlength=len(bounds) - 1))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return np.concatenate(indices), np.concatenate(values), offsets
