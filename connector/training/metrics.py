"""Progress of a run (metrics.jsonl, TensorBoard if installed), its speed, and its final report."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.files import write_atomically

# Steps between two lines of metrics.jsonl.
STEPS = 10

SCALARS = ("normalized_mse", "latents_a_token", "dead", "step_tokens_per_second", "probe")


class Probe(Protocol):
    """Measures an autoencoder on a judged collection; see `evaluation.probe`."""

    name: str
    """Name of the collection."""
    words: float
    """nDCG@10 of the collection's lower-cased words."""

    def ndcg(self, autoencoder: TokenAutoencoder) -> float:
        """nDCG@10 of the autoencoder's latents."""
        ...


class Metrics:
    """Writes metrics.jsonl, a JSON object every few steps, and the same to `tensorboard/`."""

    def __init__(self, folder: Path, *, after_step: int) -> None:
        """Continue after a step; later lines, left by a run that was killed, are removed."""
        self.path = folder / "metrics.jsonl"
        old = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        kept = [line for line in old if step_of(line) <= after_step]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board: Any = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=after_step + 1)

    def add(self, progress: TrainingProgress, *, last: bool) -> None:
        """Write a line every `STEPS` steps, at the first and last step, and after each probe."""
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
    """The step in a line of metrics.jsonl; infinite for a line that was not written completely."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class Speed:
    """Running mean of the seconds that one part of a step takes."""

    def __init__(self) -> None:
        self._seconds, self._count = 0.0, 0

    def add(self, seconds: float) -> None:
        self._count += 1
        # Over a hundred steps, because only some steps refill the buffer and take long.
        self._seconds += (seconds - self._seconds) / min(self._count, 100)

    def tokens_per_second(self, tokens: int) -> float:
        """Speed if each step has `tokens` tokens."""
        return tokens / max(self._seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """State of a run after a step; its fields are the keys of metrics.jsonl."""

    step: int
    tokens: int
    normalized_mse: float
    """Normalized MSE of the last batch: 0 is perfect, 1 is no better than the mean."""
    latents_a_token: float
    """Mean number of active latents per token."""
    dead: int
    """Latents that were not active for `dead_after` tokens."""
    step_tokens_per_second: float
    """Speed of the optimization alone."""
    backbone_tokens_per_second: float
    """Speed of embedding, or of reading the cache."""
    probe: float | None = None
    """nDCG@10 of the probe; None if it was not evaluated at this step."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a run ended."""

    tokens: int
    steps: int
    seconds: float
    """Duration, summed over all parts of a resumed run."""
    normalized_mse: float
    """Normalized MSE on the tokens of the held-out texts."""
    held_out_tokens: int
    dead: int
    """Latents that were not active in the last `dead_after` tokens of training."""
    skipped_lines: int
    """Lines that are invalid or have no text, as far as the texts were read."""
    duplicate_texts: int
    step_tokens_per_second: float
    backbone_tokens_per_second: float
    rounds: int = 0
    """How many times all texts were trained on completely."""
    processes: int = 1
    probe: str | None = None
    """Name of the probe's collection."""
    probe_words: float | None = None
    """nDCG@10 of the collection's lower-cased words."""
    probe_curve: list[tuple[int, float]] = field(default_factory=list)
    """Tokens seen and nDCG@10 of the latents."""
