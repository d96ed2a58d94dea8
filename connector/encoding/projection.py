"""Projections of single tokens after the backbone, as ColBERT-style models have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from latent_ingest.connector.encoding.modules_json import read_modules
from latent_ingest.connector.errors import ModelError

ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}


def load_projection(folder: Path) -> nn.Sequential:
    """The Dense modules of a sentence-transformers folder that stand before any pooling.

    Those come first in modules.json, right after the transformer, and work on each token; a Dense
    after the pooling works on a text's vector and is left out. Empty where there is none.

    Raises:
        ModelError: a module's files are missing, broken or of a kind unknown here.
    """
    layers: list[nn.Module] = []
    for module in read_modules(folder)[1:]:
        if module.kind != "Dense":
            break
        layers += dense(module.folder)
    return nn.Sequential(*layers)


def dense(folder: Path) -> list[nn.Module]:
    """A linear layer and its activation."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = str(config.get("activation_function", "Identity")).rsplit(".", 1)[-1]
        weights = read_weights(folder)
        linear = nn.Linear(
            config["in_features"], config["out_features"], bias="linear.bias" in weights
        )
        linear.load_state_dict({key.removeprefix("linear."): t for key, t in weights.items()})
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a Dense module: {error}") from error
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ModelError(f"{folder}: activation {name} is unknown here; known are {known}")
    return [linear, ACTIVATIONS[name]()]


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of model.safetensors, or else of pytorch_model.bin."""
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    stored: dict[str, torch.Tensor] = torch.load(
        folder / "pytorch_model.bin", map_location="cpu", weights_only=True
    )
    return stored
