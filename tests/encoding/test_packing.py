"""Packed layers compute what plain ones do, and plain ones stay where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from toys import toy_backbone

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding import autoencoder, backbone
from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.transformer import packing
from latent_ingest.connector.encoding.transformer.packing import PackedLinear, pack, pack_layers
from latent_ingest.connector.encoding.vectors import LatentVectors

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02}

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)
BFLOAT16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="this CPU does not compute in bfloat16"
)


def weights(dtype: torch.dtype, n_out: int = 48, n_in: int = 40) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    shapes = (n_out, n_in), (n_out,), (3, 7, n_in)
    return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=BFLOAT16)])
def test_a_packed_product_is_that_of_the_plain_layer(dtype: torch.dtype) -> None:
    weight, bias, x = weights(dtype)
    for used in (bias, None):
        product = pack(weight, used)
        assert product
        for values in (x, x[0], x[0, :1], x[:0, 0]):
            plain = nn.functional.linear(values, weight, used)
            found = product(values)
            assert found.shape == plain.shape
            assert found.dtype == dtype
            torch.testing.assert_close(found, plain, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_product_has_its_own_copy_of_the_weights() -> None:
    weight, bias, x = weights(torch.float32)
    product = pack(weight, bias)
    assert product
    before = product(x)
    weight.zero_()
    assert torch.equal(product(x), before)


def test_what_cannot_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other dtypes and devices, operators that this PyTorch lacks, or that compute other values."""
    weight, bias, _ = weights(torch.float32)
    assert pack(weight.double(), bias.double()) is None
    assert pack(weight.to("meta"), bias.to("meta")) is None

    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("mkldnn_linear: bf16 path needs the cpu support avx512bw")

    def differ(x: torch.Tensor, *_: object) -> torch.Tensor:
        return nn.functional.linear(x, weight, bias) + 0.1

    for operator in (refuse, differ):
        with monkeypatch.context() as changed:
            changed.setattr(torch.ops.mkldnn, "_linear_pointwise", operator)
            assert pack(weight, bias) is None
    with monkeypatch.context() as changed:
        changed.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert pack(weight, bias) is None
    with monkeypatch.context() as changed:
        changed.setattr(packing.torch, "ops", type("Operators", (), {"mkldnn": object()}))
        assert pack(weight, bias) is None
    assert pack(weight, bias)


class Doubled(nn.Linear):
    """A layer that computes something else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def test_the_layers_of_a_model_are_packed_in_place() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(8, 8, bias=False), nn.GELU(), Doubled(8, 8))
    model = nn.Sequential(nn.Linear(4, 8), inner, nn.Linear(8, 2)).requires_grad_(False).eval()
    x = torch.randn(5, 4)
    plain = model(x)
    pack_layers(model, lambda: model(x))
    packed = [name for name, part in model.named_modules() if isinstance(part, PackedLinear)]
    assert packed == ["0", "1.0", "2"]
    assert sum(parameter.numel() for parameter in model[2].parameters()) == 2  # the bias
    torch.testing.assert_close(model(x), plain)


class Reading(nn.Module):
    """Reads the weights of a layer, which have no values once it is packed."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fails = fails
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.fails:
            return x @ self.layer.weight
        return self.layer(x) + (x.sum() if self.layer.weight.numel() else 0)


@pytest.mark.parametrize("fails", [True, False])
def test_a_model_that_reads_the_weights_of_a_layer_keeps_plain_ones(fails: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Reading(fails)).requires_grad_(False).eval()
    x = torch.randn(5, 4)
    plain, layers = model(x), [model[0], model[1].layer]
    pack_layers(model, lambda: model(x))
    assert [model[0], model[1].layer] == layers
    assert torch.equal(model(x), plain)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it has models that are loaded later compute with plain layers."""

    def leave() -> None:
        monkeypatch.setattr(autoencoder, "pack", lambda weight, bias: None)
        monkeypatch.setattr(backbone, "pack_layers", lambda model, embed: None)

    return leave


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=BFLOAT16)])
def test_texts_have_the_same_latents(dtype: str, unpacked: Callable[[], None]) -> None:
    """Rounding differs: little weight moves, at the edge of the k latents of a token."""
    texts = [document["text"] for document in standard_library()][:24]
    packed = LatentEncoder.load(device="cpu", dtype=dtype)
    assert any(isinstance(part, PackedLinear) for part in packed.backbone._model.modules())
    found = packed.encode(texts)
    unpacked()
    plain = LatentEncoder.load(device="cpu", dtype=dtype)
    assert not any(isinstance(part, PackedLinear) for part in plain.backbone._model.modules())
    assert plain.fingerprint == packed.fingerprint
    expected = plain.encode(texts)
    assert len(expected.indices) > 1000
    for row in range(len(texts)):
        ours, theirs = row_of(found, row), row_of(expected, row)
        moved = sum(abs(ours.get(key, 0) - theirs.get(key, 0)) for key in ours | theirs)
        limit = 0.001 if dtype == "float32" else 0.02
        assert moved <= limit * sum(theirs.values())


def row_of(vectors: LatentVectors, row: int) -> dict[int, float]:
    """Latents of a text and their weights."""
    start, end = vectors.offsets[row : row + 2]
    values = vectors.values[start:end].tolist()
    return dict(zip(vectors.indices[start:end].tolist(), values, strict=True))


def test_an_autoencoder_that_is_frozen_for_a_while_computes_as_before() -> None:
    """As training does to count documents: afterwards its weights change again."""
    model = TokenAutoencoder(AutoencoderConfig(d_in=16, n_latents=64, k=4))
    model.initialize(torch.Generator().manual_seed(0))
    x = model.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        before = model.pre_activations(x)
        with model.computing_in(torch.bfloat16):
            model.freeze(torch.bfloat16)
            inside = model.pre_activations(x)
        assert inside.dtype == torch.bfloat16
        assert torch.equal(model.pre_activations(x), before)
        model.freeze(torch.float32)
        with model.computing_in(torch.bfloat16):
            assert torch.equal(model.pre_activations(x).topk(2).indices, inside.topk(2).indices)
        torch.testing.assert_close(model.pre_activations(x), before)


def test_a_backbone_keeps_no_second_copy_of_its_weights(tmp_path: Path) -> None:
    name = str(toy_backbone(tmp_path / "backbone"))
    model = Backbone.load(name, device="cpu", dtype="float32")._model
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    assert len(layers) >= 6
    assert all(layer.weight.numel() == 0 for layer in layers)
