"""The checkpoint of a training run: one file, replaced atomically."""

from __future__ import annotations

import io
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.files import disk_errors, write_atomically

# Settings that may change when a run resumes: a lower rate helps when the loss is not finite.
MAY_CHANGE = ("learning_rate",)


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be the same when a run resumes."""

    settings: dict[str, Any]
    backbone: str
    """Fingerprint of the backbone's weights."""
    texts: str
    """`TrainingTexts.fingerprint`."""


class CheckpointFile:
    """The latest checkpoint of a run."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self._identity = identity

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; if this fails, the previous one stays complete.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        buffer = io.BytesIO()
        torch.save({**state, "identity": asdict(self._identity)}, buffer)
        advice = "the previous checkpoint is complete: make room and resume with --resume"
        with disk_errors(self.path, if_full=advice):
            write_atomically(self.path, buffer.getvalue())

    def load(self) -> dict[str, Any]:
        """The saved state, its tensors on the CPU.

        Raises:
            InputError: there is no checkpoint, it is broken, or it belongs to another run.
        """
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            stored = Identity(**state.pop("identity"))
        except FileNotFoundError:
            raise InputError(f"{self.path}: no checkpoint to resume; omit --resume") from None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
            raise InputError(f"{self.path}: broken ({type(error).__name__}); delete it") from error
        for name in ("backbone", "texts"):
            if getattr(stored, name) != getattr(self._identity, name):
                raise InputError(
                    f"{self.path}: the run was started with another {name}; resume with the same "
                    f"command, or delete {self.path.parent}"
                )
        for name, value in self._identity.settings.items():
            if name not in MAY_CHANGE and stored.settings.get(name) != value:
                raise InputError(
                    f"{self.path}: the run was started with {name} {stored.settings.get(name)}, "
                    f"not {value}; resume with the same command, or delete {self.path.parent}"
                )
        return state
