"""Small runs on real text: they learn, survive interruption, and end with a model."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.inspection.vocabulary import Frequencies
from latent_ingest.connector.training import optimization
from latent_ingest.connector.training import trainer as trainer_module
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.embeddings import embedded
from latent_ingest.connector.training.export import doubts
from latent_ingest.connector.training.metrics import TrainingProgress
from latent_ingest.connector.training.optimization import rate
from latent_ingest.connector.training.texts import Source, TrainingTexts
from latent_ingest.connector.training.trainer import Trainer

SMALL = TrainingConfig(
    n_latents=512,
    k=8,
    tokens=8000,
    batch_tokens=500,
    buffer_tokens=2000,
    held_out_texts=8,
    learning_rate=1e-2,
    dead_after=2000,
)

Start = Callable[..., Trainer]


@pytest.fixture
def start(backbone: Backbone, corpus: Path, tmp_path: Path) -> Start:
    def make(name: str, config: TrainingConfig = SMALL, **options: Any) -> Trainer:
        texts = TrainingTexts([Source(str(corpus))], seed=config.seed)
        return Trainer(options.pop("backbone", backbone), texts, tmp_path / name, config, **options)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(TokenAutoencoder.load(folder).state_dict())


def same(a: Path, b: Path) -> bool:
    return equal(weights(a), weights(b))


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def optimised(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything a run has learned, including AdamW's moments, in float32."""
    state = trainer._optimization.state()
    moments = {
        f"{number} {name}": tensor
        for number, of_one in state["adam"]["state"].items()
        for name, tensor in of_one.items()
    }
    assert len(moments) >= 12
    return {**state["objective"], **moments}


def test_freed_memory_is_given_back_now_and_then(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back_after: list[int] = []
    steps: list[TrainingProgress] = []
    monkeypatch.setattr(
        trainer_module, "give_back_memory", lambda: given_back_after.append(len(steps) + 1)
    )
    start("model", dataclasses.replace(SMALL, tokens=17_500), on_step=steps.append).run()
    assert len(steps) == 35
    assert given_back_after == [16, 32]


def test_a_run_learns_and_its_folder_is_a_model(start: Start, tmp_path: Path) -> None:
    steps: list[TrainingProgress] = []
    config = dataclasses.replace(SMALL, learning_rate=3e-3)
    trainer = start("model", config, on_step=steps.append)
    report = trainer.run()
    trainer.write(report, command="the command", licence="CC0", keep_decoder=True)
    assert (report.tokens, report.steps) == (8000, 16)
    assert [step.step for step in steps] == list(range(1, 17))
    one_step = start("one-step", dataclasses.replace(config, tokens=500)).run()
    assert report.normalized_mse < 0.9 * one_step.normalized_mse, one_step
    assert report.held_out_tokens > 50
    out = tmp_path / "model"
    assert not (tmp_path / "model.run").exists()
    assert {path.name for path in out.iterdir()} == {
        "config.json", "model.safetensors", "README.md", "about.json", "metrics.jsonl",
        "rank-frequency.png", "learning-curve.png", "document-frequency.png",
        "modules.json", "config_sentence_transformers.json", "2_SparseTokenPooling",
    }  # fmt: skip
    card = (out / "README.md").read_text()
    for fact in ("8,000 in 16 steps", "`the command`", "CC0", f"{report.normalized_mse:.4f}"):
        assert fact in card
    encoder = LatentEncoder.load(out, device="cpu", dtype="float32")
    assert len(encoder.encode(["Return a list of paths matching a pathname pattern."]).indices) > 8
    assert encoder.idf().std() > 0
    assert weights(out)["W_dec"].norm(dim=1).tolist() == pytest.approx([1.0] * 512, abs=1e-2)
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["step"] == 1
    assert metrics[-1]["tokens"] == 8000
    with pytest.raises(InputError, match="already exists"):
        start("model")


def test_the_same_seed_gives_the_same_weights(start: Start, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer = start(name, dataclasses.replace(SMALL, tokens=2000, seed=seed))
        trainer.write(trainer.run())
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize(
    ("cached", "activation"),
    [
        (False, "topk"),
        (True, "batchtopk"),
        *(
            pytest.param(cached, activation, marks=pytest.mark.slow)
            for cached, activation in [
                (False, "batchtopk"), (False, "jumprelu"), (True, "topk"), (True, "jumprelu"),
            ]
        ),
    ],
)  # fmt: skip
def test_an_interrupted_run_ends_with_the_same_weights(
    start: Start, tmp_path: Path, activation: str, cached: bool
) -> None:
    """Bit for bit, on the CPU in float32; interrupted at a checkpoint, then killed later."""
    config = dataclasses.replace(SMALL, tokens=6000, activation=activation, multi_k=cached)
    cache = tmp_path / "cache" if cached else None
    whole = start("whole", config, cache=cache)
    report = whole.run()
    learned = optimised(whole)
    whole.write(report)

    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == 5:
            cut.stop()

    cut = start("cut", config, cache=cache, on_step=interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    with pytest.raises(InputError, match="a run was interrupted here; continue it with --resume"):
        start("cut", config, cache=cache)
    with pytest.raises(
        InputError, match="started with --cache; name it" if cached else "started without --cache"
    ):
        start("cut", config, cache=None if cached else tmp_path / "cache", resume=True).run()
    if cached:  # meanwhile, a run that needs more tokens adds to the cache
        other = start("other", dataclasses.replace(config, tokens=12_000), cache=cache)
        other.stop()
        with pytest.raises(KeyboardInterrupt):
            other.run()

    def die(progress: TrainingProgress) -> None:
        """Like kill -9: nothing is saved after the last checkpoint."""
        if progress.step == 9:
            raise RuntimeError("killed")

    killed = start("cut", config, cache=cache, resume=True, on_step=die)
    with pytest.raises(RuntimeError, match="killed"):
        killed.run()
    with (tmp_path / "cut.run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "tok')  # as on a full disk
    again = start("cut", config, cache=cache, resume=True)
    report = again.run()
    assert report.steps == 12
    assert equal(learned, optimised(again))
    again.write(report)
    assert same(tmp_path / "whole", tmp_path / "cut")
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(set(steps))


def interrupted(start: Start, config: TrainingConfig = SMALL) -> None:
    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == 2:
            trainer.stop()

    trainer = start("m", config, on_step=interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


def test_a_checkpoint_of_another_run_is_refused(start: Start, tmp_path: Path) -> None:
    interrupted(start)
    other = start("m", dataclasses.replace(SMALL, k=4), resume=True)
    with pytest.raises(
        InputError, match="was started with k 8, not 4; resume with the same command"
    ):
        other.run()
    path = tmp_path / "m.run" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"checkpoint.pt: broken \(.*\); delete it"):
        start("m", resume=True).run()


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_that_was_cut_before_its_first_checkpoint_begins_again(
    start: Start, tmp_path: Path, cached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With --resume and without; what was embedded before is used, and the run says so."""
    config = dataclasses.replace(SMALL, tokens=2000)
    cache = tmp_path / "cache" if cached else None
    whole = start("whole", config)
    whole.write(whole.run())

    def die(_: object) -> None:
        raise RuntimeError("killed")

    held: list[int] = []
    for name in ("resumed", "repeated"):
        cut = start(name, config, cache=cache, on_step=die, on_cache=die if cached else held.append)
        with pytest.raises(RuntimeError, match="killed"):
            cut.run()
        assert not (tmp_path / f"{name}.run" / "checkpoint.pt").exists()
    if cached:
        held.append(json.loads((tmp_path / "cache" / "cache.json").read_text())["tokens"])
        assert held[0] > 0
    with caplog.at_level(logging.INFO):
        again = start("resumed", config, cache=cache, resume=True, on_cache=held.append)
        again.write(again.run())
    assert "no checkpoint yet; training begins at the first step" in caplog.text
    assert ("what " + str(cache) in caplog.text) == cached
    if cached:
        assert held[1] > held[0]
    else:
        assert same(tmp_path / "whole", tmp_path / "resumed")
    caplog.clear()
    repeated = start("repeated", config, cache=cache)
    repeated.write(repeated.run())
    assert "checkpoint" not in caplog.text
    assert same(tmp_path / "resumed", tmp_path / "repeated")


def test_a_full_disk_leaves_the_checkpoint_before_whole(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(start)
    before = (tmp_path / "m.run" / "checkpoint.pt").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill_disk(_progress: TrainingProgress) -> None:
        monkeypatch.setattr("os.fsync", full)

    trainer = start("m", resume=True, checkpoint_seconds=0.0, on_step=fill_disk)
    with pytest.raises(InputError, match="the disk is full; the previous checkpoint is complete"):
        trainer.run()
    assert (tmp_path / "m.run" / "checkpoint.pt").read_bytes() == before
    assert {path.name for path in (tmp_path / "m.run").iterdir()} == {
        "checkpoint.pt", "metrics.jsonl",
    }  # fmt: skip
    monkeypatch.undo()
    again = start("m", resume=True)
    report = again.run()
    assert report.steps == 16
    monkeypatch.setattr("shutil.copy", lambda *_: full(0))
    with pytest.raises(InputError, match="the disk is full; make room and resume with --resume"):
        again.write(report)
    assert not (tmp_path / "m").exists()
    monkeypatch.undo()

    def no_room(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("latent_ingest.connector.encoding.autoencoder.save_file", no_room)
    with pytest.raises(InputError, match="the disk is full; make room and resume with --resume"):
        again.write(report)
    assert not (tmp_path / "m").exists()
    monkeypatch.undo()
    steps: list[TrainingProgress] = []
    last = start("m", resume=True, on_step=steps.append)
    last.write(last.run())
    assert not steps
    assert (tmp_path / "m" / "model.safetensors").is_file()


def test_out_of_memory_halves_the_batch_and_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "latent_ingest")
    real = optimization.Objective.forward

    def small_machine(self: Any, hidden: torch.Tensor) -> Any:
        if self.training and len(hidden) > 130:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, hidden)

    monkeypatch.setattr(optimization.Objective, "forward", small_machine)
    report = start("m", dataclasses.replace(SMALL, tokens=2000)).run()
    assert caplog.messages == [
        f"out of memory: continuing with {n} tokens per pass" for n in (250, 125)
    ]
    assert report.steps == 4


def test_gradients_of_halves_are_those_of_the_whole(backbone: Backbone, corpus: Path) -> None:
    """Except for the variance, which each half has its own of."""
    texts = list(TrainingTexts([Source(str(corpus))]).round())[:30]
    hidden = embedded(backbone, texts)[:601]
    hidden = hidden[torch.randperm(601, generator=torch.Generator().manual_seed(0))]
    found = []
    for tokens_at_once in (601, 300):
        optimization_ = optimization.Optimization(backbone, SMALL)
        optimization_._micro_tokens = tokens_at_once
        optimization_.autoencoder.data_mean = hidden.mean(dim=0)
        loss = optimization_._backward(hidden)
        found.append((loss, optimization_.autoencoder.W_enc.grad))
    (whole, gradient), (parts, other) = found
    assert gradient is not None
    assert other is not None
    assert (gradient - other).norm() < 0.1 * gradient.norm()
    assert parts.normalized_mse == pytest.approx(float(whole.normalized_mse), rel=0.02)


def test_the_probe_is_asked_about_the_model_that_is_saved(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the thresholds that BatchTopK and JumpReLU end with."""

    class Recorder:
        name, words = "recorder", 0.5
        seen: ClassVar[list[dict[str, torch.Tensor]]] = []

        def ndcg(self, autoencoder: TokenAutoencoder) -> float:
            self.seen.append({n: t.clone() for n, t in autoencoder.state_dict().items()})
            return 0.25

    config = dataclasses.replace(SMALL, tokens=2000, activation="batchtopk")
    trainer = start("m", config)
    trainer.probe = Recorder()
    trainer.write(trainer.run(), keep_decoder=True)
    stored = weights(tmp_path / "m")
    assert len(Recorder.seen) == 4
    for name, tensor in Recorder.seen[-1].items():
        torch.testing.assert_close(tensor, stored[name], atol=2e-3, rtol=1e-3)
    assert "theta" in stored
    assert "| 2,000 | 0.2500 |" in (tmp_path / "m" / "README.md").read_text()
    assert any(
        record.levelname == "WARNING"
        and record.getMessage().startswith("latents reach nDCG@10 0.2500 on recorder")
        for record in caplog.records
    )


def test_doubts_about_a_vocabulary_are_said(start: Start) -> None:
    trainer = start("m", dataclasses.replace(SMALL, tokens=500))
    report = dataclasses.replace(trainer.run(), rounds=12, dead=52)
    flat = Frequencies.of(np.random.default_rng(0).integers(1, 9, 500))
    assert flat.r2 < 0.9
    lines = doubts(report, dataclasses.replace(flat, r2=0.3), SMALL)
    assert [line[:31] for line in lines] == [
        "52 of 512 latents are dead; use",
        "document frequencies are far fr",
        "all texts were trained on 12 ti",
    ]
    good = dataclasses.replace(report, rounds=2, dead=51), dataclasses.replace(flat, r2=0.9)
    assert doubts(*good, SMALL) == []


def test_texts_that_are_too_few_are_said(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"text": "the only text"}\n')
    for cache in (None, tmp_path / "cache"):
        texts = TrainingTexts([Source(str(path))])
        trainer = Trainer(backbone, texts, tmp_path / "m", SMALL, cache=cache)
        with pytest.raises(InputError, match="the only text is held out to measure on; name more"):
            trainer.run()


def test_a_run_that_its_cache_refuses_leaves_no_folder(start: Start, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "notes.txt").touch()
    with pytest.raises(InputError, match=r"has other files but no cache\.json"):
        start("m", cache=cache).run()
    assert [path.name for path in tmp_path.glob("m*")] == []


def test_more_latents_than_memory_are_refused_beforehand(start: Start) -> None:
    config = dataclasses.replace(SMALL, n_latents=2_000_000_000)
    with pytest.raises(
        InputError,
        match=r"2,000,000,000 latents and a batch of [\d,]+ tokens take about [\d,.]+ GB",
    ):
        start("m", config)


def test_a_loss_that_is_not_finite_ends_with_the_step_and_no_model(
    start: Start, tmp_path: Path
) -> None:
    broken = Backbone.load(device="cpu", dtype="float32")
    broken._model.embeddings.word_embeddings.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="step 1: the loss is nan; try --dtype float32"):
        start("m", backbone=broken).run()
    assert not (tmp_path / "m").exists()


def test_a_gradient_that_is_not_finite_leaves_the_checkpoint_before(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(start)
    real = optimization.Objective.forward

    def bad(self: Any, hidden: torch.Tensor) -> Any:
        loss = real(self, hidden)
        root = (0 * self.autoencoder.W_enc).sum().sqrt()  # 0, and its gradient is not a number
        return dataclasses.replace(loss, total=loss.total + root)

    monkeypatch.setattr(optimization.Objective, "forward", bad)
    with pytest.raises(
        ModelError,
        match=r"step 3: the gradient's norm is nan; .*; the checkpoint of step 2 is kept",
    ):
        start("m", resume=True).run()
    monkeypatch.undo()
    slower = dataclasses.replace(SMALL, learning_rate=5e-3)
    assert start("m", slower, resume=True).run().steps == 16


@pytest.mark.slow
def test_batchtopk_and_jumprelu_come_near_k_latents_per_token(start: Start, tmp_path: Path) -> None:
    """The saved model, which has only thresholds, stays within a third of k."""
    for activation in ("batchtopk", "jumprelu"):
        steps: list[TrainingProgress] = []
        trainer = start(
            activation, dataclasses.replace(SMALL, activation=activation), on_step=steps.append
        )
        trainer.write(trainer.run())
        assert steps[-1].latents_a_token == pytest.approx(8, rel=0.33)
        encoder = LatentEncoder.load(tmp_path / activation, device="cpu", dtype="float32")
        assert encoder._autoencoder.config.variant == "jumprelu"
        (batch,) = encoder.backbone.embed(["Return a list of paths matching a pathname pattern."])
        latents = encoder._autoencoder.encode(batch.hidden)
        assert 3 < (latents.top_acts > 0).sum(dim=1).float().mean() < 20


def test_the_learning_rate_climbs_and_falls() -> None:
    rates = [rate(step, 100, 0.05) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a >= b for a, b in pairwise(rates[4:]))
    assert rates[-1] < 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 100}, "fewer than one batch, 4096"),
        ({"k": 20_000}, "must be 1 to the number"),
        ({"activation": "softmax"}, "use topk, batchtopk, jumprelu"),
        ({"learning_rate": 0.0}, "must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingConfig(**settings)
