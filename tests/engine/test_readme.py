"""The README's Python, run as it stands against a real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from latent_ingest.connector.encoding.encoder import SHIPPED_MODEL, LatentEncoder


def test_the_python_of_the_readme_finds_its_document(
    root: Path, opensearch_url: str, client: Any, new_index: Any, load: Any, capsys: Any
) -> None:
    text = (root / "README.md").read_text()
    block, searcher, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    index = new_index()
    rows = {"bees": "Insects dance.", "falls": "Cholecalciferol lowers the risk of tumbling."}
    load(client, index, [json.dumps({"_id": name, "text": text}) for name, text in rows.items()])
    block = block.replace("http://localhost:9200", opensearch_url).replace('"papers"', f'"{index}"')
    exec(compile(block, "README.md", "exec"), {})
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[1] == "falls"

    for written, here in {
        "http://localhost:9200": opensearch_url,
        '"papers"': f'"{index}"',
        '"my-model"': "k=8",
    }.items():
        searcher = searcher.replace(written, here)
    names: dict[str, Any] = {}
    exec(compile(searcher, "README.md", "exec"), names)
    assert names["answer"]["hits"]["hits"][0]["_id"] == "falls"


def test_the_readmes_sparse_encoder_comes_back_the_same(root: Path, encoder: LatentEncoder) -> None:
    *_, block = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    assert "SparseEncoder" in block
    names: dict[str, Any] = {}
    exec(compile(block.replace("my-model", str(SHIPPED_MODEL)), "README.md", "exec"), names)
    assert names["vectors"].is_sparse
    assert LatentEncoder.load("published", dtype="float32").fingerprint == encoder.fingerprint
