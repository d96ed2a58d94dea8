"""Where an interrupted run goes on: one file, replaced atomically."""

from __future__ import annotations

import io
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training.files import disk_errors, write_atomically

# Settings that a run may go on with another of: it is what helps against a loss that is not finite.
MAY_CHANGE = ("learning_rate",)


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be the same when a run goes on."""

    settings: dict[str, Any]
    backbone: str
    """Fingerprint of the weights."""
    texts: str
    """`TrainingTexts.fingerprint`"""


class CheckpointFile:
    """The last checkpoint of a run."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self._identity = identity

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; the one before stays whole when this fails.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        buffer = io.BytesIO()
        torch.save({**state, "identity": asdict(self._identity)}, buffer)
        mend = "the checkpoint before is whole: make room and go on with --resume"
        with disk_errors(self.path, mend):
            write_atomically(self.path, buffer.getvalue())

    def load(self) -> dict[str, Any]:
        """The state that was saved, its tensors on the CPU.

        Raises:
            InputError: there is none, it is broken, or it is of another run.
        """
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            stored = Identity(**state.pop("identity"))
        except FileNotFoundError:
            raise InputError(f"{self.path}: no checkpoint to resume; leave --resume out") from None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
            raise InputError(f"{self.path}: broken ({type(error).__name__}); delete it") from error
        for name in ("backbone", "texts"):
            if getattr(stored, name) != getattr(self._identity, name):
                raise InputError(
                    f"{self.path}: of other {name}; resume with the same command, or delete "
                    f"{self.path.parent}"
                )
        for name, value in self._identity.settings.items():
            if name not in MAY_CHANGE and stored.settings.get(name) != value:
                raise InputError(
                    f"{self.path}: of a run with {name} {stored.settings.get(name)}, not {value}; "
                    f"resume with the same command, or delete {self.path.parent}"
                )
        return state
