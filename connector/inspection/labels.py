"""What latents mean, in words: labels that go with a model, or the question's own words."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from latent_ingest.connector.encoding.model_folder import find_autoencoder
from latent_ingest.connector.encoding.words import word_spans
from latent_ingest.connector.errors import InputError, ModelError

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

LABELS_FILE = "labels.json"

# Words of the question that stand for a latent that has no label.
MOST_WORDS = 3


def read_labels(folder: Path, fingerprint: str | None = None) -> dict[int, str]:
    """The labels in a model folder, by latent; none where it has no labels.json.

    The file is what `write_labels` writes, or simply an object of latent numbers and labels.

    Args:
        folder: of the model.
        fingerprint: of its autoencoder; labels of another one are refused, where the file says
            whose they are.

    Raises:
        ModelError: the file holds no labels, or those of another model.
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
            f"{path}: not an object of latent numbers and labels ({error}); delete it or mend it"
        ) from error
    if fingerprint and made_by not in (None, fingerprint):
        raise ModelError(
            f"{path}: labels of another model ({made_by}, this one is {fingerprint}); delete it, "
            f"or write it anew: latent-ingest inspect {folder} --write-labels"
        )
    return found


def write_labels(
    folder: Path, labels: Mapping[int, str], *, fingerprint: str, sample: Mapping[str, object]
) -> Path:
    """Store labels with a model.

    Args:
        folder: of the model.
        labels: by latent.
        fingerprint: of its autoencoder.
        sample: what they were made of, for people.

    Returns:
        The file.

    Raises:
        InputError: it cannot be written.
    """
    path = labels_file(folder)
    content = {
        "fingerprint": fingerprint,
        "sample": dict(sample),
        "labels": {str(latent): labels[latent] for latent in sorted(labels)},
    }
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(unwritable(path, error.strerror)) from error
    return path


def check_writable(folder: Path) -> None:
    """Raise InputError where `write_labels` cannot write; it is cheap, the labels are not."""
    path = labels_file(folder)
    effective = os.access in os.supports_effective_ids
    if not os.access(path.parent, os.W_OK, effective_ids=effective):
        raise InputError(unwritable(path, os.strerror(errno.EACCES)))


def labels_file(folder: Path) -> Path:
    """Where a model's labels are: beside its autoencoder's weights, which in a folder that a
    SparseEncoder saved are in one of their own."""
    return find_autoencoder(folder) / LABELS_FILE


def unwritable(path: Path, reason: str | None) -> str:
    """One line on a file that cannot be made."""
    return f"{path}: cannot be written: {reason}; copy the folder to one of your own and name that"


def firing_words(encoder: LatentEncoder, question: str) -> Mapping[int, str]:
    """Of each latent of a question, the words that fire it, the strongest first.

    Raises:
        ModelError: the backbone gives NaN.
    """
    (tokens,) = encoder.encode_tokens([question], kind="query")
    words, places = word_spans(question, tokens.spans)
    strength: dict[int, dict[str, float]] = {}
    rows = zip(places.tolist(), tokens.latents, tokens.activations, strict=True)
    for place, latents, activations in rows:
        word = question[slice(*words[place])].lower()
        for latent, activation in zip(latents.tolist(), activations.tolist(), strict=True):
            if activation > 0:
                of = strength.setdefault(latent, {})
                of[word] = of.get(word, 0.0) + activation
    return {
        latent: ", ".join(sorted(of, key=lambda word: -of[word])[:MOST_WORDS])
        for latent, of in strength.items()
    }
