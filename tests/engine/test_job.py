"""Jobs from Python, which the commands use, and the examples of docs/python.md."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lines import adds_up, line
from opensearchpy import OpenSearch
from shop import make

from latent_ingest.connector import EnrichJob, IngestJob, IngestReport, InputError, JobResult
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.indexing import batches


@pytest.fixture
def alias(client: OpenSearch) -> Iterator[str]:
    """A name whose versions are gone after the test."""
    name = f"latent-ingest-test-{uuid.uuid4().hex[:12]}"
    yield name
    client.indices.delete(index=f"{name}-*")


def test_the_examples_of_the_documentation_run(
    root: Path, client: OpenSearch, opensearch_url: str, index: str, capsys: Any
) -> None:
    text = (root / "docs/python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    Path("corpus.jsonl").write_text("".join(line(name) + "\n" for name in "abc") + "no json\n")
    names: dict[str, Any] = {}

    def run(job: str) -> list[str]:
        (block,) = [block for block in blocks if f"{job}(" in block]
        for written, here in {"http://localhost:9200": opensearch_url, "papers": index}.items():
            block = block.replace(written, here)
        exec(compile(block, "docs/python.md", "exec"), names)
        return str(capsys.readouterr().out).splitlines()

    first, *_, last, result = run("IngestJob")
    assert (first, last) == ("0 documents", "3 documents")
    assert "corpus.failed.jsonl" in result
    client.update(index=index, id="a", body={"doc": {"text": "wasps"}}, refresh=True)
    assert run("EnrichJob")[-1] == "1 encoded 2 up to date"


def test_a_version_takes_its_alias_once_every_line_is_in_it(
    client: OpenSearch, alias: str, encoder: LatentEncoder
) -> None:
    def ingest() -> JobResult[IngestReport]:
        return IngestJob(client, "c.jsonl", alias=alias, encoder=encoder).run()

    Path("c.jsonl").write_text(line("a"))
    result = ingest()
    assert result.ok
    assert (result.alias, result.before, result.refusal) == (alias, None, None)
    assert list(client.indices.get_alias(name=alias)) == [result.index] == [f"{alias}-minilm-32k-1"]
    Path("c.jsonl").write_text(line("a") + "\nno json")
    second = ingest()
    assert second.report.failed == 1
    assert not second.ok
    assert second.before == result.index
    assert f"alias {alias} still points at {result.index}" in (second.refusal or "")
    assert second.to_json()["alias_moved"] is False
    assert list(client.indices.get_alias(name=alias)) == [result.index]


def test_a_job_that_was_stopped_is_resumed_by_another(
    client: OpenSearch, index: str, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_LINES", 4)
    rows = [json.dumps({"_id": str(n), "text": f"text {n}"}) for n in range(30)]
    Path("c.jsonl").write_text("\n".join(rows))

    def job() -> IngestJob:
        return IngestJob(client, "c.jsonl", index=index, encoder=encoder, concurrency=1)

    first = job()
    result = first.run(lambda report, _: first.stop() if report.lines else None)
    assert result.report.stopped == "interrupted"
    assert not result.ok
    assert adds_up(result.report)
    result = job().run()
    assert result.ok
    assert 0 < result.report.resumed_after < 30
    assert result.report.indexed == client.count(index=index)["count"] == 30
    assert result.to_json().keys() == result.report.to_json().keys()


def test_a_job_that_is_stopped_before_its_run_indexes_nothing(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    Path("c.jsonl").write_text(line("a"))
    job = IngestJob(client, "c.jsonl", index=index, encoder=encoder)
    result = job.run(lambda report, _: job.stop())
    assert (result.report.stopped, result.report.indexed) == ("interrupted", 0)


def test_what_is_wrong_is_said_before_the_model_is_loaded(client: OpenSearch) -> None:
    def load() -> LatentEncoder:
        raise AssertionError

    with pytest.raises(InputError, match="no such file"):
        IngestJob(client, "c.jsonl", index="papers", encoder=load)
    Path("c.jsonl").write_text(line("a"))
    with pytest.raises(InputError, match="give index or alias, not both"):
        IngestJob(client, "c.jsonl", index="papers", alias="papers", encoder=load)
    with pytest.raises(InputError, match="cannot be written"):
        IngestJob(client, "c.jsonl", encoder=load, failures=Path("none/f.jsonl"))
    with pytest.raises(InputError, match="no index not-there; check --index"):
        EnrichJob(client, "not-there", encoder=load).run()
    with pytest.raises(InputError, match="restart is for an alias"):
        EnrichJob(client, "not-there", encoder=load, restart=True)


def test_a_refused_confirmation_leaves_the_index_as_it_is(
    client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    make(client, index, [{"_id": "a", "title": "bees"}])
    before = client.indices.get(index=index)

    def refuse(warning: str) -> None:
        assert f"index {index} will be closed for a moment" in warning
        raise InputError("not now")

    with pytest.raises(InputError, match="not now"):
        EnrichJob(client, index, encoder=encoder, text_fields=["title"]).run(confirm=refuse)
    assert client.indices.get(index=index) == before
