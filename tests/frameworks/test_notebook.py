"""The notebook in docs/ runs from its first cell to its last, and finds by meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the extra 'dev' is not installed")


def test_the_notebook_is_committed_without_outputs(root: Path) -> None:
    book = nbformat.read(root / "docs" / "search-by-meaning.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) > 4
    assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.slow
def test_the_notebook_runs(root: Path, tmp_path: Path) -> None:
    from nbclient import NotebookClient

    book = nbformat.read(root / "docs" / "search-by-meaning.ipynb", as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    table = printed[printed.rindex("find files whose names look like a pattern") :].splitlines()
    words, latent, hybrid = table[2].split()
    assert latent == "fnmatch.fnmatch"
    assert words != latent
    assert hybrid
    assert outputs[-1]["data"]["text/plain"] == "'random.Random.shuffle'"
