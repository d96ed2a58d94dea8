"""The package from outside: public names, start-up, the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import latent_ingest.connector
import latent_ingest.mappings

PUBLIC = {
    "AsyncSearcher",
    "Connection",
    "EngineError",
    "EnrichJob",
    "Expansion",
    "Explanation",
    "Highlighter",
    "IndexMeta",
    "Ingest",
    "IngestJob",
    "IngestReport",
    "InputError",
    "JobResult",
    "LatentEncoder",
    "LatentIndex",
    "LatentIngestError",
    "LatentVectors",
    "LocalEngine",
    "MismatchError",
    "ModelError",
    "OnRay",
    "QueryEncoder",
    "QueryRewriter",
    "Reading",
    "RewriteReport",
    "Searcher",
    "explain",
    "hybrid_boost",
    "open_index",
    "terms",
}


def test_the_public_names_are_these() -> None:
    assert set(latent_ingest.connector.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(latent_ingest.connector, name).__doc__, name
    assert set(latent_ingest.mappings.__all__) == {
        "DEFAULT_B", "DEFAULT_K1", "IDS", "LATENT_FIELD", "LONG", "PARENT_FIELD",
            "SEARCH_ANALYZER", "WORDS_FIELD", "MappingConfig", "hash_field", "id_field",
            "index_body", "question_analysis",
        }  # fmt: skip
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = latent_ingest.connector.Nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "code",
    [
        "import latent_ingest.connector.indexing.ingest, latent_ingest.connector.querying.rewriter",
        "import latent_ingest.connector.evaluation.evaluation",
        "import latent_ingest.connector.evaluation.overlap",
        "import latent_ingest.connector.evaluation.page",
        "from latent_ingest.cli.main import cli; cli(['--help'], standalone_mode=False)",
        "from latent_ingest.cli.main import cli; cli(['search', '--help'], standalone_mode=False)",
        "from latent_ingest.cli.main import cli; cli(['explain', '--help'], standalone_mode=False)",
        "from latent_ingest.cli.main import cli; cli(['train', '--help'], standalone_mode=False)",
        "from latent_ingest.cli.main import cli; cli(['inspect', '--help'], standalone_mode=False)",
    ],
)
def test_help_and_the_rooms_beside_the_encoder_load_no_torch_or_parser(code: str) -> None:
    script = f"{code}\nimport sys; assert not sys.modules.keys() & {{'torch', 'luqum'}}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("chosen", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_of_commands_soon_sleep_while_they_wait_unless_asked_otherwise(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], spins: str
) -> None:
    """It is set before torch is imported, which reads it once."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    script = (
        "import os, sys; from latent_ingest.cli.main import cli;"
        "cli(['search', '--help'], standalone_mode=False); assert 'torch' not in sys.modules;"
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split()[-1] == spins, done.stderr


def test_encoding_never_imports_the_client() -> None:
    script = (
        "import latent_ingest.connector.encoding.encoder, sys;"
        "assert 'torch' in sys.modules; assert 'opensearchpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_our_package_and_nothing_generic(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"latent_ingest", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    seconds = {name.split("/")[1] for name in names if name.startswith("latent_ingest/")}
    assert seconds == {"cli", "connector", "mappings"}


def test_the_wheel_holds_every_module_the_mappings_and_the_model(wheel: Path, root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ("cli", "connector", "mappings"):
        files = [
            p
            for p in (root / room).rglob("*")
            if p.suffix in (".py", ".json", ".html", ".safetensors")
        ]
        assert len(files) > 2
        for file in files:
            assert f"latent_ingest/{file.relative_to(root)}" in names
        assert f"latent_ingest/{room}/py.typed" in names
    assert "latent_ingest/connector/models/minilm-32k/README.md" in names
    assert "latent_ingest/connector/inspection/page.html" in names
