"""What the image without PyTorch installs is enough for the proxy and the page by table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
from proxy_page.conftest import asking

from latent_ingest.connector.engine.local import free_port


@pytest.mark.slow
def test_the_table_variant_serves(
    root: Path, wheel: Path, tmp_path: Path, opensearch_url: str, papers: str
) -> None:
    """The commands of the Dockerfile's stage `build-table`, and of its image."""
    pytest.importorskip("tomllib")  # in Python 3.11, as in the image
    script = [sys.executable, str(root / "docker/requirements.py"), str(root / "pyproject.toml")]
    wanted = tmp_path / "requirements.txt"
    wanted.write_text(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "latent")], check=True)
    for what in (
        ["-c", str(root / "constraints.txt"), "-r", str(wanted)],
        ["--no-deps", str(wheel)],
    ):
        command = [str(tmp_path / "latent/bin/pip"), "install", "-q", *what]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    code = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('transformers'))"
    python = [str(tmp_path / "latent/bin/python"), "-c", code]
    assert subprocess.run(python, capture_output=True, text=True).stdout == "None None\n"
    print("installed:", size(tmp_path / "latent") // 10**6, "MB")
    port = free_port()
    options = ["--questions", "table", "--no-documents", "--port", str(port)]
    command = [str(tmp_path / "latent/bin/latent-ingest"), "serve", "--url", opensearch_url]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            ready(url)
            hits = ask(url, "search", asking(papers))["columns"]["hybrid"]["hits"]
            assert hits
            content = asking(papers, hits=hits[:3])
            assert len(ask(url, "passages", content)["passages"]) == 3
            why = ask(url, "explain", asking(papers, column="hybrid", hit=hits[0]))
            assert why["score"] == pytest.approx(hits[0]["score"], rel=1e-5)
            body = {"query": {"match": {"text": asking(papers)["question"]}}}
            answer = urllib3.request("POST", f"{url}/{papers}/_search", json=body)
            assert answer.headers["x-latent"].startswith("rewritten; form=hybrid")
        finally:
            process.terminate()
    assert process.returncode == 0


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ready(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            if urllib3.request("GET", f"{url}/_latent/ready", retries=False).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            pass
        assert time.monotonic() < end, "not ready"
        time.sleep(0.1)


def ask(url: str, path: str, content: Any) -> Any:
    answer = urllib3.request("POST", f"{url}/_latent/api/{path}", json=content)
    assert answer.status == 200, answer.data
    return json.loads(answer.data)
