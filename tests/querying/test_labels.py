"""labels.json: what it holds, whose it is, and where it cannot be written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.fingerprint import autoencoder_fingerprint
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.inspection.labels import (
    LABELS_FILE,
    check_writable,
    read_labels,
    write_labels,
)


def test_labels_of_another_model_are_refused(tmp_path: Path) -> None:
    labels = {7: "glob, pattern", 3: "naïve"}
    path = write_labels(tmp_path, labels, fingerprint="aa", sample={"tokens": 5})
    assert path == tmp_path / LABELS_FILE
    assert read_labels(tmp_path) == read_labels(tmp_path, "aa") == labels
    with pytest.raises(ModelError, match=r"labels of another model \(aa, this one is bb\); delete"):
        read_labels(tmp_path, "bb")
    assert [file.name for file in tmp_path.iterdir()] == [LABELS_FILE]
    path.write_text('{"12": "by hand"}')
    assert read_labels(tmp_path, "bb") == {12: "by hand"}
    path.write_text('{"fingerprint": "aa", "labels": ["x"]}')
    with pytest.raises(ModelError, match=r"not an object of latent numbers"):
        read_labels(tmp_path, "aa")


def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    """When it is written, and before all the work that comes first."""
    here = Path()  # relative, so that no folder above it is asked
    check_writable(here)
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # who may write anywhere
        os.seteuid(65534)
    refusal = r"labels.json: cannot be written: Permission denied; copy the model's folder"
    try:
        with pytest.raises(InputError, match=refusal):
            check_writable(here)
        with pytest.raises(InputError, match=refusal):
            write_labels(here, {}, fingerprint="aa", sample={})
    finally:
        if user == 0:
            os.seteuid(0)
        tmp_path.chmod(stat.S_IRWXU)


def test_the_shipped_model_has_labels(encoder: LatentEncoder) -> None:
    """Of words alone; they leave the model what it is."""
    path = SHIPPED_MODEL / LABELS_FILE
    assert path.stat().st_size <= 2_000_000
    own = encoder.fingerprint.autoencoder
    assert own == autoencoder_fingerprint(TokenAutoencoder.load(SHIPPED_MODEL))
    labels = read_labels(SHIPPED_MODEL, own)
    assert len(labels) > 0.7 * encoder.n_latents
    assert all(0 <= latent < encoder.n_latents for latent in labels)
    assert all(len(label.split(", ")) <= 3 and len(label) <= 130 for label in labels.values())
    assert labels[31342] == "patterns, pattern"
    stored = json.loads(path.read_text())
    assert stored["sample"]["tokens"] > 1_000_000
