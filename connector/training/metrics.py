"""What a run shows of itself: metrics.jsonl, TensorBoard where it is installed, and speeds.

Where a training run is, and how it ended.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latent_ingest.connector.training.files import write_atomically

# Steps between two lines.
STEPS = 10

SCALARS = ("normalized_mse", "latents_a_token", "dead", "step_tokens_per_second", "probe")


class Metrics:
    """A line of JSON every few steps; `tensorboard/` beside it shows the same."""

    def __init__(self, folder: Path, *, after_step: int) -> None:
        """Go on after a step; lines beyond it are of a run that was killed, and go."""
        self.path = folder / "metrics.jsonl"
        old = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        kept = [line for line in old if step_of(line) <= after_step]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept).encode())
        self._board = open_board(folder / "tensorboard", after_step)

    def note(self, progress: TrainingProgress, *, last: bool) -> None:
        """Write a line, every `STEPS` steps, when the probe was asked, and at the end."""
        if progress.step % STEPS and progress.step != 1 and progress.probe is None and not last:
            return
        content = asdict(progress)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
        if self._board is not None:
            for name in SCALARS:
                if content[name] is not None:
                    self._board.add_scalar(name, content[name], progress.tokens)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def step_of(line: str) -> float:
    """Of a line of metrics; infinite for one that was not written to its end."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def open_board(folder: Path, after_step: int) -> Any:
    """TensorBoard's writer, or none where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=after_step + 1)


class Speed:
    """Running mean of the seconds that a part of a step takes."""

    def __init__(self) -> None:
        self._seconds, self._count = 0.0, 0

    def add(self, seconds: float) -> None:
        self._count += 1
        # Most batches come from the buffer at once and some fill it, so over a hundred steps.
        self._seconds += (seconds - self._seconds) / min(self._count, 100)

    def tokens_per_second(self, tokens: int) -> float:
        """Where each step has `tokens`."""
        return tokens / max(self._seconds, 1e-9)


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
