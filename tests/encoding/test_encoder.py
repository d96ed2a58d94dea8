"""The encoder with real weights."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import PROMPTS, toy_backbone, toy_model

from latent_ingest.connector import terms
from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.errors import ModelError


def counts_of(encoder: LatentEncoder, texts: list[str]) -> list[dict[int, int]]:
    return [
        dict(zip(indices.tolist(), terms.counts(values).tolist(), strict=True))
        for indices, values in encoder.encode(texts)
    ]


def test_a_text_alone_and_in_a_batch_give_the_same_latents(
    encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    """In float32: equal latents; values within 1e-4, as padding changes the last bits of sums."""
    texts = [document["text"] for document in documents[:60]]
    together = encoder.encode(texts)
    for text, (indices, values) in zip(texts, together, strict=True):
        alone_indices, alone_values = encoder.encode([text])[0]
        ours = dict(zip(indices.tolist(), values.tolist(), strict=True))
        alone = dict(zip(alone_indices.tolist(), alone_values.tolist(), strict=True))
        assert ours.keys() == alone.keys()
        assert ours == pytest.approx(alone, rel=1e-4, abs=1e-4)


def test_out_of_memory_halves_the_batches_and_changes_nothing(
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts = [document["text"] for document in documents]
    wanted = encoder.encode(texts)
    budget = encoder.backbone.token_budget
    model = encoder.backbone._model

    def small(input_ids: torch.Tensor, **others: torch.Tensor) -> object:
        if input_ids.numel() > budget // 4:
            raise torch.OutOfMemoryError("no memory")
        return model(input_ids=input_ids, **others)

    small.device = model.device  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(encoder.backbone, "_model", small)
        patch.setattr(encoder.backbone, "token_budget", budget)
        got = encoder.encode(texts)
        assert encoder.backbone.token_budget == budget // 4
    assert "continuing with 1024 tokens per batch" in caplog.text
    np.testing.assert_array_equal(got.offsets, wanted.offsets)
    np.testing.assert_array_equal(got.indices, wanted.indices)
    np.testing.assert_allclose(got.values, wanted.values, rtol=1e-4, atol=1e-4)


def test_bf16_gives_nearly_the_latents_of_fp32(
    encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    """At least 9 of 10 units of term frequency are equal."""
    coarse = LatentEncoder.load(device="cpu", dtype="bfloat16")
    texts = [document["text"] for document in documents[:60]]
    shared = total = 0
    for exact, rounded in zip(counts_of(encoder, texts), counts_of(coarse, texts), strict=True):
        shared += sum(min(tf, rounded.get(latent, 0)) for latent, tf in exact.items())
        total += sum(exact.values())
    assert total > 10_000
    assert shared / total > 0.9


def test_rows_are_in_order_sorted_and_positive(encoder: LatentEncoder) -> None:
    texts = ["a long text about vitamins and falls " * 9, "", "short", "   "]
    vectors = encoder.encode(texts)
    assert len(vectors) == 4
    assert vectors.offsets.tolist()[0] == 0
    assert vectors.offsets.tolist()[-1] == len(vectors.indices) == len(vectors.values)
    assert (vectors.indices.dtype, vectors.values.dtype) == (np.int32, np.float32)
    assert (vectors.values > 0).all()
    for indices, _ in vectors:
        assert (np.diff(indices) > 0).all()
    assert [len(indices) > 0 for indices, _ in vectors] == [True, False, True, False]
    assert vectors.n_tokens.tolist()[1:] == [0, 1, 0]


def test_no_texts_are_no_rows(encoder: LatentEncoder) -> None:
    vectors = encoder.encode([])
    assert len(vectors) == len(vectors.indices) == 0


def test_a_lower_k_gives_fewer_latents_and_another_fingerprint(encoder: LatentEncoder) -> None:
    fewer = LatentEncoder.load(device="cpu", dtype="float32", k=4)
    text = ["does vitamin D prevent falls in older adults"]
    assert 0 < len(fewer.encode(text).indices) < len(encoder.encode(text).indices)
    assert fewer.fingerprint.digest != encoder.fingerprint.digest


@pytest.mark.parametrize("kind", ["query", "document"])
@pytest.mark.parametrize("k", [0, 40_000])
def test_a_k_out_of_range_is_refused(encoder: LatentEncoder, kind: str, k: int) -> None:
    with pytest.raises(ModelError, match=f"k {k}: must be 1 to n_latents, 32768"):
        encoder.encode(["a zebra"], kind=kind, k=k)


def test_the_fingerprint_does_not_depend_on_dtype(encoder: LatentEncoder) -> None:
    coarse = LatentEncoder.load(device="cpu", dtype="bfloat16")
    assert coarse.fingerprint == encoder.fingerprint


def test_a_changed_weight_changes_the_fingerprint(backbone: Backbone) -> None:
    autoencoder = TokenAutoencoder.load(SHIPPED_MODEL)
    before = LatentEncoder(backbone, TokenAutoencoder.load(SHIPPED_MODEL)).fingerprint
    with torch.no_grad():
        autoencoder.W_enc[7, 7] += 0.25
    after = LatentEncoder(backbone, autoencoder).fingerprint
    assert after.autoencoder != before.autoencoder
    assert after.digest != before.digest


def test_an_autoencoder_of_another_width_is_refused(backbone: Backbone) -> None:
    other = TokenAutoencoder(AutoencoderConfig(d_in=768, n_latents=16, k=2, backbone="mpnet"))
    with pytest.raises(ModelError, match=r"takes 768 dimensions, .* gives 384; .* mpnet"):
        LatentEncoder(backbone, other, name="m")


def test_an_autoencoder_of_another_backbone_of_that_width_is_refused(backbone: Backbone) -> None:
    config = AutoencoderConfig(
        d_in=384, n_latents=16, k=2, backbone="e5", backbone_fingerprint="0123456789abcdef"
    )
    with pytest.raises(ModelError, match="was trained on e5 with weights 0123456789abcdef"):
        LatentEncoder(backbone, TokenAutoencoder(config), name="m")


def test_a_missing_model_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        LatentEncoder.load(tmp_path / "none")


def test_a_shared_model_is_loaded_again_when_its_folder_has_changed(tmp_path: Path) -> None:
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone", prompts=PROMPTS))
    first = LatentEncoder.shared(folder, device="cpu", dtype="float32")
    assert LatentEncoder.shared(folder, device="cpu", dtype="float32") is first
    (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('"k": 4', '"k": 3')
    )
    os.utime(folder / "config.json", (2e9, 2e9))
    assert LatentEncoder.shared(folder, device="cpu", dtype="float32").k == 3


def nan_for(word: str) -> LatentEncoder:
    """The shipped encoder with a broken embedding of one word."""
    encoder = LatentEncoder.load(device="cpu", dtype="float32")
    backbone = encoder.backbone
    backbone._model = copy.deepcopy(backbone._model)
    token = backbone._tokenizer.convert_tokens_to_ids(word)
    backbone._model.embeddings.word_embeddings.weight.data[token] = float("nan")
    return encoder


def test_nan_in_a_hidden_state_is_said_and_spares_the_other_texts() -> None:
    encoder = nan_for("zebra")
    texts = ["a horse", "a zebra", "a cow"]
    with pytest.raises(ModelError, match="gives NaN or infinity for 'a zebra'"):
        encoder.encode(texts)
    with pytest.raises(ModelError, match="gives NaN or infinity for 'a zebra'"):
        encoder.encode(["a zebra"], kind="query")
    vectors = encoder.encode(texts, allow_nan=True)
    assert vectors.finite.tolist() == [True, False, True]
    assert [len(indices) > 0 for indices, _ in vectors] == [True, False, True]


def test_idf_is_lucenes(encoder: LatentEncoder) -> None:
    autoencoder = TokenAutoencoder.load(SHIPPED_MODEL)
    df = autoencoder.document_frequency
    assert df is not None
    n = autoencoder.config.n_documents
    idf = encoder.idf()
    assert idf.shape == (32768,)
    for latent in (0, int(df.argmax()), int(df.argmin())):
        count = df[latent].item()
        assert idf[latent] == pytest.approx(np.log(1 + (n - count + 0.5) / (count + 0.5)), rel=1e-5)


def test_questions_have_the_latents_that_exact_weights_give(
    encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    """Candidates are found in int8; the active latents and their activations are unchanged."""
    questions = [document["text"][:80] for document in documents[::6]]
    same = 0
    for question in questions:
        fast, exact = (encoder.encode([question], kind=kind) for kind in ("query", "document"))
        dense = np.zeros((2, encoder.n_latents))
        dense[0, fast.indices], dense[1, exact.indices] = fast.values, exact.values
        one, other = dense / np.linalg.norm(dense, axis=1, keepdims=True)
        assert (
            one @ other > 0.999
        )  # the k-th and the next latent of a token may have equal activations
        same += np.array_equal(fast.indices, exact.indices)
    assert len(questions) == 15
    assert same >= 12
    assert vars(encoder)["_quantized"], "the shorter way was taken"
