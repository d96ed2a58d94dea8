"""Model folders: their modules (modules.json, as in sentence-transformers) and settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from latent_ingest.connector.errors import ModelError

SHIPPED_MODELS = Path(__file__).parent.parent / "models"
SHIPPED_MODEL = SHIPPED_MODELS / "minilm-32k"

TOKEN_ENCODER = "SparseAutoEncoderTokenEncoder"
TOKEN_POOLING = "SparseTokenPooling"

# Package of the module classes; sentence-transformers imports them by these names.
PACKAGE = "latent_ingest.connector.sentence_transformers"

# File with the settings of a whole model.
MODEL_SETTINGS = "config_sentence_transformers.json"

# Names of the prompt for each kind of text; the first one present is used.
PROMPT_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}

# Module class → the kind of model that has it, for models that are not ours.
OTHER_KINDS = {
    "Router": "a model of several ways to encode, such as inference-free SPLADE",
    "SpladePooling": "a SPLADE model",
    "SparseAutoEncoder": "a CSR model, an autoencoder over whole texts",
    "Pooling": "a dense model",
    "MultiVectorMask": "a late-interaction model",
}


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One entry of modules.json."""

    type: str
    """The module's class, with its package."""
    folder: Path

    @property
    def kind(self) -> str:
        """Name of the class alone."""
        return kind_of(self.type)


def kind_of(type_: str) -> str:
    """Name of a class without its package."""
    return type_.rpartition(".")[2]


def model_path(model: str | Path | None) -> Path:
    """Folder of a model that is given by its folder, or by the name of one in this package.

    By default that of minilm-32k. A folder of that name comes first.
    """
    if model is None:
        return SHIPPED_MODEL
    named = SHIPPED_MODELS / model
    bare = named.parent == SHIPPED_MODELS and (named / "config.json").is_file()
    return named if bare and not Path(model).is_dir() else Path(model)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise ModelError if the file that the block reads is missing or broken."""
    try:
        yield
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder has one") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises ModelError if it is missing or not JSON."""
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, indented."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file, or no object in it."""
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def read_modules(folder: Path) -> list[ModuleEntry]:
    """The modules of a model folder, in order; empty if it has no modules.json."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        return [
            ModuleEntry(str(entry["type"]), folder / str(entry["path"]))
            for entry in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a sentence-transformers model: {error!r}") from error


def find_autoencoder(folder: Path) -> Path:
    """Folder of the autoencoder's files; raises ModelError if the model is of another kind."""
    modules = read_modules(folder)
    if not modules:
        return folder
    for module in modules:
        if module.kind == TOKEN_ENCODER:
            return module.folder
    kinds = [module.kind for module in modules]
    what = next((what for kind, what in OTHER_KINDS.items() if kind in kinds), "another model")
    raise ModelError(
        f"{folder}: not a model of latent terms, but {what} ({', '.join(kinds)}); "
        f"use a folder made by 'latent-ingest train' or with a {TOKEN_ENCODER}"
    )


def pooling_file(folder: Path) -> Path | None:
    """Settings file of the module that pools latents; None if there is no such module."""
    for module in read_modules(folder):
        if module.kind == TOKEN_POOLING:
            return module.folder / "config.json"
    return None


def find_pooling(folder: Path) -> dict[str, Any]:
    """Settings of the module that pools latents; empty if there is no such module."""
    path = pooling_file(folder)
    return read_json(path) if path else {}


def latents_per_token(folder: Path) -> int | None:
    """`max_active_dims` of a model made with the pull request, where it means `k`.

    None for other models, where it is a number of latents for a whole text.
    """
    for module in read_modules(folder):
        if module.kind == TOKEN_ENCODER and not module.type.startswith(PACKAGE):
            return read_settings(folder / MODEL_SETTINGS).get("max_active_dims")
    return None


def read_prompts(folder: Path) -> dict[str, str]:
    """Prompts for "query" and "document", by the names that sentence-transformers uses.

    `default_prompt_name` is ignored: it concerns other kinds of text, not these two. The mark of a
    late-interaction model stands before its prompt.
    """
    settings = read_settings(folder / MODEL_SETTINGS)
    stored, marks = settings.get("prompts") or {}, read_marks(folder)
    found = {}
    for kind, names in PROMPT_NAMES.items():
        prompt = next((str(stored[name]) for name in names if stored.get(name)), "")
        mark = marks.get(kind, "")
        if mark or prompt:
            found[kind] = mark + prompt.removeprefix(mark)
    return found


def read_marks(folder: Path) -> dict[str, str]:
    """Marks such as "[Q] " that a late-interaction model puts before a "query" or a "document"."""
    settings = read_settings(folder / MODEL_SETTINGS)
    named = {kind: settings.get(f"{kind}_prefix") for kind in PROMPT_NAMES}
    return {kind: str(mark) for kind, mark in named.items() if mark}


def check_settings(folder: Path, prompts: Mapping[str, str]) -> None:
    """Raise ModelError if a SparseEncoder would give other vectors than an index has.

    `prompts` are those of the backbone.
    """
    stored, file = read_prompts(folder), pooling_file(folder)
    if file and stored != prompts:
        raise ModelError(
            f"{folder / MODEL_SETTINGS}: prompts are {stored or 'none'}, but an index uses those "
            f"of the backbone, {prompts or 'none'}; make them equal"
        )
    pooling = find_pooling(folder)
    if prompts and pooling.get("include_prompt"):
        raise ModelError(
            f"{file}: include_prompt is true, but an index does not count prompts; set it to false"
        )
    if (special := pooling.get("special_tokens")) is not None:
        raise ModelError(
            f"{file}: special_tokens is {special}, but an index does not count them; remove it"
        )
    file = folder / MODEL_SETTINGS
    most = read_settings(file).get("max_active_dims")
    if most is not None and latents_per_token(folder) is None:
        raise ModelError(
            f"{file}: max_active_dims is {most}, but an index counts all latents of a text; "
            f"remove it, or lower k"
        )


def write_modules(
    folder: Path,
    *,
    n_latents: int,
    pooling: str,
    prompts: dict[str, str],
    projections: Sequence[str] = (),
) -> None:
    """Write modules.json and settings, so that sentence-transformers can load the folder.

    `projections` are folders of the backbone's token projections, relative to it, in order.
    """
    pooled = f"{len(projections) + 2}_{TOKEN_POOLING}"
    classes = [
        ("", "backbone_transformer.BackboneTransformer"),
        *((path, "backbone_transformer.BackboneDense") for path in projections),
        ("", f"token_encoder.{TOKEN_ENCODER}"),
        (pooled, f"token_pooling.{TOKEN_POOLING}"),
    ]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{PACKAGE}.{name}"}
        for number, (path, name) in enumerate(classes)
    ]
    settings = {
        "embedding_dimension": n_latents,
        "pooling_strategy": pooling,
        "include_prompt": False,
    }
    model = {"model_type": "SparseEncoder", "prompts": prompts, "similarity_fn_name": "dot"}
    (folder / pooled).mkdir(exist_ok=True)
    write_json(folder / "modules.json", modules)
    write_json(folder / pooled / "config.json", settings)
    write_json(folder / MODEL_SETTINGS, model)
