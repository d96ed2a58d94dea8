"""Where a training run is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a run is."""

    step: int
    tokens: int
    normalized_mse: float
    """Of the last batch; 0 is perfect, 1 no better than the mean."""
    latents_a_token: float
    dead: int
    """Latents that have not fired for `dead_after` tokens."""
    step_tokens_per_second: float
    """Of the optimisation alone."""
    backbone_tokens_per_second: float
    """Of embedding, or of reading the cache."""
    probe: float | None = None
    """nDCG@10, where the probe was asked at this step."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a run ended."""

    tokens: int
    steps: int
    seconds: float
    """Of all its parts, where it was resumed."""
    normalized_mse: float
    """On tokens of the held-out texts."""
    held_out_tokens: int
    dead: int
    """Latents that did not fire in the last `dead_after` tokens of training."""
    skipped_lines: int
    """Lines that are no text or have none, as far as the texts were read."""
    duplicate_texts: int
    step_tokens_per_second: float
    backbone_tokens_per_second: float
    rounds: int = 0
    """Times that all texts were trained on to the end."""
    processes: int = 1
    probe: str | None = None
    """Name of the collection."""
    probe_words: float | None = None
    """nDCG@10 of its lower-cased words."""
    probe_curve: list[tuple[int, float]] = field(default_factory=list)
    """Tokens seen and nDCG@10 of latents."""
