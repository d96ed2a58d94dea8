"""The engine's BM25 scores: of latent terms, in a form that has a gradient, and of words.

active latents of tokens → pooled per text → counts or weights → scores of all pairs of texts

A count is rounded as it is indexed; its gradient is that of the number before rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.evaluation.probe import WORDS_B, WORDS_K1
from latent_ingest.connector.inspection.vocabulary import every_word
from latent_ingest.connector.training.pairs.reading import Pair
from latent_ingest.mappings import DEFAULT_B, DEFAULT_K1

# Keeps the gradient of the square root finite where a latent is not active at all.
SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class CollectionStatistics:
    """What BM25 knows of a collection; held while a model is tuned."""

    idf: torch.Tensor
    """Inverse document frequency, float32 `[n_latents]`; 0 for a latent that no document has."""
    average_length: float
    """Mean sum of a document's counts, over documents with any."""
    k1: float = DEFAULT_K1
    b: float = DEFAULT_B


def pooled_roots(
    acts: torch.Tensor, indices: torch.Tensor, text_of_token: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """Square roots of the activations summed per text and latent.

    `[n_tokens, k]`, `[n_tokens, k]`, `[n_tokens]` → `[n_texts, n_latents]`, which is `shape`.
    """
    n_texts, n_latents = shape
    keys = (text_of_token[:, None] * n_latents + indices).flatten()
    sums = acts.new_zeros(n_texts * n_latents).index_add(0, keys, acts.flatten())
    return torch.where(sums > 0, (sums + SMALLEST).sqrt(), 0.0).view(n_texts, n_latents)


def counts(roots: torch.Tensor) -> torch.Tensor:
    """Whole counts as they are indexed at scale 1, with the gradient of `roots`; shape kept."""
    return roots + (roots.round() - roots).detach()


def saturation(tf: torch.Tensor, statistics: CollectionStatistics) -> torch.Tensor:
    """BM25's `tf / (tf + k1 * (1 - b + b * length / average))`, `[n_documents, n_latents]`."""
    length = tf.sum(dim=1, keepdim=True)
    b = statistics.b
    norm = statistics.k1 * (1 - b + b * length / statistics.average_length)
    return tf / (tf + norm)


def scores(
    weights: torch.Tensor, tf: torch.Tensor, statistics: CollectionStatistics
) -> torch.Tensor:
    """Scores of documents for questions, `[n_questions, n_documents]`.

    That is the sum over latents of weight, idf and saturation, without the factor k1 + 1: what an
    engine gives for `weights` of questions, `[n_questions, n_latents]`, and indexed counts `tf` of
    documents, `[n_documents, n_latents]`.
    """
    return (weights * statistics.idf) @ saturation(tf, statistics).T


def expected_postings(weights: torch.Tensor, tf: torch.Tensor) -> torch.Tensor:
    """A smooth form of the postings a question touches per document (the FLOPS family), `[]`.

    Sum over latents of how present each is in questions, times how present in documents. Presence
    is `w / (w + 1/2)`: half of it at the count that is just rounded up.
    """
    present = [(side / (side + 0.5)).mean(dim=0) for side in (weights, tf)]
    return (present[0] * present[1]).sum()


@torch.no_grad()
def postings(weights: torch.Tensor, tf: torch.Tensor) -> float:
    """Postings that a question touches per document, counted: its latents that a document has."""
    touched = (weights > 0).float().mean(dim=0) * (tf > 0).float().mean(dim=0)
    return float(touched.sum())


class WordScores:
    """BM25 of words between the texts of pairs, which stands beside latent terms in hybrid queries.

    With it in the score, latents learn what words do not find. Words are lower-cased, not stemmed.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._questions = [list(every_word(pair.question)) for pair in pairs]
        self._documents = [Counter(every_word(pair.document)) for pair in pairs]
        df = Counter(word for document in self._documents for word in document)
        idf = inverse_document_frequency(len(pairs), np.array(list(df.values())))
        self._idf = dict(zip(df, idf.tolist(), strict=True))
        lengths = np.array([document.total() for document in self._documents])
        average = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
        self._norms = WORDS_K1 * (1 - WORDS_B + WORDS_B * lengths / average)

    def of(self, questions: Sequence[int], documents: Sequence[int]) -> torch.Tensor:
        """Scores of the documents of some pairs for the questions of some, by their numbers.

        float32 `[n_questions, n_documents]`.
        """
        return torch.tensor(
            [[self._score(asked, found) for found in documents] for asked in questions]
        )

    def _score(self, asked: int, found: int) -> float:
        document, norm = self._documents[found], self._norms[found]
        counted = ((word, document[word]) for word in self._questions[asked] if word in document)
        return float(sum(self._idf[word] * tf / (tf + norm) for word, tf in counted))
