"""The modules of sentence-transformers give the same latents as LatentEncoder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SparseEncoder
from sparse_encoder.models import backbone_with_prompts, dense
from toys import PROMPTS, SPACES, TEXTS, toy_backbone, toy_model

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.inspection.labels import LABELS_FILE
from latent_ingest.connector.sentence_transformers import (
    SparseAutoEncoderTokenEncoder,
    SparseTokenPooling,
    load_sparse_encoder,
    load_transformer,
)

LENGTHS = (5, 3, 1)


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Within 1e-5 of the value: sums of a long text are in the hundreds."""
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_vectors_are_those_of_the_latent_encoder(
    shipped: SparseEncoder, encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    texts = [document["text"] for document in documents] + ["", "水 🙂 [UNK] [SEP] x", "y " * 400]
    wanted = dense(encoder, texts)
    got = shipped.encode_document(texts)
    assert got.is_sparse
    assert got.shape == (len(texts), 32768)
    close(got.to_dense(), wanted)
    assert (wanted > 0).sum() > 20 * len(texts)
    assert not wanted[90].any()
    close(shipped.encode_query(texts[:3]).to_dense(), dense(encoder, texts[:3], "query"))
    one = shipped.encode(texts[0], convert_to_sparse_tensor=False)
    close(one, wanted[0])


def test_prompts_are_attended_to_and_do_not_count(tmp_path: Path, encoder: LatentEncoder) -> None:
    folder = backbone_with_prompts(tmp_path / "backbone")
    prompted = LatentEncoder(
        Backbone.load(str(folder), device="cpu", dtype="float32"),
        TokenAutoencoder.load(SHIPPED_MODEL),
    )
    model = SparseEncoder(
        modules=[
            load_transformer(str(folder)),
            SparseAutoEncoderTokenEncoder.of(TokenAutoencoder.load(SHIPPED_MODEL)),
            SparseTokenPooling(32768, include_prompt=False),
        ],
        prompts=prompted.backbone.prompts,
        device="cpu",
    )
    texts = ["Find paths that match.", "A tree of folders."]
    for kind, encode in (("query", model.encode_query), ("document", model.encode_document)):
        close(encode(texts).to_dense(), dense(prompted, texts, kind))
    plain = model.encode(texts).to_dense()
    close(plain, dense(encoder, texts))
    without = model.encode_query(texts).to_dense()
    assert not torch.equal(without, plain)
    model.set_pooling_include_prompt(True)
    more = model.encode_query(texts).to_dense()
    assert (more.sum(dim=1) > without.sum(dim=1) + 5).all()
    assert (more >= without).all()


@pytest.mark.parametrize("kind", list(SPACES))
def test_the_first_word_counts_whatever_token_has_the_prompts_last_space(
    tmp_path: Path, kind: str
) -> None:
    """The library measures a prompt alone, where the last space is a token of its own."""
    backbone = toy_backbone(tmp_path / "backbone", kind, prompts=PROMPTS)
    folder = toy_model(tmp_path / "model", backbone)
    encoder = LatentEncoder.load(folder, device="cpu", dtype="float32")
    model = load_sparse_encoder(folder, device="cpu")
    for how, encode in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = dense(encoder, TEXTS, how)
        close(encode(TEXTS).to_dense(), wanted)
        close(torch.stack([encode(text).to_dense() for text in TEXTS]), wanted)
        assert wanted[:3].any(dim=1).all()
    padded = model.preprocess(TEXTS, prompt=PROMPTS["query"])
    attended = padded["attention_mask"].bool()
    packed = {
        "input_ids": padded["input_ids"][attended][None],
        "cu_seq_lens_q": torch.nn.functional.pad(attended.sum(1).cumsum(0), (1, 0)),
        "prompt_length": padded["prompt_length"],
    }
    counted = [
        model[2].counted(features, torch.zeros(*features["input_ids"].shape, 4))  # type: ignore[index]
        for features in (padded, packed)
    ]
    assert torch.equal(counted[0][attended], counted[1])
    other = model.encode(TEXTS[:2], prompt="in the ").to_dense()
    assert not torch.allclose(other, model.encode_query(TEXTS[:2]).to_dense())


def test_latents_have_names(tmp_path: Path) -> None:
    """Not the names of the tokens with the same numbers, however the model is loaded."""
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone"))
    (folder / LABELS_FILE).write_text(json.dumps({"7": "glob, pattern"}))
    model = SparseEncoder(str(folder), trust_remote_code=True, device="cpu")
    vector = torch.zeros(32)
    vector[[7, 30]] = torch.tensor([2.0, 3.0])
    assert model.decode(vector) == [("f30", 3.0), ("f7 (glob, pattern)", 2.0)]
    vectors = model.encode(TEXTS)
    names = model.decode(vectors, top_k=3)
    assert [len(row) for row in names] == [3, 3, 3, 0, 3]
    assert names[0][0][1] == vectors.to_dense()[0].max()
    copied = pickle.loads(pickle.dumps(model))
    assert copied.decode(vectors, top_k=3) == names
    modules = [model[0], SparseAutoEncoderTokenEncoder(16, 32), model[2]]  # type: ignore[index]
    built = SparseEncoder(modules=modules, device="cpu")
    assert built.decode(vector) == [("f30", 3.0), ("f7", 2.0)]
    assert model.tokenizer.convert_ids_to_tokens([7]) == ["files"]


def test_fewer_dimensions_at_construction_and_per_call(encoder: LatentEncoder) -> None:
    autoencoder = TokenAutoencoder.load(SHIPPED_MODEL)
    modules = [
        load_transformer(autoencoder.config.backbone),
        SparseAutoEncoderTokenEncoder.of(autoencoder),
        SparseTokenPooling(32768),
    ]
    texts = ["Stop waiting for an answer after some seconds."]
    whole = dense(encoder, texts)
    heaviest = whole * (whole >= whole.topk(20).values[:, -1:])
    model = SparseEncoder(modules=modules, max_active_dims=20, device="cpu")
    close(model.encode(texts).to_dense(), heaviest)
    assert (model.encode(texts, max_active_dims=4).to_dense() > 0).sum() == 4
    model[1].k = 3  # type: ignore[index]
    fewer = LatentEncoder(encoder.backbone, TokenAutoencoder.load(SHIPPED_MODEL), k=3)
    close(model.encode(texts, max_active_dims=999).to_dense(), dense(fewer, texts))


def tiny(variant: str = "standard") -> SparseAutoEncoderTokenEncoder:
    torch.manual_seed(0)
    module = SparseAutoEncoderTokenEncoder(6, 20, k=4, variant=variant)
    module.autoencoder.data_mean = torch.randn(6)
    torch.nn.init.normal_(module.autoencoder.b_enc, std=0.1)
    if module.autoencoder.theta is not None:
        torch.nn.init.uniform_(module.autoencoder.theta)
    return module.eval()


def forms(tokens: list[torch.Tensor]) -> dict[str, dict[str, Any]]:
    """The same tokens in every shape that a Transformer returns."""
    bounds = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)
    right = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=7.0)
    left = torch.nn.utils.rnn.pad_sequence(
        tokens, batch_first=True, padding_value=7.0, padding_side="left"
    )
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    packed = torch.cat(tokens)
    return {
        "padded": {"token_embeddings": right, "attention_mask": mask.long()},
        "padded on the left": {"token_embeddings": left, "attention_mask": mask.flip(1).long()},
        "packed": {"token_embeddings": packed, "cu_seq_lens_q": bounds},
        "packed, rank 3": {"token_embeddings": packed[None], "cu_seq_lens_q": bounds},
    }


@pytest.mark.parametrize("variant", ["standard", "jumprelu"])
@pytest.mark.parametrize("special", [None, (1, 1)])
@pytest.mark.parametrize("prompt", [0, 2])
@pytest.mark.parametrize("strategy", ["sum", "max", "max_log1p"])
def test_padded_and_packed_features_give_the_plain_sum(
    variant: str, special: tuple[int, int] | None, prompt: int, strategy: str
) -> None:
    module = tiny(variant)
    tokens = [torch.randn(length, 6) for length in LENGTHS]
    before, after = special or (0, 0)
    wanted = torch.zeros(len(LENGTHS), 20)
    for row, text in enumerate(tokens):
        for token in text[max(before, prompt) : len(text) - after]:
            found = module.autoencoder.encode(token[None])
            for latent, value in zip(found.top_indices[0], found.top_acts[0], strict=True):
                if strategy == "sum":
                    wanted[row, latent] += value.detach()
                else:
                    value = value.log1p() if strategy == "max_log1p" else value
                    wanted[row, latent] = torch.maximum(wanted[row, latent], value.detach())
    assert wanted[0].any()
    pooling = SparseTokenPooling(20, strategy, include_prompt=False, special_tokens=special)
    for name, features in forms(tokens).items():
        features["prompt_length"] = torch.tensor([prompt] * len(LENGTHS))
        shape = features["token_embeddings"].shape[:-1]
        out = module(features)
        assert out["token_sparse_values"].shape == (*shape, 4), name
        assert out["token_sparse_indices"].shape == (*shape, 4), name
        torch.testing.assert_close(pooling(out)["sentence_embedding"].detach(), wanted, msg=name)
    alone = pooling(module({"token_embeddings": tokens[0], "prompt_length": prompt}))
    torch.testing.assert_close(alone["sentence_embedding"].detach(), wanted[:1])


def test_latents_of_padding_are_zero_and_fewer_can_be_asked_for() -> None:
    module = tiny()
    tokens = [torch.randn(length, 6) for length in LENGTHS]
    out = module(forms(tokens)["padded"], max_active_dims=2)
    values, mask = out["token_sparse_values"], out["attention_mask"].bool()
    assert values.shape == (3, 5, 2)
    assert not values[~mask].any()
    assert values[mask].any()
    with pytest.raises(ModelError, match="k 21"):
        module(forms(tokens)["padded"], max_active_dims=21)


def test_in_training_the_reconstruction_is_there_and_has_gradients() -> None:
    module = tiny().train()
    tokens = [torch.randn(length, 6) for length in LENGTHS]
    for name, features in forms(tokens).items():
        out = SparseTokenPooling(20)(module(features))
        normalized, decoded = out["sae_input_normalized"], out["sae_output_decoded"]
        wanted = module.autoencoder.normalize(torch.cat(tokens))
        torch.testing.assert_close(normalized, wanted, msg=name)
        latents = torch.zeros(sum(LENGTHS), 20)
        found = module.autoencoder.encode(torch.cat(tokens))
        latents.scatter_(1, found.top_indices, found.top_acts)
        by_hand = latents @ module.autoencoder.W_dec + module.autoencoder.b_pre
        torch.testing.assert_close(decoded, by_hand, msg=name)
        module.zero_grad()
        loss = (normalized - decoded).square().mean() + out["sentence_embedding"].square().mean()
        loss.backward()
        for parameter in ("W_enc", "b_enc", "b_pre", "W_dec"):
            assert getattr(module.autoencoder, parameter).grad.any(), (name, parameter)
    module.autoencoder.W_dec = None
    assert "sae_output_decoded" not in module(forms(tokens)["packed"])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match="variant 'gated': use one of standard, jumprelu"):
        SparseAutoEncoderTokenEncoder(6, 20, variant="gated")
    with pytest.raises(ModelError, match="k 30"):
        SparseAutoEncoderTokenEncoder(6, 20, k=30)
    with pytest.raises(ModelError, match="pooling 'mean'"):
        SparseTokenPooling(20, "mean")
    with pytest.raises(ModelError, match="7 wide"):
        tiny()({"token_embeddings": torch.zeros(2, 3, 7)})
    assert TokenAutoencoder(AutoencoderConfig(6, 20, 4)).config == tiny().autoencoder.config
