"""Projections of single tokens after the backbone, as ColBERT-style models have them."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from latent_ingest.connector.encoding.model_folder import read_modules
from latent_ingest.connector.errors import ModelError

ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}


def load_projection(folder: Path) -> nn.Sequential:
    """The projections of a backbone, one after the other; empty where there is none.

    Raises:
        ModelError: a module's files are missing, broken or of a kind unknown here.
    """
    layers = [layer for path in projection_paths(folder) for layer in dense(folder / path)]
    return nn.Sequential(*layers)


def projection_paths(folder: Path) -> list[str]:
    """Where in a sentence-transformers folder the Dense modules are that stand before any pooling.

    Those come first in modules.json, right after the transformer, and work on each token; a Dense
    after the pooling works on a text's vector and is left out.
    """
    after = read_modules(folder)[1:]
    first = takewhile(lambda module: module.kind == "Dense", after)
    return [str(module.folder.relative_to(folder)) for module in first]


def dense(folder: Path) -> tuple[nn.Linear, nn.Module]:
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
    if config.get("use_residual"):
        raise ModelError(f"{folder}: a Dense module with use_residual is unknown here")
    return linear, ACTIVATIONS[name]()


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of model.safetensors, or else of pytorch_model.bin."""
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    stored: dict[str, torch.Tensor] = torch.load(
        folder / "pytorch_model.bin", map_location="cpu", weights_only=True
    )
    return stored
