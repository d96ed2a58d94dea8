"""Model folders: what each has, read from its own files; no backbone is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_ingest.connector.encoding.autoencoder import read_config
from latent_ingest.connector.encoding.model_folder import (
    SHIPPED_MODELS,
    find_autoencoder,
    model_path,
    read_json,
)
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.questions.question_table import FILE, QuestionTable

# File in a model folder with what cannot be read from its other files, an object:
# "licence": name → licence of a part of the model;
# "quality": objects of "collection", "measure", and figures by system;
# "measured_by": the command that printed the figures.
ABOUT = "about.json"


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What a model folder has."""

    name: str
    folder: str
    backbone: str
    dimensions: int
    """Width of a token embedding."""
    latents: int
    k: int
    """Active latents per token."""
    weights: str
    """"int8" or "float16"."""
    bytes: int
    """Size of all files in the folder."""
    question_words: int | None
    """Words in the question table; None without one."""
    licence: Mapping[str, str]
    """Part of the model → its licence, as `ABOUT` states it; empty if it does not."""
    quality: list[dict[str, Any]]
    """Measured figures, as `ABOUT` states them; empty if it does not."""
    measured_by: str
    """The command that printed the figures; empty if that is not stated."""


def summaries(folder: Path | None = None) -> list[ModelSummary]:
    """The models in a folder, or those in this package; `folder` may be a model itself.

    Raises:
        ModelError: there is none, or a file of one is broken.
    """
    if folder is None:
        return [summary(path) for path in folders_in(SHIPPED_MODELS)]
    path = model_path(folder)
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; see 'latent-ingest models'")
    inside = [] if is_model(path) else [each for each in folders_in(path) if is_model(each)]
    return [summary(each) for each in inside] or [summary(path)]


def folders_in(folder: Path) -> list[Path]:
    """Folders in a folder that have a config.json, by name."""
    return sorted(path.parent for path in folder.glob("*/config.json"))


def is_model(folder: Path) -> bool:
    """Whether the folder is a model of latent terms, by its config.json."""
    try:
        read_config(folder)
    except ModelError:
        return False
    return True


def summary(folder: Path) -> ModelSummary:
    """What one model folder has; raises ModelError if it is no model, or a file is broken."""
    config = read_config(folder)
    stated = read_json(find_autoencoder(folder) / "config.json")
    about = read_about(folder)
    table = QuestionTable.load(folder) if (folder / FILE).is_file() else None
    return ModelSummary(
        name=folder.resolve().name,
        folder=str(folder),
        backbone=config.backbone,
        dimensions=config.d_in,
        latents=config.n_latents,
        k=config.k,
        weights=stated.get("weights", "float16"),
        bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        question_words=len(table.words) if table else None,
        licence=about.get("licence", {}),
        quality=about.get("quality", []),
        measured_by=about.get("measured_by", ""),
    )


def read_about(folder: Path) -> dict[str, Any]:
    """The content of `ABOUT`; empty without the file, ModelError if it is not as described."""
    path = folder / ABOUT
    if not path.is_file():
        return {}
    content = read_json(path)
    kinds = {"licence": dict, "quality": list, "measured_by": str}
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not an object of {', '.join(kinds)}; correct or delete it")
    for key, kind in kinds.items():
        if not isinstance(content.get(key, kind()), kind):
            what = {dict: "an object", list: "a list of objects", str: "a text"}[kind]
            raise ModelError(f"{path}: {key} is not {what}; correct or delete the file")
    if not all(isinstance(row, dict) for row in content.get("quality", [])):
        raise ModelError(f"{path}: quality is not a list of objects; correct or delete the file")
    return content
