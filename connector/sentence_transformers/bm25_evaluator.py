"""An evaluator for sentence-transformers: the quality that an engine's BM25 will have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import scipy.sparse
from sentence_transformers.base.evaluation import BaseEvaluator
from tqdm import tqdm

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.measures import means, parse_measures, per_query
from latent_ingest.connector.evaluation.rankings import Ranking, batched
from latent_ingest.mappings import DEFAULT_B, DEFAULT_K1

# Texts encoded at once.
TEXTS_AT_ONCE = 512

# Documents per ranking.
DEPTH = 100


class LatentBM25Evaluator(BaseEvaluator):
    """Evaluates BM25 over latent counts and, for comparison, the dot product of the vectors.

    Counts and formula are those of an index made by `latent-ingest`. As in the library's own
    evaluators, a query and a document with the same id are unrelated; `latent-ingest evaluate`
    leaves such a document out, as some BEIR collections require.
    """

    def __init__(
        self,
        queries: Mapping[str, str],
        corpus: Mapping[str, str],
        relevant_docs: Mapping[str, Set[str] | Mapping[str, int]],
        *,
        measures: Sequence[str] = ("nDCG@10", "R@100"),
        k1: float = DEFAULT_K1,
        b: float = DEFAULT_B,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        name: str = "",
    ) -> None:
        """Hold a judged collection.

        Args:
            queries: id → text.
            corpus: id → text.
            relevant_docs: query id → ids of relevant documents, or id → grade; queries without an
                entry are left out.
            measures: names of ir-measures; the first is the primary metric.
            k1: of BM25.
            b: of BM25.
            batch_size: of encoding.
            show_progress_bar: while encoding.
            name: prefix of the names of the metrics.

        Raises:
            InputError: no query has a judgement, or a measure is unknown.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.qrels = {
            query: grades(relevant)
            for query, relevant in relevant_docs.items()
            if query in queries and relevant
        }
        if not self.qrels or not corpus:
            raise InputError("no query with a judgement, or no document: nothing to evaluate")
        self.queries = {query: queries[query] for query in self.qrels}
        self.corpus = corpus
        self.k1, self.b = k1, b
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar
        self.name = name
        self._measures = parse_measures(measures)
        self.primary_metric = f"bm25_{str(self._measures[0]).lower()}"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the means of the measures: `bm25_ndcg@10`, `dot_ndcg@10` and so on.

        `model` is a SparseEncoder whose embeddings are pooled activations; `epoch` and `steps` are
        for its card.
        """
        documents = self._encode(model.encode_document, list(self.corpus.values()), "documents")
        queries = self._encode(model.encode_query, list(self.queries.values()), "queries")
        bm25 = MemoryBM25(
            documents.indices,
            terms.counts(documents.data),
            documents.indptr.astype(np.int64),
            documents.shape[1],
            k1=self.k1,
            b=self.b,
            exact_lengths=False,
        )
        ids = list(self.corpus)
        rankings: dict[str, Ranking] = {"bm25": {}, "dot": {}}
        for query, asked in zip(self.queries, queries, strict=True):
            weights = terms.weights(asked.data)
            rankings["bm25"][query] = bm25.ranking(ids, asked.indices, weights, DEPTH)
            rankings["dot"][query] = best(ids, (documents @ asked.T).toarray().ravel(), DEPTH)
        metrics: dict[str, float] = {}
        for system, ranking in rankings.items():
            values = means(per_query(self.qrels, ranking, self._measures), self._measures)
            metrics |= {f"{system}_{name.lower()}": value for name, value in values.items()}
        metrics = self.prefix_name_to_metrics(metrics, self.name)
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"k1": self.k1, "b": self.b}

    def _encode(self, encode: Any, texts: list[str], what: str) -> scipy.sparse.csr_matrix:
        """Sparse vectors, `[n_texts, n_latents]`, with sorted columns."""
        blocks = []
        with tqdm(total=len(texts), desc=what, disable=not self.show_progress_bar) as bar:
            for chunk in batched(texts, TEXTS_AT_ONCE):
                vectors = encode(chunk, batch_size=self.batch_size, show_progress_bar=False)
                vectors = vectors.coalesce().cpu()
                places, values = vectors.indices().numpy(), vectors.values().float().numpy()
                blocks.append(scipy.sparse.csr_matrix((values, places), vectors.shape))
                bar.update(len(chunk))
        return scipy.sparse.vstack(blocks, format="csr", dtype=np.float32)


def grades(relevant: Set[str] | Mapping[str, int]) -> dict[str, int]:
    """Judgements of a query: document id → grade."""
    return dict(relevant) if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1)
