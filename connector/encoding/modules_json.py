"""Which parts a folder has: modules.json, as sentence-transformers writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_ingest.connector.errors import ModelError

TOKEN_ENCODER = "SparseAutoEncoderTokenEncoder"
TOKEN_POOLING = "SparseTokenPooling"

# Where this package's modules are; sentence-transformers imports them by these names.
ROOM = "latent_ingest.connector.sentence_transformers"

# What other models of sentence-transformers are, by the module that tells.
OTHER_KINDS = {
    "SpladePooling": "a SPLADE model",
    "SparseAutoEncoder": "a CSR model, an autoencoder over whole texts",
    "Pooling": "a dense model",
    "MultiVectorMask": "a late-interaction model",
}


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One module of a model."""

    kind: str
    """Name of its class, without where that is."""
    folder: Path


def read_modules(folder: Path) -> list[ModuleEntry]:
    """The modules of a model folder, in order; none where there is no modules.json.

    Raises:
        ModelError: the file is not one of sentence-transformers.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        return [
            ModuleEntry(str(entry["type"]).rsplit(".", 1)[-1], folder / str(entry["path"]))
            for entry in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not of a sentence-transformers model: {error!r}") from error


def find_autoencoder(folder: Path) -> Path:
    """Where in a model folder config.json and weights of the autoencoder are.

    Raises:
        ModelError: it is a folder of sentence-transformers, but of another kind of model.
    """
    modules = read_modules(folder)
    if not modules:
        return folder
    for module in modules:
        if module.kind == TOKEN_ENCODER:
            return module.folder
    kinds = [module.kind for module in modules]
    what = next((what for kind, what in OTHER_KINDS.items() if kind in kinds), "another model")
    raise ModelError(
        f"{folder}: no latent terms in it: it is {what} ({', '.join(kinds)}); "
        f"give a folder made by 'latent-ingest train' or with a {TOKEN_ENCODER}"
    )


def find_pooling(folder: Path) -> dict[str, Any]:
    """Settings of the module that pools token latents; empty where there is none.

    Raises:
        ModelError: they cannot be read.
    """
    for module in read_modules(folder):
        path = module.folder / "config.json"
        if module.kind == TOKEN_POOLING:
            try:
                settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ModelError(f"{path}: cannot be read: {error}") from error
            return settings
    return {}


def write_modules(folder: Path, *, n_latents: int, pooling: str, prompts: dict[str, str]) -> None:
    """Let sentence-transformers load a folder that holds an autoencoder and names its backbone.

    Args:
        folder: with config.json and model.safetensors of the autoencoder.
        n_latents: of it.
        pooling: of it.
        prompts: of the backbone.
    """
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{ROOM}.{name}"}
        for number, (path, name) in enumerate(
            [
                ("", "backbone_transformer.BackboneTransformer"),
                ("", f"token_encoder.{TOKEN_ENCODER}"),
                (f"2_{TOKEN_POOLING}", f"token_pooling.{TOKEN_POOLING}"),
            ]
        )
    ]
    settings = {
        "embedding_dimension": n_latents,
        "pooling_strategy": pooling,
        "include_prompt": False,
    }
    model = {"model_type": "SparseEncoder", "prompts": prompts, "similarity_fn_name": "dot"}
    (folder / f"2_{TOKEN_POOLING}").mkdir(exist_ok=True)
    for path, content in {
        "modules.json": modules,
        f"2_{TOKEN_POOLING}/config.json": settings,
        "config_sentence_transformers.json": model,
    }.items():
        (folder / path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
