"""The trainer of sentence-transformers trains the autoencoder on plain texts."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SparseEncoder,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
)
from sentence_transformers.sentence_transformer.modules import Pooling

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.sentence_transformers import (
    LatentBM25Evaluator,
    TokenReconstructionLoss,
    load_transformer,
    reconstruction_loss,
)
from latent_ingest.connector.training.objective import Objective


def arguments(folder: Path, **others: object) -> SparseEncoderTrainingArguments:
    settings = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 20,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return SparseEncoderTrainingArguments(str(folder), **{**settings, **others})


def lost(model: SparseEncoder, texts: list[str]) -> float:
    """Normalized MSE of the tokens of texts."""
    loss = TokenReconstructionLoss(model, multi_k=False).eval()
    return loss([model.preprocess(texts)]).item()


@pytest.mark.slow
def test_a_run_learns_is_resumed_and_its_model_serves(
    small: SparseEncoder, documents: list[dict[str, str]], tmp_path: Path
) -> None:
    texts = [document["text"] for document in documents[:80]]
    held_out = [document["text"] for document in documents[80:]]
    backbone = {name: tensor.clone() for name, tensor in small[0].state_dict().items()}  # type: ignore[index]
    untrained = copy.deepcopy(small)
    data = Dataset.from_dict({"text": texts})
    evaluator = LatentBM25Evaluator(
        {f"q{i}": text.split(".")[0] for i, text in enumerate(held_out)},
        {str(i): text for i, text in enumerate(held_out)},
        {f"q{i}": {str(i)} for i in range(len(held_out))},
        name="first-sentences",
    )
    trainer = SparseEncoderTrainer(
        small,
        arguments(tmp_path / "run"),
        data,
        loss=TokenReconstructionLoss(small),
        evaluator=evaluator,
    )
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    assert lost(small, held_out) < lost(untrained, held_out)
    evaluator(small)
    autoencoder: TokenAutoencoder = small[1].autoencoder  # type: ignore[index]
    for name, tensor in small[0].state_dict().items():  # type: ignore[index]
        assert torch.equal(tensor, backbone[name]), name
    assert autoencoder.W_dec is not None
    # The last step is taken after the rows were rescaled to unit norm.
    torch.testing.assert_close(autoencoder.W_dec.norm(dim=1), torch.ones(1024), atol=0.01, rtol=0)

    small.save_pretrained(str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text()
    for fact in (
        "Latent Terms Sparse Encoder",
        "latent-terms",
        "first-sentences_bm25_ndcg@10",
        "TokenReconstructionLoss",
        "arXiv 2605.29384",
        "trust_remote_code=True",
    ):
        assert fact in card, fact
    usage = card.split("## Usage")[1]
    assert "pip install 'latent-ingest[sentence-transformers]'" in usage
    (example,) = re.findall(r"```python\n(.*?)```", usage, re.DOTALL)
    found: dict[str, Any] = {}
    exec(example.replace("sparse_encoder_model_id", str(tmp_path / "model")), found)
    assert found["embeddings"].shape == (3, 1024)
    encoder = LatentEncoder.load(tmp_path / "model", device="cpu", dtype="float32")
    assert encoder.n_latents == 1024
    assert len(encoder.encode([texts[0]]).indices) > 8

    torch.manual_seed(1)
    again = SparseEncoder(
        modules=[load_transformer(DEFAULT_BACKBONE), type(small[1])(384, 1024, k=8), small[2]],  # type: ignore[index]
        device="cpu",
    )
    loss = TokenReconstructionLoss(again)
    resumed = SparseEncoderTrainer(again, arguments(tmp_path / "run"), data, loss=loss)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-20"))
    torch.testing.assert_close(again[1].autoencoder.W_enc, autoencoder.W_enc)  # type: ignore[index]


def test_bm25_chooses_the_best_checkpoint(
    small: SparseEncoder, documents: list[dict[str, str]], tmp_path: Path
) -> None:
    texts = [document["text"] for document in documents[:40]]
    corpus = {str(i): text for i, text in enumerate(texts)}
    evaluator = LatentBM25Evaluator(
        {f"q{i}": " ".join(text.split()[2:5]) for i, text in enumerate(texts)},
        corpus,
        {f"q{i}": {str(i)} for i in range(len(texts))},
    )
    settings = arguments(
        tmp_path / "run",
        max_steps=4,
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_bm25_ndcg@10",
    )
    trainer = SparseEncoderTrainer(
        small,
        settings,
        Dataset.from_dict({"text": texts}),
        loss=TokenReconstructionLoss(small),
        evaluator=evaluator,
    )
    trainer.train()
    said = [
        line["eval_bm25_ndcg@10"] for line in trainer.state.log_history if "eval_runtime" in line
    ]
    assert len(said) == 2
    assert trainer.state.best_metric == max(said)
    best = 2 * (1 + said.index(max(said)))
    stored = TokenAutoencoder.load(tmp_path / "run" / f"checkpoint-{best}").state_dict()
    for name, tensor in small[1].autoencoder.state_dict().items():  # type: ignore[index]
        assert torch.equal(tensor, stored[name]), name


def test_the_loss_is_the_objective_over_the_tokens_that_count(
    small: SparseEncoder, documents: list[dict[str, str]]
) -> None:
    texts = [document["text"] for document in documents[:6]]
    loss = TokenReconstructionLoss(small, dead_after=5)
    small.train()
    total = loss([small.preprocess(texts[:4]), small.preprocess(texts[4:])])
    encoder = LatentEncoder.load(device="cpu", dtype="float32")
    hidden = torch.cat(
        [
            batch.hidden[start:end]
            for part in (texts[:4], texts[4:])
            for batch in encoder.backbone.embed(part)
            for start, end in zip(batch.cu_seq_lens, batch.cu_seq_lens[1:], strict=False)
        ]
    ).clone()
    autoencoder: TokenAutoencoder = small[1].autoencoder  # type: ignore[index]
    assert autoencoder.data_mean is not None
    torch.testing.assert_close(autoencoder.data_mean, hidden.mean(dim=0), atol=1e-5, rtol=1e-4)
    objective = Objective(autoencoder, dead_after=5, multi_k=True)
    torch.testing.assert_close(total, objective(hidden).total, atol=1e-4, rtol=1e-4)
    # Latents that were not active then are dead now, and revived.
    dead = objective.dead
    assert 0 < len(dead) < 1024
    total = loss([small.preprocess(texts[:4]), small.preprocess(texts[4:])])
    torch.testing.assert_close(total, objective(hidden).total, atol=1e-4, rtol=1e-4)
    total.backward()  # type: ignore[no-untyped-call]
    assert autoencoder.W_enc.grad is not None
    assert autoencoder.W_enc.grad[:, dead].any()
    assert autoencoder.W_dec is not None
    assert autoencoder.W_dec.grad is not None
    along = (autoencoder.W_dec.grad * autoencoder.W_dec).sum(dim=1)
    assert along.abs().max() < 1e-6 < autoencoder.W_dec.grad.abs().max()
    assert all(parameter.grad is None for parameter in small[0].parameters())  # type: ignore[index]


def test_no_batch_of_texts_breaks_a_run(
    small: SparseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts without tokens, with one token, and with one more than are computed at once."""
    loss = TokenReconstructionLoss(small)
    small.train()
    for texts in ([""], ["a"], ["", ""]):
        total = loss([small.preprocess(texts)])
        total.backward()  # type: ignore[no-untyped-call]
        assert total == 0
    assert small[1].autoencoder.data_mean is None  # type: ignore[index]
    monkeypatch.setattr(reconstruction_loss, "TOKENS_AT_ONCE", 4)
    total = loss([small.preprocess(["one two three four five"])])
    assert 0 < total < 10


def test_models_without_the_parts_are_refused(small: SparseEncoder) -> None:
    dense = SparseEncoder(modules=[small[0], Pooling(384)], device="cpu")  # type: ignore[index]
    with pytest.raises(InputError, match=r"no SparseAutoEncoderTokenEncoder .*: Transformer, Pool"):
        TokenReconstructionLoss(dense)
    small[1].to(torch.bfloat16)  # type: ignore[index]
    with pytest.raises(InputError, match=r"in torch.bfloat16, .*call model.float\(\)"):
        TokenReconstructionLoss(small)
    assert "sae_output_decoded" in small[1].train()({"token_embeddings": torch.ones(2, 384)})  # type: ignore[index]
    small[1].autoencoder.W_dec = None  # type: ignore[index]
    with pytest.raises(InputError, match="no decoder"):
        TokenReconstructionLoss(small)
