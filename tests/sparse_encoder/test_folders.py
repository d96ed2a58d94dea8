"""Model folders written by one library and loaded by the other; and folders of other models."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from sentence_transformers import SparseEncoder
from sparse_encoder.models import LOADERS, dense
from toys import PROMPTS, toy_backbone, toy_model

import latent_ingest.connector.sentence_transformers
from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.autoencoder import (
    FREQUENCIES_FILE,
    AutoencoderConfig,
    TokenAutoencoder,
)
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.inspection.labels import LABELS_FILE, read_labels, write_labels
from latent_ingest.connector.sentence_transformers import load_sparse_encoder, load_transformer
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.texts import Source, TrainingTexts
from latent_ingest.connector.training.trainer import Trainer

TEXTS = ["Return the paths that match a pattern.", "Wait until the process ends.", "水"]


def equal(model: SparseEncoder, encoder: LatentEncoder) -> None:
    for kind, encode in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = dense(encoder, TEXTS, kind)
        assert wanted.any()
        torch.testing.assert_close(encode(TEXTS).to_dense(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("projected", [False, True])
def test_a_folder_of_train_loads_there_and_comes_back(
    corpus: Path, tmp_path: Path, projected: bool
) -> None:
    """With and without token projections after the backbone."""
    folder = toy_backbone(tmp_path / "backbone", prompts=PROMPTS, projected=projected)
    backbone = Backbone.load(str(folder), device="cpu", dtype="float32")
    config = TrainingConfig(
        n_latents=64, k=4, tokens=1500, batch_tokens=500, buffer_tokens=2000, held_out_texts=8
    )
    trainer = Trainer(backbone, TrainingTexts([Source(str(corpus))]), tmp_path / "model", config)
    trainer.write(trainer.run(), keep_decoder=True)
    encoder = LatentEncoder.load(tmp_path / "model", device="cpu", dtype="float32")
    assert encoder.backbone.d_in == (8 if projected else 16)
    for load in LOADERS:
        model = load(tmp_path / "model")
        equal(model, encoder)
    model.save_pretrained(str(tmp_path / "saved"))
    back = LatentEncoder.load(tmp_path / "saved", device="cpu", dtype="float32")
    assert back.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(back.idf(), encoder.idf())
    assert back.idf().std() > 0
    for load in LOADERS:
        equal(load(tmp_path / "saved"), back)
    assert TokenAutoencoder.load(tmp_path / "saved").W_dec is not None
    if projected:
        with pytest.raises(
            ModelError, match=r"backbone: has projections after its transformer; bu"
        ):
            load_transformer(str(folder))


def test_what_was_counted_with_the_weights_goes_with_them(tmp_path: Path) -> None:
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone"))
    encoder = LatentEncoder.load(folder, device="cpu", dtype="float32")
    fingerprint = encoder.fingerprint.autoencoder
    labels = {3: "glob, pattern"}
    write_labels(folder, labels, fingerprint=fingerprint, sample={"tokens": 5})
    model = load_sparse_encoder(folder, device="cpu")
    model.similarity_fn_name, model.default_prompt_name = "cosine", "query"
    saved = tmp_path / "saved"
    model.save_pretrained(str(saved))
    (place,) = saved.glob("*_SparseAutoEncoderTokenEncoder")
    assert {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()} == dict.fromkeys(
        ("config.json", "model.safetensors", FREQUENCIES_FILE, LABELS_FILE), 0o644
    )
    assert (place / LABELS_FILE).read_bytes() == (folder / LABELS_FILE).read_bytes()
    assert read_labels(saved, fingerprint) == labels
    back = LatentEncoder.load(saved, device="cpu", dtype="float32")
    np.testing.assert_array_equal(back.idf(), encoder.idf())
    for load in LOADERS:
        again = load(saved)
        assert again.similarity_fn_name == "cosine"
        assert again.default_prompt_name == "query"
        assert again.decode(torch.eye(32)[3]) == [("f3 (glob, pattern)", 1.0)]

    # Labels of other weights would be wrong, so they are left out, also when a folder is rewritten.
    again[1].autoencoder.W_enc.data[0] += 1.0
    again.save_pretrained(str(saved))
    assert not (place / FREQUENCIES_FILE).exists()
    assert not (place / LABELS_FILE).exists()
    assert (LatentEncoder.load(saved, device="cpu", dtype="float32").idf() == 1).all()
    assert load_sparse_encoder(saved).decode(torch.eye(32)[3]) == [("f3", 1.0)]


def test_the_backbone_must_be_the_one_it_was_trained_on(tmp_path: Path) -> None:
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone"))
    toy_backbone(tmp_path / "backbone", seed=1)
    for load in (LatentEncoder.load, *LOADERS):
        with pytest.raises(
            ModelError, match=r"autoencoder model was trained on .*/backbone with w"
        ):
            load(folder)


def test_options_reach_the_backbones_transformer(tmp_path: Path) -> None:
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone"))
    options = {"model_kwargs": {"dtype": torch.bfloat16, "attn_implementation": "eager"}}
    for model in (
        load_sparse_encoder(folder, device="cpu", **options),
        SparseEncoder(str(folder), trust_remote_code=True, device="cpu", **options),
    ):
        assert model.dtype == torch.bfloat16
        assert model.transformers_model.config._attn_implementation == "eager"
    with pytest.raises(Exception, match=r"(?i)optimum"):
        load_sparse_encoder(folder, backend="onnx")


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.mark.parametrize(
    ("place", "setting", "fix"),
    [
        ("2_SparseTokenPooling/config.json", {"include_prompt": True}, "set it to false"),
        ("2_SparseTokenPooling/config.json", {"special_tokens": [0, 0]}, "remove it"),
        ("config_sentence_transformers.json", {"max_active_dims": 2}, "remove it, or lower k"),
    ],
)
def test_settings_that_an_index_cannot_have_are_refused(
    tmp_path: Path, place: str, setting: dict[str, Any], fix: str
) -> None:
    """In a SparseEncoder, these settings do take effect."""
    backbone = toy_backbone(tmp_path / "backbone", prompts=PROMPTS)
    folder = toy_model(tmp_path / "model", backbone)
    plain = load_sparse_encoder(folder, device="cpu").encode_query(TEXTS).to_dense()
    change(folder / place, **setting)
    for load in LOADERS:
        assert not torch.equal(load(folder).encode_query(TEXTS).to_dense(), plain)
    (name,) = setting
    with pytest.raises(ModelError) as caught:
        LatentEncoder.load(folder)
    assert str(caught.value).startswith(f"{folder / place}: {name} is ")
    assert str(caught.value).endswith(fix)


def test_a_setting_that_nobody_knows_is_named(tmp_path: Path) -> None:
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone"))
    change(folder / "2_SparseTokenPooling" / "config.json", weighting="idf")
    for load in LOADERS:
        with pytest.raises(
            ModelError, match=r"unknown weighting in the config.json of its SparseT"
        ):
            load(folder)


def test_the_model_that_ships_loads_there(encoder: LatentEncoder) -> None:
    model = SparseEncoder(str(SHIPPED_MODEL), trust_remote_code=True, device="cpu")
    equal(model, encoder)
    assert model.get_embedding_dimension() == encoder.n_latents
    assert model.similarity_fn_name == "dot"


def pull_request_folder(folder: Path, source: TokenAutoencoder) -> Path:
    """A folder as `SparseEncoder.save_pretrained` of pull request 3796 writes it."""
    folder.mkdir()
    for path in find_folder(DEFAULT_BACKBONE).iterdir():
        (folder / path.name).symlink_to(path)
    home = "sentence_transformers.sparse_encoder.modules."
    names = ("SparseAutoEncoderTokenEncoder", "SparseTokenPooling")
    types = (
        "sentence_transformers.base.modules.transformer.Transformer",
        home + "sparse_auto_encoder_token_encoder.SparseAutoEncoderTokenEncoder",
        home + "sparse_token_pooling.SparseTokenPooling",
    )
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{names[i - 1]}" if i else "", "type": types[i]}
        for i in range(3)
    ]
    model = {"model_type": "SparseEncoder", "prompts": {}, "similarity_fn_name": "dot"}
    for name, content in (("modules", modules), ("config_sentence_transformers", model)):
        (folder / f"{name}.json").unlink()
        (folder / f"{name}.json").write_text(json.dumps(content))
    settings = {
        "input_dim": source.config.d_in, "hidden_dim": source.config.n_latents,
        "k": source.config.k, "variant": "standard", "output_format": "topk",
        "replace_token_embeddings": False, "checkpoint_format_version": 1, "has_decoder": False,
        "k_aux": 512, "frozen": False, "rms_scale": None, "token_batch_size": None,
    }  # fmt: skip
    pooling = {
        "embedding_dimension": source.config.n_latents, "pooling_strategy": "sum",
        "include_prompt": True, "values_key": "token_sparse_values",
        "indices_key": "token_sparse_indices",
    }  # fmt: skip
    for place, content in ((1, settings), (2, pooling)):
        (folder / modules[place]["path"]).mkdir()
        (folder / modules[place]["path"] / "config.json").write_text(json.dumps(content))
    weights = {
        name: tensor.contiguous()
        for name, tensor in source.state_dict().items()
        if name != "document_frequency"
    }
    save_file(weights, folder / modules[1]["path"] / "model.safetensors")
    return folder


def test_a_folder_of_the_pull_request(tmp_path: Path, encoder: LatentEncoder) -> None:
    folder = pull_request_folder(tmp_path / "pr", TokenAutoencoder.load(SHIPPED_MODEL))
    loaded = LatentEncoder.load(folder, device="cpu", dtype="float32")
    assert loaded.fingerprint == encoder.fingerprint
    assert loaded.name == "pr"
    equal(load_sparse_encoder(folder, device="cpu"), encoder)
    change(folder / "2_SparseTokenPooling" / "config.json", pooling_strategy="max")
    assert LatentEncoder.load(folder, device="cpu", dtype="float32").pooling == "max"

    # In the pull request, prompts count by default, and `max_active_dims` is per token.
    settings = folder / "config_sentence_transformers.json"
    change(settings, prompts={"query": "query: "}, max_active_dims=3)
    with pytest.raises(
        ModelError, match=r"2_SparseTokenPooling.config\.json: include_prompt is true"
    ):
        LatentEncoder.load(folder)
    change(folder / "2_SparseTokenPooling" / "config.json", include_prompt=False)
    prompted = LatentEncoder.load(folder, device="cpu", dtype="float32")
    assert (prompted.k, prompted.backbone.prompts) == (3, {"query": "query: "})
    equal(load_sparse_encoder(folder, device="cpu"), prompted)


def test_prompts_must_be_those_of_the_backbone(tmp_path: Path) -> None:
    folder = toy_model(tmp_path / "model", toy_backbone(tmp_path / "backbone"))
    change(folder / "config_sentence_transformers.json", prompts={"query": "query: "})
    with pytest.raises(ModelError, match="but an index uses those of the backbone, none; make"):
        LatentEncoder.load(folder)
    prompts = json.dumps({"prompts": {"query": "query: "}})
    (tmp_path / "backbone" / "config_sentence_transformers.json").write_text(prompts)
    encoder = LatentEncoder.load(folder, device="cpu", dtype="float32")
    assert encoder.backbone.prompts == {"query": "query: "}


@pytest.mark.parametrize(
    ("kinds", "what"),
    [
        (["MLMTransformer", "SpladePooling"], "a SPLADE model (MLMTransformer, SpladePooling)"),
        (["Transformer", "Pooling", "SparseAutoEncoder"], "a CSR model"),
        (["Transformer", "Pooling", "Normalize"], "a dense model (Transformer, Pooling, Norm"),
        (["Transformer", "MultiVectorMask"], "a late-interaction model"),
        (
            ["Router"],
            "a model of several ways to encode, such as inference-free SPLADE (Router)",
        ),
        (["WordWeights"], "another model (WordWeights)"),
    ],
)
def test_another_kind_of_model_is_named(tmp_path: Path, kinds: list[str], what: str) -> None:
    modules = [{"path": "", "type": f"sentence_transformers.x.{kind}"} for kind in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    for load in (LatentEncoder.load, TokenAutoencoder.load, load_sparse_encoder):
        with pytest.raises(ModelError) as caught:
            load(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}: not a model of latent terms, but {what}")
        assert "\n" not in str(caught.value)
    done = CliRunner().invoke(cli, ["inspect", str(tmp_path), "--text", "x"])
    assert done.exit_code == 1
    assert what in done.output
    assert "Traceback" not in done.output


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        load_sparse_encoder(tmp_path / "nowhere")
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"modules\.json: not a sentence-transformers model"):
        LatentEncoder.load(tmp_path)
    folder = pull_request_folder(tmp_path / "pr", TokenAutoencoder(AutoencoderConfig(384, 32, 4)))
    (folder / "2_SparseTokenPooling" / "config.json").write_text("no")
    for load in (LatentEncoder.load, load_sparse_encoder):
        with pytest.raises(ModelError, match=r"2_SparseTokenPooling.config\.json: cannot be read"):
            load(folder)
    (folder / "1_SparseAutoEncoderTokenEncoder" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"TokenEncoder.config\.json: no such file"):
        load_sparse_encoder(folder)
    TokenAutoencoder(AutoencoderConfig(384, 32, 4)).save(tmp_path / "bare")
    with pytest.raises(
        ModelError, match=r"bare: no model_type SparseEncoder in config_sentence_tr"
    ):
        load_sparse_encoder(tmp_path / "bare")


def test_without_the_library_one_line_names_the_extra() -> None:
    code = (
        "import importlib.metadata as m\n"
        "def none(name): raise m.PackageNotFoundError(name)\n"
        "m.version = none\n"
        "import latent_ingest.connector.sentence_transformers"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: sentence-transformers is missing; "
        "pip install 'latent-ingest[sentence-transformers]' installs it"
    )


@pytest.mark.parametrize("version", ["5.1.2", "7.0.0"])
def test_another_version_of_the_library_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(ImportError, match=rf"sentence-transformers {version} is not su") as error:
        importlib.reload(latent_ingest.connector.sentence_transformers)
    assert "latent-ingest[sentence-transformers]" in str(error.value)
