"""Token projections: Dense modules after the backbone, as in ColBERT-style models."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from latent_ingest.connector.encoding.model_folder import read_json, read_modules
from latent_ingest.connector.errors import ModelError

ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}


def load_projection(folder: Path) -> nn.Sequential:
    """The token projections of a backbone, in order; empty if it has none.

    Raises:
        ModelError: a module's files are missing or broken, or it is of an unsupported kind.
    """
    layers = [layer for path in projection_paths(folder) for layer in dense(folder / path)]
    return nn.Sequential(*layers)


def projected_width(projection: nn.Sequential, width: int, name: str) -> int:
    """Width of token embeddings of `width` after the projections of backbone `name`.

    Raises:
        ModelError: a projection is for another width.
    """
    for layer in projection:
        if isinstance(layer, nn.Linear):
            if layer.in_features != width:
                raise ModelError(
                    f"{name}: its Dense module takes {layer.in_features} dimensions, but token "
                    f"embeddings have {width}; use a folder whose modules fit"
                )
            width = layer.out_features
    return width


def projection_paths(folder: Path) -> list[str]:
    """Folders of the Dense modules that a sentence-transformers model has before any pooling.

    These follow the transformer in modules.json and work on each token; a Dense module after the
    pooling works on the text's vector and is left out.
    """
    after = read_modules(folder)[1:]
    first = takewhile(lambda module: module.kind == "Dense", after)
    return [str(module.folder.relative_to(folder)) for module in first]


def dense(folder: Path) -> tuple[nn.Linear, nn.Module]:
    """The linear layer and activation of a Dense module; raises ModelError."""
    try:
        config = read_json(folder / "config.json")
        name = str(config.get("activation_function", "Identity")).rsplit(".", 1)[-1]
        weights = read_weights(folder)
        linear = nn.Linear(
            config["in_features"], config["out_features"], bias="linear.bias" in weights
        )
        linear.load_state_dict({key.removeprefix("linear."): t for key, t in weights.items()})
    except (OSError, RuntimeError, ValueError, KeyError, ModelError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a Dense module: {error}") from error
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ModelError(f"{folder}: activation {name} is not supported; use one of {known}")
    if config.get("use_residual"):
        raise ModelError(f"{folder}: a Dense module with use_residual is not supported")
    return linear, ACTIVATIONS[name]()


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights in model.safetensors or, if that is missing, pytorch_model.bin."""
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    stored: dict[str, torch.Tensor] = torch.load(
        folder / "pytorch_model.bin", map_location="cpu", weights_only=True
    )
    return stored
