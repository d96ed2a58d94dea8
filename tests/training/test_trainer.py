"""Training texts, and a small run on real text."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.training.activations import token_batches
from latent_ingest.connector.training.texts import TrainingTexts
from latent_ingest.connector.training.trainer import (
    TrainingConfig,
    TrainingProgress,
    learning_rate,
    train,
)


def write(path: Path, *texts: str) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_files_are_drawn_from_in_turn_and_start_over(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", "a1", "a2", "a3")
    b = write(tmp_path / "b.jsonl", "b1", " ")
    texts = TrainingTexts([a, b])
    assert list(islice(texts, 6)) == ["a1", "b1", "a2", "a3", "a1", "b1"]
    assert (texts.rounds, texts.skipped) == (1, 1)


def test_files_without_text_end_instead_of_turning_for_ever(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no texts; fields read: title, text"):
        next(iter(TrainingTexts([write(tmp_path / "a.jsonl", "", " ")])))


def test_batches_hold_every_token_once_and_mix_texts(backbone: Backbone) -> None:
    texts = [f"text number {number} about something" for number in range(64)]
    (whole,) = ([b.hidden for b in backbone.embed(texts)],)
    every = torch.cat(whole)
    generator = torch.Generator().manual_seed(0)
    batches = list(
        token_batches(
            backbone, iter(texts), batch_tokens=32, buffer_tokens=128, generator=generator
        )
    )
    assert {len(batch) for batch in batches} == {32}
    got = torch.cat(batches)
    assert len(every) - 32 < len(got) <= len(every)
    # Each given token is one of the embedded ones, and none is given twice.
    distance = torch.cdist(got, every, compute_mode="donot_use_mm_for_euclid_dist")
    assert distance.min(dim=1).values.max() < 1e-3


def test_the_learning_rate_climbs_and_falls() -> None:
    rates = [learning_rate(step, 100, 0.05) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a >= b for a, b in pairwise(rates[4:]))
    assert rates[-1] < 0.01


def test_a_small_run_learns_and_its_folder_is_a_model(
    backbone: Backbone, corpus: Path, tmp_path: Path
) -> None:
    steps: list[TrainingProgress] = []
    config = TrainingConfig(
        n_latents=512, k=8, tokens=8000, batch_tokens=500, held_out_texts=10, learning_rate=1e-2
    )
    out = tmp_path / "model"
    report = train(
        backbone, TrainingTexts([corpus]), out, config, command="the command", on_step=steps.append
    )
    assert report.tokens == 8000
    assert [step.step for step in steps] == list(range(1, 17))
    assert report.normalized_mse < 0.8 * steps[0].normalized_mse
    assert report.held_out_tokens > 100
    encoder = LatentEncoder.load(out, device="cpu", dtype="float32")
    vectors = encoder.encode(["Return a list of paths matching a pathname pattern."])
    assert len(vectors.indices) > 8
    assert encoder.idf().std() > 0
    card = (out / "README.md").read_text()
    assert "8,000 in 16 steps" in card
    assert "`the command`" in card
    assert f"{report.normalized_mse:.4f}" in card
    with pytest.raises(InputError, match="exists already"):
        train(backbone, TrainingTexts([corpus]), out, config)


def test_the_same_seed_gives_the_same_weights(
    backbone: Backbone, corpus: Path, tmp_path: Path
) -> None:
    def weights(seed: int, name: str) -> torch.Tensor:
        config = TrainingConfig(
            n_latents=64, k=4, tokens=2000, batch_tokens=500, held_out_texts=5, seed=seed
        )
        train(backbone, TrainingTexts([corpus]), tmp_path / name, config)
        return LatentEncoder.load(tmp_path / name, dtype="float32")._autoencoder.W_enc

    first = weights(1, "a")
    assert torch.equal(first, weights(1, "b"))
    assert not torch.equal(first, weights(2, "c"))


def test_a_loss_that_is_not_finite_ends_with_the_step_and_no_folder(
    corpus: Path, tmp_path: Path
) -> None:
    broken = Backbone.load(device="cpu", dtype="float32")
    broken._model.embeddings.word_embeddings.weight.data.fill_(float("nan"))
    config = TrainingConfig(n_latents=64, k=4, tokens=2000, batch_tokens=500, held_out_texts=5)
    with pytest.raises(ModelError, match="step 1: the loss is nan; try --dtype float32"):
        train(broken, TrainingTexts([corpus]), tmp_path / "m", config)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"tokens": 100}, "fewer than one batch, 4096"), ({"k": 20_000}, "must be 1 to the number")],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingConfig(**settings)  # type: ignore[arg-type]
