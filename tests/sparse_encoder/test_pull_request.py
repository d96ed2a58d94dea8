"""Names, keywords and folders as in sentence-transformers pull request 3796."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from sparse_encoder.models import LOADERS
from toys import PROMPTS, TEXTS, toy_backbone, toy_model, toy_tokenizer

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.inspection.labels import write_labels
from latent_ingest.connector.sentence_transformers import (
    SparseAutoEncoderTokenEncoder,
    SparseTokenPooling,
    TokenReconstructionLoss,
    load_sparse_encoder,
    load_transformer,
)

WEIGHTS = {"W_enc", "b_enc", "b_pre", "W_dec", "theta", "data_mean"}


def module(**settings: Any) -> SparseAutoEncoderTokenEncoder:
    """6 wide, 20 latents, 3 per token, with weights that are all used."""
    torch.manual_seed(0)
    made = SparseAutoEncoderTokenEncoder(6, 20, k=3, **settings)
    made.data_mean = torch.randn(6)
    for vector in (made.b_enc, made.b_pre, made.theta):
        if vector is not None:
            torch.nn.init.normal_(vector, std=0.1)
    return made.eval()


def latents(made: SparseAutoEncoderTokenEncoder, tokens: torch.Tensor) -> torch.Tensor:
    """Dense, `[n_tokens, 20]`."""
    out = made({"token_embeddings": tokens})
    shape = (len(tokens), made.hidden_dim)
    values, indices = out["token_sparse_values"], out["token_sparse_indices"]
    return values.new_zeros(shape).scatter(-1, indices, values).detach()


def test_weights_and_settings_are_attributes() -> None:
    made = module(variant="jumprelu", rms_scale=0.5)
    assert made.state_dict().keys() == WEIGHTS
    assert {name for name, _ in made.named_parameters()} == WEIGHTS - {"data_mean"}
    assert (made.input_dim, made.hidden_dim, made.k, made.variant) == (6, 20, 3, "jumprelu")
    assert (made.has_decoder, made.rms_scale, made.target_norm) == (True, 0.5, 6**0.5)
    tokens = torch.randn(50, 6)
    assert (latents(made, tokens) > 0).sum() > 50
    before = latents(made, tokens)
    made.k = 1
    assert (latents(made, tokens) > 0).sum(dim=1).max() == 1
    made.k, made.data_mean, made.rms_scale = 3, None, 0.1
    close = latents(made, tokens)
    assert not torch.equal(close, before)
    made.W_enc = torch.nn.Parameter(torch.zeros(6, 20))
    made.W_dec = None
    assert not made.has_decoder
    assert not torch.equal(latents(made, tokens), close)
    with pytest.raises(ModelError, match="no decoder; use has_decoder=True"):
        made.decode(close)
    with pytest.raises(ModelError, match="k 0"):
        made.k = 0


def test_an_autoencoder_is_wrapped_not_copied() -> None:
    autoencoder = TokenAutoencoder(AutoencoderConfig(6, 20, 3))
    autoencoder.initialize(torch.Generator().manual_seed(0))
    made = SparseAutoEncoderTokenEncoder.of(autoencoder)
    made.load_state_dict(module().state_dict())
    assert autoencoder.W_enc is made.W_enc
    assert autoencoder.data_mean is made.data_mean is not None
    copied = pickle.loads(pickle.dumps(made))
    assert torch.equal(latents(copied, torch.ones(1, 6)), latents(made, torch.ones(1, 6)))


@pytest.mark.parametrize("variant", ["standard", "jumprelu"])
def test_methods_do_the_steps_of_forward(variant: str) -> None:
    made, tokens = module(variant=variant), torch.randn(7, 6)
    pre = made.encode_pre_act(made.normalize(tokens))
    above = pre if made.theta is None else pre * (pre > made.theta)
    values, indices = made.encode_tokens(tokens)
    torch.testing.assert_close(values, above.topk(3, dim=-1).values.relu())
    torch.testing.assert_close(values, pre.gather(1, indices).relu() * (values > 0))
    assert made.encode_tokens(tokens, k=5)[0].shape == (7, 5)
    out = made.train()({"token_embeddings": tokens})
    torch.testing.assert_close(made.decode(latents(made, tokens)), out["sae_output_decoded"])
    made.reset_parameters()
    assert not any(vector.any() for vector in (made.b_enc, made.b_pre))
    assert made.W_dec is not None
    torch.testing.assert_close(made.W_dec.norm(dim=1), torch.ones(20))
    assert torch.equal(made.W_enc.T, made.W_dec)


def test_half_precision_goes_through_and_sums_are_exact() -> None:
    made, tokens = module(), torch.randn(1, 9, 6)
    wanted = SparseTokenPooling(20)(made({"token_embeddings": tokens}))["sentence_embedding"]
    for dtype in (torch.bfloat16, torch.float16):
        out = SparseTokenPooling(20)(made.to(dtype).train()({"token_embeddings": tokens}))
        for name in ("token_sparse_values", "sae_input_normalized", "sae_output_decoded"):
            assert out[name].dtype == dtype, name
        assert out["sentence_embedding"].dtype == dtype
        assert (out["sentence_embedding"] > 0).sum() > 5
        off = (out["sentence_embedding"].float() - wanted).abs()
        assert off.sum() < 0.05 * wanted.sum()
        out["sae_output_decoded"].float().square().mean().backward()
        assert made.W_enc.grad is not None
        # Added up in bfloat16, ones never exceed 256.
        ones = torch.ones(1, 300, 1, dtype=dtype)
        features = {"token_sparse_values": ones, "token_sparse_indices": ones.long()}
        assert SparseTokenPooling(2)(features)["sentence_embedding"].tolist() == [[0, 300]]


def test_dense_latents_can_be_added_and_take_the_embeddings_place() -> None:
    tokens, mask = torch.randn(2, 3, 6), torch.tensor([[1, 1, 1], [1, 0, 0]])
    plain = module()({"token_embeddings": tokens, "attention_mask": mask})
    assert "token_sparse_embeddings" not in plain
    assert plain["backbone_token_embeddings"] is plain["token_embeddings"]
    shape = torch.zeros(2, 3, 20)
    wanted = shape.scatter(-1, plain["token_sparse_indices"], plain["token_sparse_values"])
    for settings in ({"output_format": "dense"}, {"output_format": "both"}):
        out = module(**settings)({"token_embeddings": tokens, "attention_mask": mask})
        assert torch.equal(out["token_sparse_embeddings"], wanted)
        assert out["token_embeddings"] is tokens
    out = module(replace_token_embeddings=True)(
        {"token_embeddings": tokens, "attention_mask": mask}
    )
    assert torch.equal(out["token_embeddings"], wanted)
    assert out["backbone_token_embeddings"] is tokens
    pooled = [SparseTokenPooling(20)(found)["sentence_embedding"] for found in (plain, out)]
    assert torch.equal(*pooled)


def test_tokens_are_encoded_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, made = torch.randn(11, 6), module(token_batch_size=4)
    wanted = latents(module(), tokens)
    sizes = []
    encode = TokenAutoencoder.normalize
    monkeypatch.setattr(
        TokenAutoencoder, "normalize", lambda self, x: (sizes.append(len(x)), encode(self, x))[1]
    )
    torch.testing.assert_close(latents(made, tokens), wanted)
    assert len(sizes) == 3


def test_settings_are_saved_and_those_without_meaning_refused(tmp_path: Path) -> None:
    settings = {
        "output_format": "both", "replace_token_embeddings": True, "k_aux": 2, "frozen": True,
        "token_batch_size": 5, "has_decoder": False, "variant": "jumprelu", "rms_scale": 0.25,
    }  # fmt: skip
    made = module(**settings)
    assert not any(weight.requires_grad for weight in made.parameters())
    made.save(str(tmp_path / "new" / "folder"))
    stored = json.loads((tmp_path / "new" / "folder" / "config.json").read_text())
    assert stored == {"input_dim": 6, "hidden_dim": 20, "k": 3, **settings}
    again = SparseAutoEncoderTokenEncoder.load(str(tmp_path / "new" / "folder"))
    assert again.get_config_dict() == stored
    assert torch.equal(latents(again, torch.ones(1, 6)), latents(made, torch.ones(1, 6)))
    assert None not in module().get_config_dict().values()
    for wrong, message in (
        ({"output_format": "sparse"}, "output_format 'sparse': use one of topk, dense, both"),
        ({"k_aux": -1}, "k_aux -1"),
        ({"token_batch_size": -2}, "token_batch_size -2"),
    ):
        with pytest.raises(ModelError, match=message):
            module(**wrong)
    with pytest.raises(TypeError, match="k_auxiliary"):
        module(k_auxiliary=3)


@pytest.mark.parametrize("variant", ["standard", "jumprelu"])
def test_a_checkpoint_is_read(tmp_path: Path, variant: str) -> None:
    made, file, tokens = module(variant=variant), tmp_path / "sae.pt", torch.randn(5, 6)
    config = {"k": 3, "variant": variant, "optimizer": "adam"}
    torch.save({**made.state_dict(), "config": config}, file)
    read = SparseAutoEncoderTokenEncoder.from_checkpoint(file).eval()
    assert torch.equal(latents(read, tokens), latents(made, tokens))
    assert read.frozen
    assert read.has_decoder
    small = SparseAutoEncoderTokenEncoder.from_checkpoint(
        str(file), k=2, has_decoder=False, frozen=False, output_format="dense"
    )
    assert (small.k, small.has_decoder, small.output_format) == (2, False, "dense")
    assert all(weight.requires_grad for weight in small.parameters())
    scaled = {name: made.state_dict()[name] for name in ("W_enc", "b_enc", "b_pre")}
    torch.save({**scaled, "rms_scale": torch.tensor(0.5)}, file)
    bare = SparseAutoEncoderTokenEncoder.from_checkpoint(file, k=1)
    assert (bare.k, bare.rms_scale, bare.data_mean, bare.has_decoder) == (1, 0.5, None, False)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_what_is_no_checkpoint_is_named_and_not_executed(tmp_path: Path) -> None:
    file = tmp_path / "sae.pt"
    contents = [{"W_enc": Trap(tmp_path / "sprung")}, {"weights": 1}, [1]]
    contents.append({**module().state_dict(), "b_enc": torch.zeros(3)})
    for content in contents:
        torch.save(content, file)
        with pytest.raises(ModelError, match=r"sae\.pt: no checkpoint of an autoencoder: "):
            SparseAutoEncoderTokenEncoder.from_checkpoint(file)
    assert not (tmp_path / "sprung").exists()
    file.write_bytes(b"no")
    for path in (file, tmp_path / "nowhere.pt"):
        with pytest.raises(ModelError, match=f"{path.name}: no checkpoint"):
            SparseAutoEncoderTokenEncoder.from_checkpoint(path)


def test_a_pooling_alone_is_a_model_like_the_librarys(tmp_path: Path) -> None:
    pooling = SparseTokenPooling(8)
    model = SparseEncoder(modules=[pooling], device="cpu")
    values = torch.tensor([[[1.0], [2.0], [4.0]]])
    features = {
        "token_sparse_values": values, "token_sparse_indices": values.long(), "prompt_length": 1,
    }  # fmt: skip
    assert pooling.include_prompt
    assert model(dict(features))["sentence_embedding"].tolist() == [[0, 1, 2, 0, 4, 0, 0, 0]]
    model.set_pooling_include_prompt(False)
    assert model(dict(features))["sentence_embedding"].tolist() == [[0, 0, 2, 0, 4, 0, 0, 0]]
    model.save_pretrained(str(tmp_path / "saved"))
    again = SparseEncoder(str(tmp_path / "saved"), trust_remote_code=True, device="cpu")
    assert again[0].get_config_dict() == pooling.get_config_dict()  # type: ignore[index]


def test_the_loss_takes_k_aux_and_refuses_frozen_weights(tmp_path: Path) -> None:
    backbone = str(toy_backbone(tmp_path / "backbone"))
    made = SparseAutoEncoderTokenEncoder(16, 32, k=4, k_aux=3)
    parts: list[Any] = [load_transformer(backbone), made, SparseTokenPooling(32)]
    model = SparseEncoder(modules=parts, device="cpu").train()
    loss = TokenReconstructionLoss(model, dead_after=0)
    assert loss.objective.k_aux == 3
    made.k_aux = 0
    without = TokenReconstructionLoss(model, dead_after=0)
    batch = model.preprocess(TEXTS[:3])
    totals = []
    for each in (loss, without):
        each([dict(batch)])
        assert len(each.objective.dead) > 3
        totals.append(each([dict(batch)]).item())
    assert totals[0] > totals[1] > 0
    made.k_aux = None
    assert TokenReconstructionLoss(model).objective.k_aux == 8
    made.frozen = True
    with pytest.raises(InputError, match="frozen; set frozen=False to train it"):
        TokenReconstructionLoss(model)


def test_prompts_that_differ_in_their_last_token(tmp_path: Path) -> None:
    prompts = {"query": "the ", "document": "of "}
    backbone = toy_backbone(tmp_path / "backbone", prompts=prompts)
    folder = toy_model(tmp_path / "model", backbone)
    encoder = LatentEncoder.load(folder, device="cpu", dtype="float32")
    model = load_sparse_encoder(folder, device="cpu")
    for kind, encode in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = encoder.encode(TEXTS, kind=kind)
        got = encode(TEXTS).to_dense()
        for row, (indices, values) in enumerate(wanted):
            assert got[row].count_nonzero() == len(indices)
            torch.testing.assert_close(got[row][indices], torch.from_numpy(values))


@pytest.mark.parametrize("routes", ["shared", "own", "another tokenizer"])
def test_a_model_with_a_router_loads_again(tmp_path: Path, routes: str) -> None:
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone", prompts=PROMPTS))
    plain = load_sparse_encoder(folder, device="cpu")
    fingerprint = LatentEncoder.load(folder, device="cpu").fingerprint.autoencoder
    write_labels(folder, {3: "glob"}, fingerprint=fingerprint, sample={})
    parts: list[Any] = list(load_sparse_encoder(folder, device="cpu"))
    words = toy_tokenizer()
    words._tokenizer.post_processor = None
    queries = {
        "shared": parts,
        "own": list(load_sparse_encoder(folder, device="cpu")),
        "another tokenizer": [SparseStaticEmbedding(words, frozen=True)],
    }[routes]
    router = Router.for_query_document(queries, parts)
    model = SparseEncoder(modules=[router], prompts=PROMPTS, device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    wanted = plain.encode_document(TEXTS).to_dense()
    asked = model.encode_query(TEXTS).to_dense()
    for load in LOADERS:
        again = load(tmp_path / "saved")
        torch.testing.assert_close(again.encode_document(TEXTS).to_dense(), wanted)
        torch.testing.assert_close(again.encode_query(TEXTS).to_dense(), asked)
        assert again.decode(torch.eye(32)[3]) == [("f3 (glob)", 1.0)]
    if routes != "another tokenizer":
        torch.testing.assert_close(asked, plain.encode_query(TEXTS).to_dense())
    with pytest.raises(ModelError, match="a model of several ways to encode"):
        LatentEncoder.load(tmp_path / "saved")
