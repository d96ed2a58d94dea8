"""compose.yaml's healthcheck, outside Docker, against the engine of the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml


def test_the_healthcheck_passes_on_a_healthy_engine(root: Path, opensearch_url: str) -> None:
    service = yaml.safe_load((root / "compose.yaml").read_text())["services"]["opensearch"]
    script = service["healthcheck"]["test"][1].replace("$$", "$")
    done = subprocess.run(
        ["sh", "-c", script],
        env={**os.environ, "OPENSEARCH_URL": opensearch_url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '"status":"' in done.stdout
