"""Which parts a folder has: modules.json, as sentence-transformers writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_ingest.connector.errors import ModelError

TOKEN_ENCODER = "SparseAutoEncoderTokenEncoder"
TOKEN_POOLING = "SparseTokenPooling"

# Where this package's modules are; sentence-transformers imports them by these names.
ROOM = "latent_ingest.connector.sentence_transformers"

# Settings of a whole model.
MODEL_SETTINGS = "config_sentence_transformers.json"

# What a prompt is called for each kind of text, the first that is there.
PROMPT_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}

# What other models of sentence-transformers are, by the module that tells.
OTHER_KINDS = {
    "Router": "a model of several ways to encode, such as inference-free SPLADE",
    "SpladePooling": "a SPLADE model",
    "SparseAutoEncoder": "a CSR model, an autoencoder over whole texts",
    "Pooling": "a dense model",
    "MultiVectorMask": "a late-interaction model",
}


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One module of a model."""

    type: str
    """Its class, and where that is."""
    folder: Path

    @property
    def kind(self) -> str:
        """Name of its class."""
        return self.type.rsplit(".", 1)[-1]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or an empty one when there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    return content if isinstance(content, dict) else {}


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
            ModuleEntry(str(entry["type"]), folder / str(entry["path"]))
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


def pooling_file(folder: Path) -> Path | None:
    """Where settings of the module that pools token latents are; none where there is none."""
    modules = [module for module in read_modules(folder) if module.kind == TOKEN_POOLING]
    return modules[0].folder / "config.json" if modules else None


def find_pooling(folder: Path) -> dict[str, Any]:
    """Settings of the module that pools token latents; empty where there is none.

    Raises:
        ModelError: they cannot be read.
    """
    path = pooling_file(folder)
    if path is None:
        return {}
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    return settings


def latents_a_token(folder: Path) -> int | None:
    """`max_active_dims` of a model of the pull request, where it is what `k` is here; none of
    others, where it is a number of latents of a whole text."""
    for module in read_modules(folder):
        if module.kind == TOKEN_ENCODER and not module.type.startswith(ROOM):
            return read_json(folder / MODEL_SETTINGS).get("max_active_dims")
    return None


def read_prompts(folder: Path) -> dict[str, str]:
    """Prompts for "query" and "document", by the names that sentence-transformers looks for.

    Its `default_prompt_name` is of other kinds of text: it always has a prompt for these two.
    """
    config = read_json(folder / MODEL_SETTINGS)
    stored, found = config.get("prompts") or {}, {}
    for kind, names in PROMPT_NAMES.items():
        named = [name for name in names if name in stored]
        if named and stored[named[0]]:
            found[kind] = str(stored[named[0]])
    return found


def check_settings(folder: Path, prompts: Mapping[str, str]) -> None:
    """Refuse settings of a SparseEncoder by which it has other vectors than an index.

    Args:
        folder: of the model.
        prompts: of its backbone.

    Raises:
        ModelError: there is such a setting.
    """
    stored = read_prompts(folder)
    if pooling_file(folder) and stored != prompts:
        raise ModelError(
            f"{folder / MODEL_SETTINGS}: prompts are {stored or 'none'}, but an index has those of "
            f"the backbone, {prompts or 'none'}; make them alike"
        )
    pooling = find_pooling(folder)
    file = pooling_file(folder)
    if prompts and pooling.get("include_prompt"):
        raise ModelError(
            f"{file}: include_prompt is true, but prompts do not count in an index; set it to false"
        )
    if (special := pooling.get("special_tokens")) is not None:
        raise ModelError(
            f"{file}: special_tokens is {special}, but they do not count in an index; take it out"
        )
    file = folder / MODEL_SETTINGS
    most = read_json(file).get("max_active_dims")
    if most is not None and latents_a_token(folder) is None:
        raise ModelError(
            f"{file}: max_active_dims is {most}, but all latents of a text count in an index; "
            f"take it out, or lower k"
        )


def write_modules(
    folder: Path,
    *,
    n_latents: int,
    pooling: str,
    prompts: dict[str, str],
    projections: Sequence[str] = (),
) -> None:
    """Let sentence-transformers load a folder that holds an autoencoder and names its backbone.

    Args:
        folder: with config.json and model.safetensors of the autoencoder.
        n_latents: of it.
        pooling: of it.
        prompts: of the backbone.
        projections: folders in the backbone's that hold its projections of tokens, in order.
    """
    pooled = f"{len(projections) + 2}_{TOKEN_POOLING}"
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{ROOM}.{name}"}
        for number, (path, name) in enumerate(
            [
                ("", "backbone_transformer.BackboneTransformer"),
                *((path, "backbone_transformer.BackboneDense") for path in projections),
                ("", f"token_encoder.{TOKEN_ENCODER}"),
                (pooled, f"token_pooling.{TOKEN_POOLING}"),
            ]
        )
    ]
    settings = {
        "embedding_dimension": n_latents,
        "pooling_strategy": pooling,
        "include_prompt": False,
    }
    model = {"model_type": "SparseEncoder", "prompts": prompts, "similarity_fn_name": "dot"}
    (folder / pooled).mkdir(exist_ok=True)
    for path, content in {
        "modules.json": modules,
        f"{pooled}/config.json": settings,
        MODEL_SETTINGS: model,
    }.items():
        (folder / path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
