"""Settings of a run that tunes an encoder on pairs."""

from __future__ import annotations

from dataclasses import dataclass

from latent_ingest.connector.errors import InputError


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Settings of a run on pairs."""

    batch: int = 48
    """Pairs per step; each document is a negative for all other questions of its batch."""
    negatives: int = 2
    """Further documents for each question, from those that the model ranks highest."""
    rounds: int = 1
    """Rounds over all pairs."""
    learning_rate: float = 5e-3
    rank: int = 16
    """Rank of the change of the encoder."""
    anchor: float = 1.0
    """Weight of the change of pre-activations, which keeps latents what they were."""
    cost: float = 1.0
    """Weight of the postings that a question is expected to touch. On 4,000 pairs, 0 left them as
    they were, .5 took 10 % on two other collections, 1 took 21 %, at no loss (docs/pairs.md)."""
    distil: float = 0.0
    """Weight of the difference from how a teacher ranks the documents: the backbone's cosine, or
    `teacher`."""
    teacher: str | None = None
    """Folder or hub name of a cross-encoder. It reads each question with its document and with its
    `negatives`, not with all documents of a batch."""
    words: bool = True
    """Whether the score has that of words, as in a hybrid query."""
    sharpness: float = 15.0
    """Mean score of the right documents before the first step, as the softmax sees it."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises; then it follows a cosine to zero."""
    max_gradient: float = 1.0
    """Norm that the gradient is clipped to."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch", 2), ("negatives", 0), ("rounds", 1), ("rank", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} {getattr(self, name)}: must be at least {least}")
        for name in ("anchor", "cost", "distil"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} {getattr(self, name)}: must be 0 or above")
        if self.teacher is not None and not self.distil:
            raise InputError(f"teacher {self.teacher}: its weight, distil, is 0; set it to 1 or so")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning rate {self.learning_rate}: must be above 0")

    def steps(self, n_pairs: int) -> int:
        """Number of optimization steps for so many pairs to train on."""
        return self.rounds * (n_pairs // self.batch)
