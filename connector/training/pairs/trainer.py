"""Learning from pairs: a model and pairs → a change of its encoder → a new model folder.

pairs → token embeddings on disk → mined negatives → steps → the change folded in → model folder

While a run lasts, its checkpoint and embeddings are in `OUT.run/`; OUT appears, complete, at the
end.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.fingerprint import autoencoder_fingerprint
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.files import disk_errors
from latent_ingest.connector.training.checkpoint import load_checkpoint, save_checkpoint
from latent_ingest.connector.training.optimization import check_finite, rate
from latent_ingest.connector.training.pairs.cache import IF_FULL, TextCache
from latent_ingest.connector.training.pairs.config import PairConfig
from latent_ingest.connector.training.pairs.export import PairRun, write_tuned
from latent_ingest.connector.training.pairs.measures import (
    PairProgress,
    PairReport,
    encoded_after,
    encoded_before,
    last_of,
    measure,
)
from latent_ingest.connector.training.pairs.negatives import SAMPLED, Mined, mine
from latent_ingest.connector.training.pairs.objective import (
    Batch,
    PairLoss,
    PairObjective,
    hybrid,
)
from latent_ingest.connector.training.pairs.reading import Pair, Pairs
from latent_ingest.connector.training.pairs.score import WordScores
from latent_ingest.connector.training.pairs.teacher import CrossEncoder
from latent_ingest.connector.training.trainer import (
    CHECKPOINT,
    CHECKPOINT_SECONDS,
    check_place,
    run_folder,
)

# Documents in which the tuned model's document frequencies are counted.
COUNTED = 1000


@dataclass(eq=False)
class PairTrainer:
    """One run on pairs: `run`, then `write`.

    A run can be interrupted; another PairTrainer with the same settings and `resume` continues it.

    Raises:
        InputError: `out` exists, or a run was interrupted and `resume` is not set.
        ModelError: the teacher cannot be loaded, or is no cross-encoder.
    """

    model: LatentEncoder
    """The model to start from, loaded from its folder."""
    pairs: Pairs
    out: Path
    """Model folder to make."""
    config: PairConfig
    _: KW_ONLY
    cache: Path | None = None
    """Folder that keeps the token embeddings, for several runs on the same pairs."""
    resume: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    on_embedded: Callable[[int], None] = lambda texts: None
    """Called with the number of texts just embedded, of two for each pair."""
    on_step: Callable[[PairProgress], None] = lambda progress: None
    """Called after each step."""
    _stopped: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_place(self.out, resume=self.resume)
        if self.model.folder is None:
            raise InputError("the model has no folder to start from; load one")
        self._frozen = TokenAutoencoder.load(self.model.folder).requires_grad_(False)
        self._frozen.to(self.model.backbone.device)
        name = self.config.teacher
        self._teacher = CrossEncoder.load(name, self.model.backbone.device) if name else None
        self._steps = self.config.steps(self.pairs.n_training)

    @property
    def folder(self) -> Path:
        """Checkpoint and embeddings of the run while it lasts."""
        return run_folder(self.out)

    def stop(self) -> None:
        """End after the current step, with a checkpoint. Safe to call from a signal handler."""
        self._stopped = True

    def run(self) -> PairReport:
        """Tune, and measure before and after on the held-out pairs; then call `write`.

        Raises:
            InputError: the checkpoint is broken or of another run, or the disk is full.
            ModelError: the backbone or the teacher gives NaN, or the loss is not finite.
            KeyboardInterrupt: `stop` was called.
        """
        with disk_errors(self.folder, if_full=IF_FULL):
            self._prepare()
            self._take_steps()
        self._tuned = self._objective.change.folded(self._frozen)
        n = self.pairs.n_training
        groups = np.array(self.pairs.groups())[:, n:]
        right = (groups[:, :, None] == groups[:, None, :]).any(axis=0)
        held_out = len(self.pairs.every) - n
        before = measure(
            encoded_before(self._frozen, self._documents, n),
            encoded_before(self._frozen, self._questions, n),
            self._frozen.config.n_latents,
            right,
        )
        dtype = self.model.backbone.dtype
        # The same documents are measured on and counted, so they are encoded once.
        first = max(0, min(n, len(self.pairs.every) - COUNTED))
        self._counted = encoded_after(self._tuned, self._documents, first, dtype)
        after = measure(
            last_of(self._counted, held_out),
            encoded_after(self._tuned, self._questions, n, dtype),
            self._tuned.config.n_latents,
            right,
        )
        ends = self._curve[-max(1, len(self._curve) // 10) :]
        return PairReport(
            pairs=n,
            held_out=held_out,
            left_out=self.pairs.counts.left_out,
            steps=self._steps,
            seconds=time.monotonic() - self._began,
            contrast=float(np.mean(ends)),
            fingerprint="",
            before=before,
            after=after,
        )

    def write(self, report: PairReport, *, command: str = "", licence: str = "") -> PairReport:
        """After `run`: make the model folder, complete or not at all, and delete `self.folder`.

        Returns the report with the new fingerprint. The card states the command and the licence of
        the pairs.

        Raises:
            InputError: the disk is full; --resume continues from the end of the run.
        """
        folder = self.folder / "model"
        latents, _, offsets = self._counted
        found = np.bincount(latents, minlength=self._tuned.config.n_latents)
        frequencies = torch.from_numpy(found.astype(np.float32))
        with disk_errors(folder, if_full=IF_FULL):
            shutil.rmtree(folder, ignore_errors=True)
            report = write_tuned(
                folder,
                self._tuned,
                (frequencies, len(offsets) - 1),
                PairRun(self.model, self.pairs, self.config, report, command, licence),
            )
            folder.rename(self.out)
            shutil.rmtree(self.folder)
        return report

    def _prepare(self) -> None:
        """Embed what is missing, mine, and open the objective: new, or as the checkpoint has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        identity = {
            "settings": {**asdict(self.config), "from": autoencoder_fingerprint(self._frozen)},
            "backbone": self.model.backbone.fingerprint,
            "texts": self.pairs.fingerprint,
        }
        self._identity = identity
        path = self.folder / CHECKPOINT
        state = load_checkpoint(path, identity) if self.resume and path.exists() else None
        self._questions, self._documents = self._embed()
        self._began = time.monotonic() - (state["seconds"] if state else 0.0)
        """When a run without interruptions would have begun."""
        self._groups = self.pairs.groups()
        self._mined = Mined.of(state["mined"], self._frozen.W_enc.device) if state else self._mine()
        trained = self.pairs.every[: self.pairs.n_training]
        self._words = WordScores(trained) if self.config.words else None
        self._objective = PairObjective(
            self._frozen,
            self._mined.statistics,
            self._right_score(),
            self._mined.expected,
            self.config,
        ).to(self._frozen.W_enc.device)
        self._adam = torch.optim.AdamW(
            self._objective.parameters(), lr=self.config.learning_rate, weight_decay=0.0
        )
        self._step = 0
        self._curve: list[float] = []
        if state:
            self._objective.load_state_dict(state["objective"])
            self._adam.load_state_dict(state["adam"])
            self._step, self._curve = state["step"], state["curve"]

    def _embed(self) -> tuple[TextCache, TextCache]:
        model = self.model.fingerprint.digest + str(self.model.backbone.dtype)
        caches = []
        for kind, texts in (
            ("query", [pair.question for pair in self.pairs.every]),
            ("document", [pair.document for pair in self.pairs.every]),
        ):
            cache = TextCache(
                (self.cache or self.folder) / kind,
                self.model,
                self._frozen,
                kind=kind,
                identity=(model, self.pairs.fingerprint),
            )
            self.on_embedded(cache.state.n_texts)
            cache.fill(texts, self._embedded)
            caches.append(cache.open())
        return caches[0], caches[1]

    def _embedded(self, texts: int) -> None:
        self.on_embedded(texts)
        if self._stopped:
            raise KeyboardInterrupt

    def _mine(self) -> Mined:
        return mine(
            self._frozen, self._questions, self._documents, self._groups, self.pairs.n_training
        )

    def _right_score(self) -> float:
        """Mean score of the right documents before tuning."""
        latent = self._mined.positive_score
        if not self._words:
            return latent
        some = range(0, self.pairs.n_training, max(1, self.pairs.n_training // SAMPLED))
        words = torch.cat([self._words.of([i], [i]) for i in some]).mean()
        return float(hybrid(torch.tensor(latent), words))

    def _take_steps(self) -> None:
        """Take the remaining steps."""
        saved, kept = time.monotonic(), self._step
        for step in range(self._step + 1, self._steps + 1):
            try:
                loss = self._take_step(step)
            except ModelError as error:
                advice = f"; the checkpoint of step {kept} is kept, for --resume" if kept else ""
                raise ModelError(f"{error}{advice}") from error
            self._step = step
            self._curve.append(loss.contrast.item())
            due = time.monotonic() - saved > self.checkpoint_seconds
            if self._stopped or due or step == self._steps:
                self._save()
                saved, kept = time.monotonic(), step
            values = (loss.contrast, loss.anchor, loss.cost, loss.taught)
            self.on_step(PairProgress(step, self._steps, *(value.item() for value in values)))
            if self._stopped:
                raise KeyboardInterrupt

    def _take_step(self, step: int) -> PairLoss:
        config = self.config
        for group in self._adam.param_groups:
            group["lr"] = config.learning_rate * rate(step - 1, self._steps, config.warmup)
        self._adam.zero_grad()
        loss: PairLoss = self._objective(self._batch(step))
        check_finite(step, "the loss", loss.total)
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._objective.parameters(), config.max_gradient)
        check_finite(step, "the gradient's norm", norm)
        self._adam.step()
        return loss

    def _batch(self, step: int) -> Batch:
        """The batch of a step, the same whenever it is asked for."""
        config, n = self.config, self.pairs.n_training
        round_, place = divmod(step - 1, n // config.batch)
        order = np.random.default_rng([config.seed, round_]).permutation(n)
        chosen = order[place * config.batch : (place + 1) * config.batch].tolist()
        drawing = np.random.default_rng([config.seed, round_, place + 1])
        mined = self._mined.negatives[chosen].numpy()
        drawn = drawing.permuted(mined, axis=1)[:, : config.negatives]
        further = dict.fromkeys(int(i) for i in drawn.flat if i >= 0 and i not in set(chosen))
        documents = [*chosen, *further]
        asked_as, found_as = (np.array(numbers) for numbers in self._groups)
        related = (asked_as[chosen][:, None] == asked_as[documents]) | (
            found_as[chosen][:, None] == found_as[documents]
        )
        np.fill_diagonal(related, False)
        device = self._frozen.W_enc.device
        return Batch(
            self._questions.take(chosen, device),
            self._documents.take(documents, device),
            self._words.of(chosen, documents).to(device) if self._words else None,
            torch.from_numpy(related).to(device),
            self._taught(self._teacher, chosen, documents, drawn) if self._teacher else None,
        )

    def _taught(
        self,
        teacher: CrossEncoder,
        questions: list[int],
        documents: list[int],
        drawn: NDArray[np.int64],
    ) -> torch.Tensor:
        """The teacher's scores of each question's document and of those drawn for it.

        `[n_questions, n_documents]`, NaN elsewhere; texts are given by the numbers of their pairs.
        """
        every, column = self.pairs.every, {number: i for i, number in enumerate(documents)}
        asked = [
            (row, column[number])
            for row, (own, negatives) in enumerate(zip(questions, drawn.tolist(), strict=True))
            for number in dict.fromkeys((own, *negatives))
            if number >= 0
        ]
        read = [Pair(every[questions[r]].question, every[documents[c]].document) for r, c in asked]
        given = teacher.scores(read)
        taught = given.new_full((len(questions), len(documents)), float("nan"))
        taught[tuple(torch.tensor(asked).T)] = given
        return taught

    def _save(self) -> None:
        state = {
            "step": self._step,
            "seconds": time.monotonic() - self._began,
            "objective": self._objective.state_dict(),
            "adam": self._adam.state_dict(),
            "curve": self._curve,
            "mined": self._mined.state(),
        }
        save_checkpoint(self.folder / CHECKPOINT, self._identity, state)
