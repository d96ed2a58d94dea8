"""`latent-ingest models`: what model folders have, and one line for what is no model."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from toys import toy_backbone, toy_model

from latent_ingest.cli.main import cli
from latent_ingest.connector.diagnosis.models import summaries
from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODELS
from latent_ingest.connector.errors import ModelError


def said(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["models", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("name", "backbone", "dimensions", "weights", "words"),
    [
        ("minilm-32k", "sentence-transformers/all-MiniLM-L6-v2", 384, "float16", 91_188),
        ("mpnet-32k", "sentence-transformers/all-mpnet-base-v2", 768, "int8", 61_806),
    ],
)
def test_what_ships_is_listed_with_what_its_folder_states(
    name: str, backbone: str, dimensions: int, weights: str, words: int
) -> None:
    found = json.loads(said("--json"))["models"]
    assert [each["name"] for each in found] == ["minilm-32k", "mpnet-32k"]
    (shipped,) = [each for each in found if each["name"] == name]
    folder = SHIPPED_MODELS / name
    about = json.loads((folder / "about.json").read_text())
    assert shipped["quality"] == about["quality"]
    assert shipped["licence"] == about["licence"]
    assert (shipped["backbone"], shipped["dimensions"]) == (backbone, dimensions)
    assert (shipped["latents"], shipped["k"], shipped["weights"]) == (32768, 16, weights)
    assert shipped["bytes"] > (folder / "model.safetensors").stat().st_size
    assert shipped["question_words"] == words
    shown = said()
    assert backbone in shown
    for row in about["quality"]:
        assert f"{row['measure']} {row['collection']}: latent {row['latent']:.4f}" in shown


def test_the_figures_that_are_stated_are_those_of_the_docs(root: Path) -> None:
    lines = (root / "docs" / "evaluation.md").read_text().replace("**", "").splitlines()
    for each in summaries():
        assert each.quality
        for row in each.quality:
            name = row["collection"].removesuffix(" test")
            for system in ("words", "latent", "hybrid"):
                figure = f"{row[system]:.4f}".lstrip("0")
                assert any(line.startswith(f"| {name} | {system} | {figure} |") for line in lines)


def test_models_in_a_folder_are_listed(tmp_path: Path) -> None:
    backbone = toy_backbone(tmp_path / "backbone")
    for name in ("a", "b"):
        toy_model(tmp_path / "models" / name, backbone)
    (tmp_path / "models" / "a" / "about.json").write_text('{"licence": {"texts": "CC0"}}')
    both = said(str(tmp_path / "models"))
    assert "a: licence: texts CC0" in both
    assert "b: licence: not stated" in both
    assert "quality: not stated; measure it" in both
    (only,) = json.loads(said(str(tmp_path / "models" / "b"), "--json"))["models"]
    assert (only["name"], only["backbone"]) == ("b", str(backbone))
    assert only["question_words"] is None
    assert (only["weights"], only["dimensions"], only["latents"]) == ("float16", 16, 32)
    config = AutoencoderConfig(d_in=16, n_latents=8, k=2)
    TokenAutoencoder(config).save(tmp_path / "models" / "c", int8=True)
    assert summaries(tmp_path / "models" / "c")[0].weights == "int8"
    # Versions before int8 refuse every setting that they do not know.
    stored = json.loads((tmp_path / "models" / "c" / "config.json").read_text())
    assert stored.keys() - {field.name for field in fields(AutoencoderConfig)} == {"weights"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none: no such model folder"),
        ("empty", "empty/config.json: no such file; a model folder has one"),
        ("backbone", "config.json: not of an autoencoder"),
        ("broken", "about.json: cannot be read"),
        ("list", "about.json: not an object of licence, quality, measured_by"),
        ("odd", "about.json: quality is not a list of objects"),
        ("table", "questions.safetensors: cannot be read"),
    ],
)
def test_what_is_no_model_is_said_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    backbone = toy_backbone(tmp_path / "backbone")
    contents = {"broken": "{", "list": "[]", "odd": '{"quality": [1]}'}
    for other in (*contents, "table"):
        toy_model(tmp_path / other, backbone)
        if other in contents:
            (tmp_path / other / "about.json").write_text(contents[other])
    (tmp_path / "table" / "questions.safetensors").write_bytes(b"x" * 20)
    done = CliRunner().invoke(cli, ["models", name])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert message in line


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = TokenAutoencoder(AutoencoderConfig(d_in=16, n_latents=8, k=2))
    model.W_enc.data[3, 5] = float("nan")
    model.save(tmp_path / "m")
    with pytest.raises(ModelError, match=r"model.safetensors: W_enc has NaN or infinity; use"):
        TokenAutoencoder.load(tmp_path / "m")
