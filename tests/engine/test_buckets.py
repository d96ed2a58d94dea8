"""Corpora in buckets, from a real server of S3 into a real engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import Result
from killed import Killed
from opensearchpy import OpenSearch
from s3_server import S3

from latent_ingest.connector.index.index import Index

Run = Callable[..., Result]

NUMBER = 60

# In batches of four documents, killed before the eighth request.
KILLED = Killed(
    "opensearchpy.OpenSearch.bulk",
    call=8,
    constants={"latent_ingest.connector.indexing.batches.MAX_BATCH_LINES": 4},
)


@pytest.fixture
def pattern(s3: S3, bucket: str, documents: list[dict[str, str]]) -> str:
    """Three Parquet files of 20 documents, and another file."""
    files = {"corpus/README.md": b"about"}
    for number, name in enumerate("abc"):
        rows = documents[number * 20 : (number + 1) * 20]
        output = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), output)
        files[f"corpus/{name}.parquet"] = bytes(output.getvalue())
    s3.fill(bucket, files)
    return f"s3://{bucket}/corpus/*.parquet"


def check(run: Run, pattern: str, index: str, *options: str) -> None:
    compared = run("verify", pattern, "--index", index, "--json", *options)
    assert compared.exit_code == 0, compared.stderr
    report = json.loads(compared.stdout)
    assert (report["same"], report["lines"], report["extra"]["count"]) == (NUMBER, NUMBER, 0)


def test_a_corpus_of_a_bucket_is_ingested_and_compared(
    run: Run, index: str, pattern: str, s3: S3, bucket: str
) -> None:
    done = run(pattern, "--index", index, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["indexed"], report["lines"]) == (NUMBER, NUMBER)
    check(run, pattern, index)
    check(run, f"s3://{bucket}/corpus", index)
    s3.put(bucket, "corpus/d.jsonl", b'{"_id": "new", "text": "bees"}\n')
    assert run("verify", f"s3://{bucket}/corpus/d.jsonl", "--index", index).exit_code == 1
    mixed = run(f"s3://{bucket}/corpus", "--index", index)
    assert mixed.exit_code == 2
    assert "files of different kinds" in mixed.stderr


def test_shards_of_a_corpus_of_a_bucket(
    run: Run, client: OpenSearch, index: str, pattern: str
) -> None:
    lines = []
    for number in (1, 2):
        done = run(pattern, "--index", index, "--shard", f"{number}/2", "--json")
        assert done.exit_code == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["indexed"] + report["of_other_shards"] == report["lines"] == NUMBER
        lines.append(report["indexed"])
    assert sum(lines) == NUMBER
    check(run, pattern, index)
    assert Index(client, index).meta().loading is None


def test_what_a_bucket_holds_can_be_looked_at_first(run: Run, pattern: str) -> None:
    shown = run(pattern, "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.count('"latent"') == 3
    planned = run("plan", pattern, "--json")
    assert planned.exit_code == 0, planned.stderr
    assert json.loads(planned.stdout)["documents"] == NUMBER


def test_a_bucket_that_cannot_be_read_ends_the_command_with_one_line(
    run: Run,
    client: OpenSearch,
    index: str,
    pattern: str,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("a.jsonl").write_text('{"_id": "a", "text": "bees"}\n')
    assert run("a.jsonl", "--index", index).exit_code == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    for command in (
        [pattern, "--index", index],
        [pattern, "--index", index, "--on", "ray"],
        ["verify", pattern, "--index", index],
        ["train", pattern, "--out", "model"],
        ["plan", pattern],
    ):
        done = run(*command)
        assert done.exit_code == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert f"s3://{bucket}/corpus/*.parquet: could not be downloaded: access denied" in line
    client.indices.refresh(index=index)
    assert client.count(index=index)["count"] == 1


@pytest.mark.slow
def test_a_killed_run_resumes(run: Run, index: str, pattern: str) -> None:
    command = [pattern, "--index", index, "--no-questions"]
    KILLED.run(*command)
    done = run(*command, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert 0 < report["resumed_after"] < NUMBER == report["indexed"] == report["lines"]
    check(run, pattern, index)
