"""The objective on pairs: the right document scores highest, latents stay, a question costs less.

tokens' candidates → change → the k strongest → pooled → the engine's score → softmax over documents
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.querying.scoring import LATENT_BOOST
from latent_ingest.connector.training.pairs.cache import Candidates
from latent_ingest.connector.training.pairs.change import EncoderChange
from latent_ingest.connector.training.pairs.config import PairConfig
from latent_ingest.connector.training.pairs.score import (
    CollectionStatistics,
    counts,
    expected_postings,
    pooled_roots,
    scores,
)

# Temperature of the backbone's cosine as a teacher: dense retrievers are trained at .02 to .05.
TEACHER_TEMPERATURE = 0.05

# Score that the softmax sees for documents that are neither right nor wrong.
LEFT_OUT = -1e9


class PairLoss(NamedTuple):
    """The parts of the loss of one batch, each `[]`."""

    total: torch.Tensor
    """To be minimized."""
    contrast: torch.Tensor
    """Cross-entropy of the right document among those of the batch."""
    anchor: torch.Tensor
    """Squared change of pre-activations relative to their square."""
    cost: torch.Tensor
    """Expected postings of a question per document, relative to those before tuning."""
    taught: torch.Tensor
    """Difference from the teacher's ranking (Kullback-Leibler divergence); 0 without a teacher."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions, and the documents that they are compared with."""

    questions: Candidates
    documents: Candidates
    """The right document of each question in order, then further ones."""
    words: torch.Tensor | None
    """Word scores of the documents, `[n_questions, n_documents]`; None if words do not count."""
    left_out: torch.Tensor
    """Documents that are no negatives of a question, bool `[n_questions, n_documents]`."""
    teacher: torch.Tensor | None = None
    """Scores of a cross-encoder, `[n_questions, n_documents]`, NaN where it was not asked."""


class PairObjective(nn.Module):
    """Loss of a change of an encoder."""

    def __init__(
        self,
        autoencoder: TokenAutoencoder,
        statistics: CollectionStatistics,
        positive_score: float,
        expected: float,
        config: PairConfig,
    ) -> None:
        """Start from no change.

        Args:
            autoencoder: frozen.
            statistics: of the documents of all pairs.
            positive_score: mean score of the right documents before tuning, of words too if
                these count.
            expected: `expected_postings` before tuning.
            config: weights of the parts, rank and seed of the change.
        """
        super().__init__()
        self.change = EncoderChange(autoencoder, config.rank, config.seed)
        # Biases are what makes latents rarer; without a weight on cost they fit the pairs by heart.
        self.change.bias.requires_grad_(config.cost > 0)
        self._autoencoder = [autoencoder]  # in a list, so that it is no part of this module
        self._statistics = statistics
        self._temperature = max(positive_score, 1e-6) / config.sharpness
        self._expected = max(expected, 1e-9)
        self._config = config

    def forward(self, batch: Batch) -> PairLoss:
        """The loss of a batch."""
        config = self._config
        asked, questions_moved = self.roots(batch.questions)
        found, documents_moved = self.roots(batch.documents)
        logits = scores(asked, counts(found), self._statistics)
        if batch.words is not None:
            logits = hybrid(logits, batch.words)
        logits = (logits / self._temperature).masked_fill(batch.left_out, LEFT_OUT)
        right = torch.arange(len(logits), device=logits.device)
        contrast = nn.functional.cross_entropy(logits, right)
        anchor = (questions_moved + documents_moved) / 2
        cost = expected_postings(asked, found) / self._expected
        total = contrast + config.anchor * anchor + config.cost * cost
        taught = torch.zeros_like(total)
        if config.distil:
            teacher = cosines(batch) if batch.teacher is None else batch.teacher
            taught = divergence(logits, teacher, batch.left_out | teacher.isnan())
            total = total + config.distil * taught
        return PairLoss(total, *(part.detach() for part in (contrast, anchor, cost, taught)))

    def roots(self, texts: Candidates) -> tuple[torch.Tensor, torch.Tensor]:
        """Roots of pooled activations, `[n_texts, n_latents]`, and the anchor's term, `[]`."""
        model = self._autoencoder[0]
        centred = model.normalize(texts.hidden) - model.b_pre
        pre = self.change(centred, texts.pre, texts.latents)
        if model.theta is not None:
            pre = pre * (pre > model.theta[texts.latents])
        top = pre.topk(min(model.config.k, pre.shape[1]), dim=1)
        roots = pooled_roots(
            top.values.relu(),
            texts.latents.gather(1, top.indices),
            texts.text_of_token,
            (texts.n_texts, model.config.n_latents),
        )
        squares = texts.pre.square().mean().clamp(min=1e-9)
        return roots, (pre - texts.pre).square().mean() / squares


def hybrid(latent: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Scores of a hybrid query."""
    return words + LATENT_BOOST * latent


def divergence(logits: torch.Tensor, teacher: torch.Tensor, left_out: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of two rankings of the documents that are not left out, `[]`.

    All are `[n_questions, n_documents]`; the mean over questions.
    """
    ours, theirs = (
        some.masked_fill(left_out, LEFT_OUT).log_softmax(dim=1) for some in (logits, teacher)
    )
    return nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def cosines(batch: Batch) -> torch.Tensor:
    """Cosines of mean token embeddings, over their temperature, `[n_questions, n_documents]`."""
    asked, found = (mean_vectors(texts) for texts in (batch.questions, batch.documents))
    return asked @ found.T / TEACHER_TEMPERATURE


def mean_vectors(texts: Candidates) -> torch.Tensor:
    """Mean token embedding of each text, of unit length, `[n_texts, d_in]`."""
    sums = texts.hidden.new_zeros(texts.n_texts, texts.hidden.shape[1])
    sums.index_add_(0, texts.text_of_token, texts.hidden)
    return nn.functional.normalize(sums, dim=1)
