"""The examples of docs/files.md run as they stand there, with --dry-run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from s3_server import S3

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder


def test_every_example_reads_its_files(
    root: Path, encoder: LatentEncoder, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encoder
    for variable, value in s3.environment.items():
        monkeypatch.setenv(variable, value)
    page = (root / "docs" / "files.md").read_text()
    for name, content in re.findall(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)```", page, re.M | re.S):
        Path(name).write_text(content)
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    (code,) = [block for block in blocks if "pyarrow" in block]
    exec(code, {})
    Path("data").mkdir()
    Path("data/corpus.jsonl").write_text(Path("corpus.jsonl").read_text())
    Path("more.jsonl").write_text('{"_id": "3", "text": "Wasps sting."}\n')
    rows = [json.loads(line) for line in Path("corpus.jsonl").read_text().splitlines()]
    output = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), output)
    s3.fill("bucket", {"corpus/part-1.parquet": bytes(output.getvalue())})
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    lines = [line for block in blocks for line in block.splitlines() if "hf://" not in line]
    assert len(lines) > 10
    for line in lines:
        arguments = shlex.split(line.partition("| ")[2] or line)[1:]
        given = Path("articles.csv").read_text() if arguments[0] == "-" else None
        done = CliRunner().invoke(cli, [*arguments, "--dry-run"], input=given)
        assert done.exit_code == 0, f"{line}: {done.stderr}"
        shown = [json.loads(row) for row in done.stdout.splitlines()]
        assert len(shown) in (4, 6), line
        assert all(row["latent"] and row["text"] for row in shown[1::2]), line
        assert not any("headline" in row for row in shown[1::2]), line
