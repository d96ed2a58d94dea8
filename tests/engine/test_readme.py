"""The Python of README and docs, run as it stands against a real engine."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL

ROWS = {"bees": "Insects dance.", "42": "Cholecalciferol lowers the risk of tumbling."}

Names = dict[str, Any]


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page, in their order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def run(page: Path, replaced: dict[str, str]) -> Names:
    """Run the blocks of a page one after the other, and return the names that they leave.

    Args:
        page: README or a page of docs/. `await` outside a function is allowed.
        replaced: text of the page → what stands for it here.
    """
    names: Names = {}
    for block in blocks(page):
        for written, here in replaced.items():
            block = block.replace(written, here)
        code = compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(code, names)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(waiting)
    return names


@pytest.fixture
def papers(opensearch_url: str, client: Any, new_index: Any, load: Any) -> dict[str, str]:
    """An index of two documents, as what the pages call `papers`."""
    index = new_index()
    rows = [json.dumps({"_id": name, "text": text}) for name, text in ROWS.items()]
    load(client, index, rows)
    return {"http://localhost:9200": opensearch_url, '"papers"': f'"{index}"'}


def test_readme(root: Path, papers: dict[str, str], capsys: Any) -> None:
    assert len(blocks(root / "README.md")) == 1
    run(root / "README.md", papers)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[1] == "42"


def test_python(root: Path, papers: dict[str, str], capsys: Any) -> None:
    names = run(root / "docs" / "python.md", papers)
    assert len(blocks(root / "docs" / "python.md")) >= 2
    assert names["explanation"].matched
    assert "<em>" in capsys.readouterr().out


def test_aliases(root: Path, papers: dict[str, str]) -> None:
    names = run(root / "docs" / "aliases.md", {**papers, '"my-model"': "k=8"})
    assert names["answer"]["hits"]["hits"][0]["_id"] == "42"


def test_serving(root: Path, papers: dict[str, str], capsys: Any) -> None:
    """Both blocks: with threads, and on an event loop."""
    names = run(root / "docs" / "serving.md", papers)
    assert "CacheInfo(" in capsys.readouterr().out
    assert len(names["bodies"]) == 2
    assert names["answer"]["hits"]["hits"][0]["_id"] == "42"
    assert "query" in names["body"]


def test_rewriting(root: Path, papers: dict[str, str], capsys: Any) -> None:
    names = run(root / "docs" / "rewriting.md", papers)
    assert names["answer"]["hits"]["hits"][0]["_id"] == "42"
    assert "keep" in capsys.readouterr().out
    assert 0 < names["report"].rewritten[0].share <= 1


def test_feedback(root: Path, papers: dict[str, str], capsys: Any) -> None:
    names = run(root / "docs" / "feedback.md", papers)
    assert "42" in capsys.readouterr().out
    assert names["page"]["feedback"]["token"] == names["token"]
    assert names["answer"]["hits"]["hits"]


def test_frameworks(root: Path, papers: dict[str, str], new_index: Any, capsys: Any) -> None:
    """Each framework's block, over the same index; Haystack's makes its own."""
    names = run(root / "docs" / "frameworks.md", {**papers, '"notes"': f'"{new_index()}"'})
    assert capsys.readouterr().out.splitlines()[0].endswith("tumbling.")
    assert names["scores"].shape == (2, 1)
    assert [document.id for document in names["recent"]] == ["sun"]
    assert names["found"][0].content.startswith("Cholecalciferol")


def test_assistants(root: Path, papers: dict[str, str]) -> None:
    names = run(root / "docs" / "mcp.md", papers)
    assert [route.path for route in names["app"].routes] == ["/mcp"]


def test_a_sparse_encoder_comes_back_the_same(root: Path, encoder: LatentEncoder) -> None:
    """The second block of sentence-transformers.md; the others run in tests/sparse_encoder."""
    _, block, _ = blocks(root / "docs" / "sentence-transformers.md")
    assert "save_pretrained" in block
    names: Names = {}
    exec(compile(block.replace("my-model", str(SHIPPED_MODEL)), "page", "exec"), names)
    assert names["vectors"].is_sparse
    assert LatentEncoder.load("published", dtype="float32").fingerprint == encoder.fingerprint
