"""Training: texts → token embeddings → shuffled batches → autoencoder → model folder.

The recipe is that of arXiv 2605.29384 and its reproductions: no labels, no retrieval loss. While a
run lasts, its checkpoint and metrics are in `OUT.run/`; OUT itself appears, complete, at the end.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.files import disk_errors
from latent_ingest.connector.prefetch import give_back_memory
from latent_ingest.connector.training.card import RunSummary
from latent_ingest.connector.training.checkpoint import load_checkpoint, save_checkpoint
from latent_ingest.connector.training.config import TrainingConfig, check_memory
from latent_ingest.connector.training.distributed import ALONE, ProcessGroup
from latent_ingest.connector.training.embeddings import (
    CachedTokens,
    EmbeddingCache,
    TextTokens,
    TokenBatches,
)
from latent_ingest.connector.training.export import doubts, reconstruction_error, write_model
from latent_ingest.connector.training.metrics import (
    Metrics,
    Probe,
    Speed,
    TrainingProgress,
    TrainingReport,
)
from latent_ingest.connector.training.optimization import Optimization
from latent_ingest.connector.training.texts import TrainingTexts

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 180
IF_FULL = "make room and resume with --resume"

# Steps after which freed memory is given back; see `give_back_memory`.
GIVE_BACK_STEPS = 16

# Times that the probe is evaluated in a run, evenly spaced, the last step included.
PROBES = 8


@dataclass(eq=False)
class Trainer:
    """One training run: `run`, then `write`.

    A run can be interrupted; another Trainer with the same settings and `resume` continues it.

    Raises:
        InputError: `out` exists, a run was interrupted and `resume` is not set, memory is too
            small, or the batch cannot be divided evenly among the processes.
    """

    backbone: Backbone
    texts: TrainingTexts
    """Texts to train on; the first are held out."""
    out: Path
    """Model folder to make."""
    config: TrainingConfig
    _: KW_ONLY
    cache: Path | None = None
    """Folder that keeps the token embeddings, for several rounds or several runs."""
    resume: bool = False
    """Resume the run that left `out`.run behind; without a checkpoint, start from the beginning."""
    processes: ProcessGroup = ALONE
    """The processes that train together; only the first of them reports and writes."""
    probe: Probe | None = None
    """If set, evaluated `PROBES` times in the run."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between two checkpoints."""
    on_step: Callable[[TrainingProgress], None] = lambda progress: None
    """Called after each step."""
    on_cache: Callable[[int], None] = lambda tokens: None
    """Called with the number of tokens in the cache while it is filled."""
    _stopped: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_place(self.out, resume=self.resume)
        check_memory(self.config, self.backbone, self.processes.size)
        if self.config.batch_tokens % self.processes.size:
            raise InputError(
                f"a batch of {self.config.batch_tokens:,} tokens cannot be divided evenly among "
                f"{self.processes.size} processes; choose another --batch"
            )

    @property
    def folder(self) -> Path:
        """Checkpoint and metrics of the run while it lasts."""
        return run_folder(self.out)

    def stop(self) -> None:
        """End after the current step, with a checkpoint. Safe to call from a signal handler."""
        self._stopped = True

    def run(self) -> TrainingReport:
        """Train, and measure the result on the held-out texts; then call `write`.

        Raises:
            InputError: there is no text, the checkpoint is broken, or the disk is full.
            ModelError: the loss is not finite; the last good checkpoint is kept.
            KeyboardInterrupt: `stop` was called.
        """
        with disk_errors(self.folder, if_full=IF_FULL):
            self._prepare()
            self._take_steps()
        seconds = time.monotonic() - self._began
        if not self.cache:
            self._left_out = self.texts.skipped, self.texts.duplicates
        model = self._optimization.finished()
        mse, held_out_tokens = reconstruction_error(model, self.backbone, self._held_out)
        n = self.config.batch_tokens
        return TrainingReport(
            tokens=self.config.steps * n,
            steps=self.config.steps,
            seconds=seconds,
            normalized_mse=mse,
            held_out_tokens=held_out_tokens,
            dead=len(self._optimization.objective.dead),
            skipped_lines=self._left_out[0],
            duplicate_texts=self._left_out[1],
            step_tokens_per_second=self._stepping.tokens_per_second(n),
            backbone_tokens_per_second=self._embedding.tokens_per_second(n),
            rounds=self._source.rounds,
            processes=self.processes.size,
            probe=self.probe.name if self.probe else None,
            probe_words=self.probe.words if self.probe else None,
            probe_curve=self._curve,
        )

    def write(
        self,
        report: TrainingReport,
        *,
        command: str = "",
        licence: str = "",
        keep_decoder: bool = False,
        int8: bool = False,
    ) -> None:
        """After `run`: make the model folder, complete or not at all, and delete `self.folder`.

        The model card states the command and the licence of the texts. `keep_decoder` writes
        `W_dec`, too, which doubles the size; `int8` halves it, see `TokenAutoencoder.save`.

        Raises:
            InputError: the disk is full; --resume continues from the end of the run.
        """
        folder = self.folder / "model"
        with disk_errors(folder, if_full=IF_FULL):
            shutil.rmtree(folder, ignore_errors=True)
            latents = write_model(
                folder,
                self._optimization.finished(),
                self._held_out,
                RunSummary(self.config, report, self.texts, self.backbone, command, licence),
                metrics=self.folder,
                keep_decoder=keep_decoder,
                int8=int8,
            )
            folder.rename(self.out)
            shutil.rmtree(self.folder)
        for line in doubts(report, latents, self.config):
            log.warning("%s", line)

    def _prepare(self) -> None:
        """Open texts, batches and optimization: new ones, or as the checkpoint has them."""
        config, backbone = self.config, self.backbone
        rank, size = self.processes.rank, self.processes.size
        self._identity = {
            "settings": {**asdict(config), "processes": size},
            "backbone": backbone.fingerprint,
            "texts": self.texts.fingerprint,
        }
        path = self.folder / CHECKPOINT
        state = None
        if self.resume and path.exists():
            state = load_checkpoint(path, self._identity)
        elif self.resume and self.processes.first:
            held = f"what {self.cache} holds is used" if self.cache else "there is no --cache"
            log.info("%s: no checkpoint yet; training begins at the first step; %s", path, held)
        self._held_out = self.texts.held_out(config.held_out_texts)
        self._source = self._open_source(state)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._batches = TokenBatches(
            self._source,
            batch_tokens=config.batch_tokens // size,
            buffer_tokens=min(config.buffer_tokens, config.tokens),
            generator=torch.Generator().manual_seed(config.seed + rank),
            device=backbone.device,
            next=rank,
            step=size,
        )
        self._optimization = Optimization(backbone, config, self.processes)
        self._step = self._saved = 0
        self._curve: list[tuple[int, float]] = []
        if state:
            self._optimization.restore(state["optimization"])
            self._batches.restore(state["batches"][rank])
            self._step = self._saved = state["step"]
            self._curve = [tuple(point) for point in state["curve"]]
        else:
            self._optimization.initialize(self._batches.first())
        first = self.processes.first
        self._metrics = Metrics(self.folder, after_step=self._step) if first else None
        self._embedding, self._stepping = Speed(), Speed()
        self._began = time.monotonic() - (state["seconds"] if state else 0.0)
        """When a run without interruptions would have begun."""

    def _open_source(self, state: dict[str, Any] | None) -> TextTokens | CachedTokens:
        """The embeddings of a new run, or of the run that the checkpoint `state` belongs to."""
        held_out = frozenset(self._held_out)
        self._cached = state["cached"] if state else None
        if state and bool(self.cache) != bool(self._cached):
            advice = "with --cache; name it again" if self._cached else "without --cache; omit it"
            raise InputError(f"{self.folder}: the run was started {advice}")
        if not self.cache:
            return TextTokens(self.backbone, self.texts, held_out)
        if self.processes.first:
            cache = EmbeddingCache(self.cache, self.backbone, self.texts, held_out)
            cache.fill(max(self.config.tokens, self._cached or 0), self._show_cache)
        self.processes.wait()
        cache = EmbeddingCache(self.cache, self.backbone, self.texts, held_out)
        if not cache.state.tokens:
            raise InputError("the texts have no tokens to train on; name other texts")
        self._cached = self._cached or cache.state.tokens
        self._left_out = cache.state.skipped, cache.state.duplicates
        return CachedTokens(cache, self._cached, self.config.seed)

    def _show_cache(self, tokens: int) -> None:
        self.on_cache(tokens)
        if self._stopped:
            raise KeyboardInterrupt

    def _take_steps(self) -> None:
        """Take the remaining steps."""
        saved = time.monotonic()
        try:
            for step in range(self._step + 1, self.config.steps + 1):
                self._take_step(step)
                due = time.monotonic() - saved > self.checkpoint_seconds
                stopped, due = self.processes.any(self._stopped, due)
                # After the last step, too: measuring and writing take a while, and may fail.
                if stopped or due or step == self.config.steps:
                    self._save()
                    saved = time.monotonic()
                if stopped:
                    raise KeyboardInterrupt
        except ModelError as error:
            if self._saved:
                kept = f"; the checkpoint of step {self._saved} is kept, for --resume"
                raise ModelError(f"{error}{kept}") from error
            raise
        finally:
            if self._metrics:
                self._metrics.close()

    def _take_step(self, step: int) -> None:
        n = self.config.batch_tokens
        began = time.monotonic()
        hidden = next(self._batches)
        embedded = time.monotonic()
        loss = self._optimization.step(step, hidden)
        self._step = step
        self._embedding.add(embedded - began)
        if step % GIVE_BACK_STEPS == 0:
            give_back_memory()
        self._stepping.add(time.monotonic() - embedded)
        if not self._metrics:
            return
        probed = None
        if self.probe and step in probe_steps(self.config.steps):
            probed = self.probe.ndcg(self._optimization.finished())
            self._curve.append((step * n, probed))
        progress = TrainingProgress(
            step=step,
            tokens=step * n,
            normalized_mse=loss.normalized_mse.item(),
            latents_a_token=loss.latents_per_token.item(),
            dead=len(self._optimization.objective.dead),
            step_tokens_per_second=self._stepping.tokens_per_second(n),
            backbone_tokens_per_second=self._embedding.tokens_per_second(n),
            probe=probed,
        )
        self._metrics.add(progress, last=step == self.config.steps)
        self.on_step(progress)

    def _save(self) -> None:
        """Write the checkpoint, in the first process."""
        batches = self.processes.gather(self._batches.state())
        if batches:
            state = {
                "step": self._step,
                "seconds": time.monotonic() - self._began,
                "optimization": self._optimization.state(),
                "batches": batches,
                "cached": self._cached,
                "curve": self._curve,
            }
            save_checkpoint(self.folder / CHECKPOINT, self._identity, state)
        self.processes.wait()
        self._saved = self._step


def run_folder(out: Path) -> Path:
    """Folder of a run's checkpoint and metrics while it lasts."""
    return out.with_name(out.name + ".run")


def check_place(out: Path, *, resume: bool) -> None:
    """Raise InputError if `out` exists, or holds an interrupted run and `resume` is not set."""
    if out.exists():
        raise InputError(f"{out}: already exists; name another folder")
    if (run_folder(out) / CHECKPOINT).exists() and not resume:
        raise InputError(
            f"{run_folder(out)}: a run was interrupted here; continue it with --resume, or delete "
            f"the folder"
        )


def probe_steps(steps: int) -> set[int]:
    """Numbers of the steps after which the probe is evaluated."""
    return {round(steps * part / PROBES) for part in range(1, PROBES + 1)}
