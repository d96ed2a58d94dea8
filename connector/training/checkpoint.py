"""The checkpoint of a training run: one file, replaced atomically."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.files import disk_errors, write_atomically

# Settings that may change when a run resumes: a lower rate helps when the loss is not finite.
MAY_CHANGE = ("learning_rate",)


def save_checkpoint(path: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace the checkpoint; if this raises InputError, the previous one stays complete.

    `identity` is what must be the same when the run resumes: fingerprints of "backbone" and
    "texts", and all "settings".
    """
    buffer = io.BytesIO()
    torch.save({**state, "identity": identity}, buffer)
    advice = "the previous checkpoint is complete: make room and resume with --resume"
    with disk_errors(path, if_full=advice):
        write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The saved state, its tensors on the CPU.

    Raises:
        InputError: it is missing or broken, or it belongs to another run.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stored = state.pop("identity")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
        raise InputError(f"{path}: broken ({type(error).__name__}); delete it") from error
    parts = ("backbone", "texts")
    differs = [f"another {name}" for name in parts if stored[name] != identity[name]]
    for name, value in identity["settings"].items():
        was = stored["settings"].get(name)
        if name not in MAY_CHANGE and was != value:
            differs.append(f"{name} {was}, not {value}")
    if differs:
        raise InputError(
            f"{path}: the run was started with {differs[0]}; resume with the same command, or "
            f"delete {path.parent}"
        )
    return state
