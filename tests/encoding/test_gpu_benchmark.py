"""The benchmark for a bare GPU machine runs, small, without a client of an engine."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

RUN = """
import runpy, sys
sys.modules.update(dict.fromkeys(("opensearchpy", "tenacity")))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def test_gpu_benchmark(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.jsonl.gz", tmp_path / "cpu.json"
    with gzip.open(texts, "wt", encoding="utf-8") as lines:
        for number in range(3):
            lines.write(json.dumps({"text": f"Heart valve {number} was replaced. " * 30}) + "\n")
    script = str(ROOT / "benchmarks" / "gpu.py")
    command = [sys.executable, "-c", RUN, script, str(texts), "--small", "--device", "cpu"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert list(figures)[-5:] == ["encode", "shares", "top_k", "equality", "training"]
    assert figures["encode"]["budget 2048"]["tokens"] > 300
    assert sum(figures["shares"]["share"].values()) > 0.999
    assert figures["top_k"]["same values"]
    assert all(figures["top_k"]["same values"].values())
    assert figures["equality"]["float32"]["counts_of_a_document"] > 0.99
    assert figures["equality"]["float32"]["latents_of_a_token"] > 0.99
    assert figures["training"]["batch 256"]["tokens_per_s"] > 0
