"""Labels: what latents mean, in words; stored in the model's folder."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

from latent_ingest.connector.encoding.model_folder import find_autoencoder
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.files import disk_errors, unwritable, write_atomically

LABELS_FILE = "labels.json"

# How to fix a model folder that cannot be written.
FIX = "copy the model's folder to a place of your own and name that"


def read_labels(folder: Path, fingerprint: str | None = None) -> dict[int, str]:
    """The labels in a model folder, by latent; empty if it has no labels.json.

    The file is one written by `write_labels`, or simply an object of latents and labels.

    Raises:
        ModelError: the file has no labels, or those of an autoencoder with another fingerprint.
    """
    path = labels_file(folder)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        labels = stored.get("labels", stored)
        made_by = stored.get("fingerprint")
        found = {int(latent): str(label) for latent, label in labels.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{path}: not an object of latent numbers and labels ({error}); delete or correct it"
        ) from error
    if fingerprint and made_by not in (None, fingerprint):
        raise ModelError(
            f"{path}: labels of another model ({made_by}, this one is {fingerprint}); delete it, "
            f"or write new ones: latent-ingest inspect MODEL --write-labels"
        )
    return found


def write_labels(
    folder: Path, labels: Mapping[int, str], *, fingerprint: str, sample: Mapping[str, object]
) -> Path:
    """Store labels of an autoencoder in a model folder, and return the file.

    The sample they were made from is stored for information. Raises InputError if the file cannot
    be written.
    """
    path = labels_file(folder)
    content = {
        "fingerprint": fingerprint,
        "sample": dict(sample),
        "labels": {str(latent): labels[latent] for latent in sorted(labels)},
    }
    with disk_errors(path, FIX):
        write_atomically(path, json.dumps(content, indent=0) + "\n")
    return path


def check_writable(folder: Path) -> None:
    """Raise InputError if `write_labels` could not write; call it before the slow work."""
    path = labels_file(folder)
    effective = os.access in os.supports_effective_ids
    if not os.access(path.parent, os.W_OK, effective_ids=effective):
        raise unwritable(path, os.strerror(errno.EACCES), FIX)


def labels_file(folder: Path) -> Path:
    """Path of a model's labels: beside its autoencoder's weights.

    In a folder saved by a SparseEncoder these are in a subfolder.
    """
    return find_autoencoder(folder) / LABELS_FILE
