"""Folders: written here and loaded there, and the other way round; and those of others."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from sentence_transformers import SparseEncoder
from sparse_encoder.models import dense

import latent_ingest.connector.sentence_transformers
from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import DEFAULT_BACKBONE, Backbone, find_folder
from latent_ingest.connector.encoding.encoder import SHIPPED_MODEL, LatentEncoder
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.sentence_transformers import load_sparse_encoder
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.texts import Source, TrainingTexts
from latent_ingest.connector.training.trainer import Trainer

TEXTS = ["Return the paths that match a pattern.", "Wait until the process ends.", "水"]


def equal(model: SparseEncoder, encoder: LatentEncoder) -> None:
    wanted = dense(encoder, TEXTS)
    assert wanted.any()
    got = model.encode_document(TEXTS).to_dense()
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_folder_of_train_loads_there_and_comes_back(
    backbone: Backbone, corpus: Path, tmp_path: Path
) -> None:
    config = TrainingConfig(
        n_latents=512, k=8, tokens=1500, batch_tokens=500, buffer_tokens=2000, held_out_texts=8
    )
    trainer = Trainer(backbone, TrainingTexts([Source(str(corpus))]), tmp_path / "model", config)
    trainer.write(trainer.run(), keep_decoder=True)
    encoder = LatentEncoder.load(tmp_path / "model", device="cpu", dtype="float32")
    model = SparseEncoder(str(tmp_path / "model"), trust_remote_code=True, device="cpu")
    equal(model, encoder)
    model.save_pretrained(str(tmp_path / "saved"))
    back = LatentEncoder.load(tmp_path / "saved", device="cpu", dtype="float32")
    assert back.fingerprint == encoder.fingerprint
    equal(SparseEncoder(str(tmp_path / "saved"), trust_remote_code=True, device="cpu"), back)
    equal(load_sparse_encoder(tmp_path / "saved", device="cpu"), back)
    assert TokenAutoencoder.load(tmp_path / "saved").W_dec is not None


def test_the_model_that_ships_loads_there(encoder: LatentEncoder) -> None:
    model = SparseEncoder(str(SHIPPED_MODEL), trust_remote_code=True, device="cpu")
    equal(model, encoder)
    assert model.get_embedding_dimension() == encoder.n_latents
    assert model.similarity_fn_name == "dot"


def pull_request_folder(folder: Path, source: TokenAutoencoder, **others: Any) -> Path:
    """As `SparseEncoder.save_pretrained` of pull request 3796 writes it."""
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
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules))
    settings = {
        "input_dim": source.config.d_in, "hidden_dim": source.config.n_latents,
        "k": source.config.k, "variant": "standard", "output_format": "topk",
        "replace_token_embeddings": False, "checkpoint_format_version": 1, "has_decoder": False,
        "k_aux": 512, "frozen": False, "rms_scale": None, "token_batch_size": None,
    }  # fmt: skip
    pooling = {
        "embedding_dimension": source.config.n_latents, "pooling_strategy": "sum",
        "include_prompt": True, "values_key": "token_sparse_values",
        "indices_key": "token_sparse_indices", **others,
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
    other = pull_request_folder(
        tmp_path / "max", TokenAutoencoder.load(SHIPPED_MODEL), pooling_strategy="max"
    )
    assert LatentEncoder.load(other, device="cpu", dtype="float32").pooling == "max"


@pytest.mark.parametrize(
    ("kinds", "what"),
    [
        (["MLMTransformer", "SpladePooling"], "a SPLADE model (MLMTransformer, SpladePooling)"),
        (["Transformer", "Pooling", "SparseAutoEncoder"], "a CSR model"),
        (["Transformer", "Pooling", "Normalize"], "a dense model (Transformer, Pooling, Norm"),
        (["Transformer", "MultiVectorMask"], "a late-interaction model"),
        (["WordWeights"], "another model (WordWeights)"),
    ],
)
def test_another_kind_of_model_is_named(tmp_path: Path, kinds: list[str], what: str) -> None:
    modules = [{"path": "", "type": f"sentence_transformers.x.{kind}"} for kind in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    for load in (LatentEncoder.load, TokenAutoencoder.load, load_sparse_encoder):
        with pytest.raises(ModelError) as caught:
            load(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}: no latent terms in it: it is {what}")
        assert "\n" not in str(caught.value)
    done = CliRunner().invoke(cli, ["inspect", str(tmp_path), "--text", "x"])
    assert done.exit_code == 1
    assert what in done.output
    assert "Traceback" not in done.output


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        load_sparse_encoder(tmp_path / "nowhere")
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"modules\.json: not of a sentence-transformers model"):
        LatentEncoder.load(tmp_path)
    folder = pull_request_folder(tmp_path / "pr", TokenAutoencoder.load(SHIPPED_MODEL))
    (folder / "2_SparseTokenPooling" / "config.json").write_text("no")
    with pytest.raises(ModelError, match=r"2_SparseTokenPooling.config\.json: cannot be read"):
        LatentEncoder.load(folder)
    (folder / "1_SparseAutoEncoderTokenEncoder" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"TokenEncoder.config\.json: no such file"):
        load_sparse_encoder(folder)


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
        "pip install 'latent-ingest[sentence-transformers]' brings it"
    )


@pytest.mark.parametrize("version", ["5.1.2", "7.0.0"])
def test_another_version_of_the_library_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(ImportError, match=rf"sentence-transformers {version} is not one") as error:
        importlib.reload(latent_ingest.connector.sentence_transformers)
    assert "latent-ingest[sentence-transformers]" in str(error.value)
