"""BM25 of words between the texts of pairs: what stands beside latent terms in a hybrid query.

With it in the score, latents learn what words do not find by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.evaluation.probe import WORDS_B, WORDS_K1
from latent_ingest.connector.inspection.vocabulary import every_word
from latent_ingest.connector.training.pairs.reading import Pair


class WordScores:
    """Word scores of pairs' questions and documents; words are lower-cased, not stemmed."""

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
