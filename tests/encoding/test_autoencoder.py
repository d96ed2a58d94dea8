"""The autoencoder: shapes, variants, saving and loading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latent_ingest.connector.encoding.autoencoder import (
    AutoencoderConfig,
    TokenAutoencoder,
    TokenLatents,
    strongest_by_groups,
)
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.fingerprint import autoencoder_fingerprint
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL, model_path
from latent_ingest.connector.errors import ModelError

CONFIG = AutoencoderConfig(d_in=24, n_latents=96, k=5)


def small(config: AutoencoderConfig = CONFIG) -> TokenAutoencoder:
    model = TokenAutoencoder(config)
    model.initialize(torch.Generator().manual_seed(1))
    model.data_mean = torch.linspace(-1, 1, config.d_in)
    with torch.no_grad():
        model.b_enc.copy_(torch.linspace(-0.2, 0.2, config.n_latents))
        model.b_pre.copy_(torch.linspace(0.1, -0.1, config.d_in))
    return model.eval().requires_grad_(False)


def reference(model: TokenAutoencoder, token: torch.Tensor, k: int) -> dict[int, float]:
    """The formula of arXiv 2605.29384 for one token, as in the paper."""
    assert model.data_mean is not None
    centred = token - model.data_mean
    x = centred * model.config.d_in**0.5 / centred.norm()
    pre = (x - model.b_pre) @ model.W_enc + model.b_enc
    top = pre.topk(k)
    return {int(i): float(v) for i, v in zip(top.indices, top.values, strict=True) if v > 0}


def per_token(latents: TokenLatents) -> list[dict[int, float]]:
    return [
        {int(i): float(v) for i, v in zip(index, acts, strict=True) if v > 0}
        for index, acts in zip(latents.top_indices, latents.top_acts, strict=True)
    ]


def test_encode_is_the_formula(generator: torch.Generator) -> None:
    model, tokens = small(), torch.randn(50, 24, generator=generator)
    for got, token in zip(per_token(model.encode(tokens)), tokens, strict=True):
        assert got == pytest.approx(reference(model, token, 5), rel=1e-5)


def test_padded_flattened_and_packed_tokens_give_the_same_latents(
    generator: torch.Generator,
) -> None:
    model = small()
    lengths = [3, 0, 7, 1]
    texts = [torch.randn(n, 24, generator=generator) for n in lengths]
    padded = torch.full((4, 7, 24), 99.0)
    mask = torch.zeros(4, 7)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = text
        mask[row, : len(text)] = 1
    packed = torch.cat(texts)
    bounds = torch.tensor([0, 3, 3, 10, 11], dtype=torch.int32)
    from_padded = model.encode(padded, attention_mask=mask)
    from_packed = model.encode(packed, cu_seq_lens=bounds)
    from_row = model.encode(packed[None], cu_seq_lens=bounds)
    for other in (from_packed, from_row):
        assert torch.equal(from_padded.top_indices, other.top_indices)
        assert torch.equal(from_padded.top_acts, other.top_acts)
        assert from_padded.cu_seq_lens.tolist() == other.cu_seq_lens.tolist() == bounds.tolist()
    flat = model.encode(packed)
    assert torch.equal(flat.top_acts, from_packed.top_acts)
    assert flat.cu_seq_lens.tolist() == [0, 11]


def test_chunks_change_nothing(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = small(), torch.randn(50, 24, generator=generator)
    whole = model.encode(tokens)
    monkeypatch.setattr("latent_ingest.connector.encoding.autoencoder.TOKENS_AT_ONCE_ON_CPU", 7)
    chunked = model.encode(tokens)
    assert torch.equal(whole.top_indices, chunked.top_indices)
    assert torch.allclose(whole.top_acts, chunked.top_acts, rtol=1e-6)


def test_a_lower_k_keeps_the_strongest(generator: torch.Generator) -> None:
    model, tokens = small(), torch.randn(20, 24, generator=generator)
    for few, all_five in zip(
        per_token(model.encode(tokens, k=2)), per_token(model.encode(tokens)), strict=True
    ):
        strongest = sorted(all_five.items(), key=lambda item: -item[1])[:2]
        assert few == dict(strongest)


def test_no_tokens_are_no_latents() -> None:
    assert small().encode(torch.empty(0, 24)).top_acts.shape == (0, 5)


def test_jumprelu_drops_what_is_below_theta(generator: torch.Generator) -> None:
    model = small(replace(CONFIG, variant="jumprelu"))
    assert model.theta is not None
    tokens = torch.randn(20, 24, generator=generator)
    before = per_token(model.encode(tokens))
    model.theta.data.fill_(1.5)
    after = per_token(model.encode(tokens))
    assert after == [{i: v for i, v in token.items() if v > 1.5} for token in before]
    assert after != before


def test_rms_scale_does_not_matter_where_the_norm_is_set(generator: torch.Generator) -> None:
    """It exists for weights of sentence-transformers, which apply it before normalization."""
    model, tokens = small(replace(CONFIG, rms_scale=3.0)), torch.randn(5, 24, generator=generator)
    model.data_mean = None
    assert model.normalize(tokens).norm(dim=-1).tolist() == pytest.approx([24**0.5] * 5)


def test_a_reconstruction_is_the_product_with_the_decoder(generator: torch.Generator) -> None:
    model, tokens = small(), torch.randn(6, 24, generator=generator)
    found = model.encode(tokens)
    decoded = model.reconstruct(found.top_acts, found.top_indices)
    assert model.W_dec is not None
    dense = torch.zeros(6, 96).scatter(1, found.top_indices, found.top_acts)
    assert torch.allclose(decoded, dense @ model.W_dec + model.b_pre, atol=1e-5)


@pytest.mark.parametrize("variant", ["topk", "jumprelu"])
def test_saved_and_loaded_is_the_same_model(
    tmp_path: Path, generator: torch.Generator, variant: str
) -> None:
    model, tokens = small(replace(CONFIG, variant=variant)), torch.randn(9, 24, generator=generator)
    model.document_frequency = torch.arange(96.0) + 70_000
    model.save(tmp_path / "m", decoder=True, dtype=torch.float32)
    again = TokenAutoencoder.load(tmp_path / "m")
    assert torch.equal(again.encode(tokens).top_acts, model.encode(tokens).top_acts)
    assert again.config == model.config
    assert again.W_dec is not None


def test_the_file_has_the_names_of_the_field(tmp_path: Path) -> None:
    """The names of sentence-transformers' pull request 3796; counts stay exact in the fp16 file."""
    from safetensors.torch import load_file

    model = small()
    model.document_frequency = torch.arange(96.0) + 70_000
    model.save(tmp_path / "m")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert set(stored) == {"W_enc", "b_enc", "b_pre", "data_mean", "document_frequency"}
    assert stored["W_enc"].dtype == torch.float16
    assert stored["document_frequency"].tolist() == model.document_frequency.tolist()


def broken(folder: Path, content: str) -> Path:
    small().save(folder)
    (folder / "config.json").write_text(content)
    return folder


GOOD = {"d_in": 24, "n_latents": 96, "k": 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "d_in, n_latents or k is missing"),
        (json.dumps({"d_in": 24}), "d_in, n_latents or k is missing"),
        (json.dumps({**GOOD, "new": 1}), "unknown new; made by a newer version"),
        (json.dumps({**GOOD, "weights": "int4"}), "weights of an unknown kind; made by a newer"),
        (json.dumps({**GOOD, "k": 97}), "k 97: must be 1 to n_latents, 96"),
        (json.dumps({**GOOD, "variant": "x"}), "variant 'x': use one of topk, jumprelu"),
        (json.dumps({**GOOD, "d_in": 25}), "does not fit config.json"),
        (json.dumps({**GOOD, "weights": "int4"}), "weights of an unknown kind"),
    ],
)
def test_a_broken_config_is_said(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        TokenAutoencoder.load(broken(tmp_path / "m", content))


def test_missing_and_broken_weights_are_said(tmp_path: Path) -> None:
    small().save(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match=r"model.safetensors: cannot be read"):
        TokenAutoencoder.load(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model.safetensors: no such file"):
        TokenAutoencoder.load(tmp_path / "m")
    with pytest.raises(ModelError, match=r"config.json: no such file"):
        TokenAutoencoder.load(tmp_path)


def test_wrong_width_and_wrong_k_are_said() -> None:
    with pytest.raises(ModelError, match="token embeddings are 30 wide"):
        small().encode(torch.zeros(1, 30))
    with pytest.raises(ModelError, match="k 97: must be 1 to n_latents, 96"):
        small().encode(torch.zeros(1, 24), k=97)


def test_the_shipped_model_is_as_described() -> None:
    model = TokenAutoencoder.load(SHIPPED_MODEL)
    assert (model.config.d_in, model.config.n_latents, model.config.k) == (384, 32768, 16)
    assert model.W_dec is None
    size = (SHIPPED_MODEL / "model.safetensors").stat().st_size
    assert 24e6 < size < 30e6


def test_int8_halves_the_file_and_rounds_within_half_a_step(tmp_path: Path) -> None:
    model = TokenAutoencoder.load(SHIPPED_MODEL)
    model.save(tmp_path / "m", int8=True)
    loaded = TokenAutoencoder.load(tmp_path / "m")
    size = (tmp_path / "m" / "model.safetensors").stat().st_size
    assert size < 0.53 * (SHIPPED_MODEL / "model.safetensors").stat().st_size
    steps = model.W_enc.abs().amax(dim=0) / 127
    assert ((loaded.W_enc - model.W_enc).abs() <= steps * 0.5001).all()
    assert not torch.equal(loaded.W_enc, model.W_enc)
    assert autoencoder_fingerprint(loaded) != autoencoder_fingerprint(model)

    loaded.save(tmp_path / "again", int8=True)
    again = TokenAutoencoder.load(tmp_path / "again")
    assert autoencoder_fingerprint(again) == autoencoder_fingerprint(loaded)


def test_int8_finds_nearly_the_same_latents(tmp_path: Path, encoder: LatentEncoder) -> None:
    texts = ["Vitamin D prevents falls in older adults.", "The court denied the appeal."]
    TokenAutoencoder.load(SHIPPED_MODEL).save(tmp_path / "m", int8=True)
    rounded = LatentEncoder(encoder.backbone, TokenAutoencoder.load(tmp_path / "m"))
    for text in texts:
        exact, got = (dict(zip(*e.encode([text])[0], strict=True)) for e in (encoder, rounded))
        shared = sum(min(exact[latent], got.get(latent, 0)) for latent in exact)
        assert shared > 0.97 * sum(exact.values())


def test_a_model_of_this_package_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_path(None) == model_path("minilm-32k") == model_path(Path("minilm-32k"))
    assert model_path("minilm-32k") == SHIPPED_MODEL
    assert model_path("minilm-32k/") == SHIPPED_MODEL
    for other in ("minilm-16k", "../models/minilm-32k", ".", str(tmp_path)):
        assert model_path(other) == Path(other)
    Path("minilm-32k").mkdir()
    assert model_path("minilm-32k") == Path("minilm-32k")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("k", "size"), [(16, 8), (16, 64), (1, 64), (32, 64)])
def test_strongest_by_groups_are_those_of_all(dtype: torch.dtype, k: int, size: int) -> None:
    random = torch.randn(200, 2048, generator=torch.Generator().manual_seed(3))
    random[0] = 1.0  # all equal
    random[1, 3 * size : 4 * size] = 9.0 + torch.arange(size)  # in one group
    random[2] = -random[2].abs()
    random[2, 700] = 0.5
    pre = random.to(dtype)
    values, latents = strongest_by_groups(pre, k, size)
    expected = pre.topk(k, dim=-1).values
    assert torch.equal(values.relu(), expected.relu())
    assert (expected <= 0).sum() == k - 1
    assert torch.equal(pre.gather(1, latents), values)
    assert all(len(set(row)) == k for row in latents.tolist())
