"""The examples in docs/sentence-transformers.md run as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder


def test_the_examples_run(
    root: Path, tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (root / "docs" / "sentence-transformers.md").read_text()
    load, _, train = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(load, {})
    assert capsys.readouterr().out.startswith("torch.Size([32768]) True")
    (tmp_path / "texts.jsonl").write_bytes(corpus.read_bytes())
    found: dict[str, object] = {}
    exec(train, found)
    encoder = LatentEncoder.load(tmp_path / "my-model", device="cpu", dtype="float32")
    assert encoder.n_latents == 16384
