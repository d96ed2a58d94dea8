"""texts → token embeddings → shuffled batches → autoencoder → model folder.

Source of the recipe: arXiv 2605.29384 and its reproductions; no labels, no retrieval loss. A run
leaves `OUT.run/` (checkpoint, metrics) while it lasts, and OUT, whole, when it ends.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.encoding.autoencoder import TOKENS_AT_ONCE, TokenAutoencoder, decode
from latent_ingest.connector.encoding.backbone import Backbone, find_folder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.frequencies import Frequencies, word_frequencies
from latent_ingest.connector.encoding.model_folder import write_modules
from latent_ingest.connector.encoding.projection import projection_paths
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.training.card import draw, write_card
from latent_ingest.connector.training.checkpoint import CheckpointFile, Identity
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.embeddings import (
    ActivationCache,
    CachedTokens,
    TextTokens,
    TokenBatches,
    blocks_of,
    embedded,
)
from latent_ingest.connector.training.files import disk_errors
from latent_ingest.connector.training.metrics import (
    Metrics,
    Speed,
    TrainingProgress,
    TrainingReport,
)
from latent_ingest.connector.training.optimization import Optimization
from latent_ingest.connector.training.probe import Probe
from latent_ingest.connector.training.processes import Processes
from latent_ingest.connector.training.texts import TrainingTexts

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 180
RESUME = "make room and go on with --resume"

# Times that the probe is asked in a run, evenly spaced, the end included.
PROBES = 8

# Document frequencies further from a line over logarithms than this are not those of a vocabulary:
# the model that ships has R2 .87, words .98. Random directions have .75, so a vocabulary is not
# proved by more than this.
ZIPF_R2 = 0.6

# Rounds over the same texts from which on more texts would do more good.
MANY_ROUNDS = 10


class Trainer:
    """One run; `run` can be interrupted and another object with the same settings goes on."""

    def __init__(
        self,
        backbone: Backbone,
        texts: TrainingTexts,
        out: Path,
        config: TrainingConfig,
        *,
        cache: Path | None = None,
        resume: bool = False,
        processes: Processes | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        on_step: Callable[[TrainingProgress], None] = lambda progress: None,
        on_cache: Callable[[int], None] = lambda tokens: None,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Prepare a run.

        Args:
            backbone: the frozen retriever.
            texts: what to train on; its first texts are held out.
            out: model folder to make.
            config: settings.
            cache: folder that keeps the token embeddings, for several rounds or several runs.
            resume: go on with the run that left `out`.run behind.
            processes: that train together; this one alone by default. Only the first of them
                reports and writes.
            checkpoint_seconds: between two checkpoints.
            on_step: called after each step.
            on_cache: called with the tokens in the cache while it is filled.
            warn: called with lines the user should see.

        Raises:
            InputError: `out` exists, a run was interrupted and `resume` is not set, memory is too
                small, or the batch cannot be shared out.
        """
        check_place(out, resume=resume)
        self.config = config
        self.out = out
        self.folder = run_folder(out)
        """Checkpoint and metrics of the run while it lasts."""
        self.probe: Probe | None = None
        """Asked for nDCG@10 now and then."""
        self._backbone = backbone
        self._texts = texts
        self._cache = cache
        self._resume = resume
        self._processes = processes or Processes()
        check_memory(config, backbone, self._processes.size)
        self._checkpoint_seconds = checkpoint_seconds
        self._on_step = on_step
        self._on_cache = on_cache
        self._warn = warn
        self._stopped = False
        if config.batch_tokens % self._processes.size:
            raise InputError(
                f"a batch of {config.batch_tokens:,} tokens cannot be shared out evenly to "
                f"{self._processes.size} processes; choose another --batch"
            )

    def stop(self) -> None:
        """End after the step in flight, with a checkpoint. Safe from a signal handler."""
        self._stopped = True

    def run(self) -> TrainingReport:
        """Train, and measure the result; `write` then makes the model folder.

        Raises:
            InputError: no text, a broken checkpoint, a full disk.
            ModelError: the loss is not finite; the last good checkpoint stays.
            KeyboardInterrupt: `stop` was called.
        """
        with disk_errors(self.folder, RESUME):
            self._prepare()
            seconds = self._every_step()
        if not self._cache:
            self._left_out = self._texts.skipped, self._texts.duplicates
        mse, held_out_tokens = self._measure()
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
            rounds=self._batches.rounds,
            processes=self._processes.size,
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
    ) -> None:
        """Make the model folder, whole or not at all, after `run`; the run's own folder goes.

        Args:
            report: what `run` returned.
            command: that started the run, for the card.
            licence: of the texts, for the card.
            keep_decoder: write `W_dec` too, twice the size.

        Raises:
            InputError: the disk is full; --resume goes on from the end of the run.
        """
        model = self._optimization.finished()
        latents = Frequencies.of(self._note_document_frequency(model))
        folder = self.folder / "model"
        with disk_errors(folder, RESUME):
            shutil.rmtree(folder, ignore_errors=True)
            model.save(folder, decoder=keep_decoder)
            self._describe(folder, model, report, latents, command=command, licence=licence)
            if (self.folder / "tensorboard").is_dir():
                (self.folder / "tensorboard").rename(folder / "tensorboard")
            folder.rename(self.out)
            shutil.rmtree(self.folder)
        for line in doubts(report, latents):
            self._warn(line)

    def _describe(
        self,
        folder: Path,
        model: TokenAutoencoder,
        report: TrainingReport,
        latents: Frequencies,
        *,
        command: str,
        licence: str,
    ) -> None:
        """Write what stands beside the weights."""
        words = word_frequencies(self._held_out)
        write_modules(
            folder,
            n_latents=self.config.n_latents,
            pooling=model.config.pooling,
            prompts=self._backbone.prompts,
            projections=projection_paths(find_folder(self._backbone.name)),
        )
        shutil.copy(self.folder / "metrics.jsonl", folder)
        pictures = draw(folder, report, latents, words)
        if not pictures:
            self._warn("no pictures: pip install 'latent-ingest[train]' brings matplotlib")
        text = write_card(
            self.config,
            report,
            self._texts,
            self._backbone,
            latents,
            words,
            command=command,
            licence=licence,
            pictures=pictures,
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    def _note_document_frequency(self, model: TokenAutoencoder) -> NDArray[np.int64]:
        """Count in how many held-out texts each latent is, `[n_latents]`, and let the model
        know."""
        with model.computing_in(self._backbone.dtype):
            encoder = LatentEncoder(self._backbone, model, name=self.out.name)
            vectors = encoder.encode(self._held_out)
        counts = np.bincount(vectors.indices, minlength=vectors.n_latents)
        model.document_frequency = torch.from_numpy(counts.astype(np.float32))
        model.config = dataclasses.replace(model.config, n_documents=len(self._held_out))
        return counts

    def _prepare(self) -> None:
        config, backbone = self.config, self._backbone
        settings = {**asdict(config), "processes": self._processes.size}
        identity = Identity(settings, backbone.fingerprint, self._texts.fingerprint)
        self._checkpoint = CheckpointFile(self.folder / CHECKPOINT, identity)
        state = self._checkpoint.load() if self._resume else None
        self._held_out = take_texts(self._texts, config.held_out_texts)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._batches = self._open_batches(state)
        self._optimization = Optimization(backbone, config, self._warn, self._processes)
        self._step, self._saved, self._seconds = 0, 0, 0.0
        self._curve: list[tuple[int, float]] = []
        if state:
            self._optimization.restore(state["optimization"])
            self._batches.restore(state["batches"][self._processes.rank])
            self._step = self._saved = state["step"]
            self._seconds = state["seconds"]
            self._curve = [tuple(point) for point in state["curve"]]
        self._metrics = (
            Metrics(self.folder, after_step=self._step) if self._processes.first else None
        )
        self._embedding, self._stepping = Speed(), Speed()

    def _every_step(self) -> float:
        """Take the steps that are left; returns the seconds of the whole run."""
        started = saved = time.monotonic()
        try:
            for step in range(self._step + 1, self.config.steps + 1):
                self._one_step(step)
                now = time.monotonic()
                stopped, due = self._processes.any(
                    self._stopped, now - saved > self._checkpoint_seconds
                )
                # The last one, too: what comes after it may fail, and takes a while.
                if stopped or due or step == self.config.steps:
                    self._save(now - started)
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
        return self._seconds + time.monotonic() - started

    @torch.no_grad()
    def _measure(self) -> tuple[float, int]:
        """Normalised MSE over all tokens of the held-out texts, and their number."""
        model = self._optimization.finished()
        assert model.W_dec is not None
        lost = total = 0.0
        n_tokens = 0
        with model.computing_in(self._backbone.dtype):
            for block in blocks_of(self._held_out):
                for hidden in torch.split(embedded(self._backbone, block), TOKENS_AT_ONCE):
                    x, found = model.normalize(hidden), model.encode(hidden)
                    decoded = decode(found.top_acts, found.top_indices, model.W_dec) + model.b_pre
                    lost += (x - decoded).square().sum().item()
                    total += (x - x.mean(dim=0)).square().sum().item()
                    n_tokens += len(hidden)
        return lost / max(total, 1e-9), n_tokens

    def _open_batches(self, state: dict[str, Any] | None) -> TokenBatches:
        """Those of a run from its beginning, or of the run that `state` is of."""
        config, held_out = self.config, frozenset(self._held_out)
        source: TextTokens | CachedTokens
        self._cached = state["cached"] if state else None
        if state and bool(self._cache) != bool(self._cached):
            begun = (
                "with --cache; name it again" if self._cached else "without --cache; leave it out"
            )
            raise InputError(f"{self.folder}: the run was begun {begun}")
        if self._cache:
            if self._processes.first:
                cache = ActivationCache(self._cache, self._backbone, self._texts, held_out)
                cache.fill(max(config.tokens, self._cached or 0), self._show_cache)
            self._processes.wait()
            cache = ActivationCache(self._cache, self._backbone, self._texts, held_out)
            if not cache.state.tokens:
                raise InputError("the texts have no tokens to train on; give others")
            self._cached = self._cached or cache.state.tokens
            source = CachedTokens(cache, self._cached, config.seed)
            self._left_out = cache.state.skipped, cache.state.duplicates
        else:
            source = TextTokens(self._backbone, self._texts, held_out)
        rank, size = self._processes.rank, self._processes.size
        return TokenBatches(
            source,
            batch_tokens=config.batch_tokens // size,
            buffer_tokens=min(config.buffer_tokens, config.tokens),
            generator=torch.Generator().manual_seed(config.seed + rank),
            device=self._backbone.device,
            first=rank,
            step=size,
        )

    def _show_cache(self, tokens: int) -> None:
        self._on_cache(tokens)
        if self._stopped:
            raise KeyboardInterrupt

    def _one_step(self, step: int) -> None:
        n = self.config.batch_tokens
        began = time.monotonic()
        hidden = next(self._batches)
        embedded = time.monotonic()
        loss = self._optimization.step(step, hidden)
        self._step = step
        self._embedding.add(embedded - began)
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
            latents_a_token=loss.latents_a_token.item(),
            dead=len(self._optimization.objective.dead),
            step_tokens_per_second=self._stepping.tokens_per_second(n),
            backbone_tokens_per_second=self._embedding.tokens_per_second(n),
            probe=probed,
        )
        self._metrics.note(progress, last=step == self.config.steps)
        self._on_step(progress)

    def _save(self, seconds: float) -> None:
        batches = self._processes.gather(self._batches.state())
        if batches:
            self._checkpoint.save(
                {
                    "step": self._step,
                    "seconds": self._seconds + seconds,
                    "optimization": self._optimization.state(),
                    "batches": batches,
                    "cached": self._cached,
                    "curve": self._curve,
                }
            )
        self._processes.wait()
        self._saved = self._step


def run_folder(out: Path) -> Path:
    """Where a run keeps what it needs, while it lasts."""
    return out.with_name(out.name + ".run")


def check_place(out: Path, *, resume: bool) -> None:
    """Raise InputError where a model is there already, or a run is not to be gone on with."""
    if out.exists():
        raise InputError(f"{out}: exists already; name another folder")
    if (run_folder(out) / CHECKPOINT).exists() and not resume:
        raise InputError(
            f"{run_folder(out)}: a run was interrupted here; go on with --resume, or delete it"
        )


def check_memory(config: TrainingConfig, backbone: Backbone, processes: int) -> None:
    """Raise InputError, with the figures, when a process of a run cannot fit into memory."""
    needed = config.memory(backbone.d_in, processes)
    if backbone.device.type == "cuda":
        there = torch.cuda.mem_get_info(backbone.device)[0]
    else:
        try:
            import psutil
        except ImportError:
            return
        there = psutil.virtual_memory().available
    if needed > there:
        raise InputError(
            f"{config.n_latents:,} latents and a batch of {config.batch_tokens:,} tokens take "
            f"about {needed / 1e9:,.1f} GB of memory, {there / 1e9:,.1f} GB are free; use fewer "
            f"--latents or a smaller --batch"
        )


def take_texts(texts: TrainingTexts, number: int) -> list[str]:
    """The first texts, at most a tenth of all; InputError where none would be left."""
    taken = list(islice(texts.round(), 10 * number))
    if len(taken) < 2:
        raise InputError("the only text is held out to measure on; give more texts")
    return taken[: min(number, max(1, len(taken) // 10))]


def probe_steps(steps: int) -> set[int]:
    """Steps after which the probe is asked."""
    return {round(steps * part / PROBES) for part in range(1, PROBES + 1)}


def doubts(report: TrainingReport, latents: Frequencies) -> list[str]:
    """What speaks against using the model, a line each."""
    lines = []
    if latents.r2 < ZIPF_R2:
        lines.append(
            f"warning: document frequencies are far from Zipfian (R2 {latents.r2:.2f}); backbones "
            f"without retrieval training do that"
        )
    if report.rounds >= MANY_ROUNDS:
        lines.append(
            f"warning: all texts were trained on {report.rounds:,} times; give more texts, or "
            f"fewer --tokens"
        )
    if report.probe_curve and report.probe_curve[-1][1] < (report.probe_words or 0):
        lines.append(
            f"warning: latents reach nDCG@10 {report.probe_curve[-1][1]:.4f} on {report.probe}, "
            f"its words alone {report.probe_words:.4f}; train on more tokens or other texts"
        )
    return lines
