"""Collections whose ids the engine makes: every document at least once, and doubles are found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tenacity
from click.testing import CliRunner, Result
from faults import FaultProxy, Spoiling
from lines import adds_up, failures, line
from opensearchpy import OpenSearch

from latent_ingest.cli.main import cli
from latent_ingest.connector import client as client_module
from latent_ingest.connector.client import Connection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing import bulk, patience
from latent_ingest.connector.indexing.index import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.verify import Verification

DOCUMENTS = 120
WANTED = {"ids": "engine"}


def copies(client: OpenSearch, index: str) -> Counter[str]:
    client.indices.refresh(index=index)
    found = client.search(index=index, body={"size": 10_000, "_source": ["latent_id"]})
    return Counter(hit["_source"]["latent_id"] for hit in found["hits"]["hits"])


def test_documents_are_there_at_least_once_and_verify_finds_the_doubles(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "MAX_DOCUMENTS", 3)
    monkeypatch.setattr(patience, "WAIT", tenacity.wait_random(0, 0.02))
    monkeypatch.setattr(client_module, "REQUEST_SECONDS", 0.6)
    rows = [line(str(n), documents[n % len(documents)]["text"][:60]) for n in range(DOCUMENTS)]
    Path("c.jsonl").write_text("\n".join(rows))
    meta = open_index(client, index, encoder, WANTED)
    proxy = FaultProxy(opensearch_url, seed=1, timeout=0.6)
    with proxy.listening() as url:
        report = Ingest(Connection(url).open(), index, encoder, meta, "c.jsonl").run()
    assert adds_up(report)
    assert (report.indexed, report.failed, report.repeated) == (DOCUMENTS, 0, 0)

    there = copies(client, index)
    assert there.keys() == {str(n) for n in range(DOCUMENTS)}
    doubles = {identifier for identifier, number in there.items() if number > 1}
    assert doubles, proxy.injected
    verified = Verification(client, index, meta, "c.jsonl").run()
    assert (verified.same, verified.doubled.count) == (DOCUMENTS, len(doubles))
    assert (verified.missing.count, verified.different.count, verified.extra.count) == (0, 0, 0)
    assert not verified.ok


def test_lines_with_one_id_are_all_there(
    client: OpenSearch, index: str, encoder: LatentEncoder, load: Any
) -> None:
    report = load(
        client, index, [line("a", "bees"), line("b", "ants"), line("a", "wasps")], wanted=WANTED
    )
    assert adds_up(report)
    assert (report.indexed, report.replaced, report.repeated) == (3, 0, 1)
    assert copies(client, index) == {"a": 2, "b": 1}
    meta = open_index(client, index, encoder, {})
    assert Verification(client, index, meta, "corpus.jsonl").run().ok

    rows = [line("a", "bees"), line("b", "flies"), line("c", "moths"), line("a", "hornets")]
    Path("other.jsonl").write_text("\n".join(rows))
    verified = Verification(client, index, meta, "other.jsonl").run()
    assert (verified.same, verified.different.count, verified.missing.count) == (1, 2, 1)
    assert (verified.extra.count, verified.doubled.count) == (0, 0)

    Path("one.jsonl").write_text(line("a", "bees"))
    verified = Verification(client, index, meta, "one.jsonl").run()
    assert (verified.same, verified.doubled.count, verified.extra.count) == (1, 1, 1)
    assert verified.doubled.examples == ["document 'a' is there 2 times, 1 in the file"]


class Refusing(Spoiling):
    """A collection that makes its ids itself."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if "_bulk" in self.path and b'"_id"' in body:
            error = {
                "type": "illegal_argument_exception",
                "reason": "Document ID is not supported in create/index operation request",
            }
            items = [{"index": {"status": 400, "error": error}}] * (body.count(b"\n") // 2)
            self.give(200, json.dumps({"items": items}).encode(), "application/json")
        else:
            self.give(*self.forward(body))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST


def test_a_collection_that_refuses_ids(
    client: OpenSearch, opensearch_url: str, new_index: Any, load: Any
) -> None:
    proxy = FaultProxy(opensearch_url, seed=1)
    with proxy.listening(Refusing) as url:
        refusing = Connection(url).open()
        report = load(refusing, new_index(), [line("a"), line("b")])
        assert (report.indexed, report.failed) == (0, 2)
        assert "makes ids itself: ingest with --ids engine" in str(failures(report)[0])
        index = new_index()
        report = load(refusing, index, [line("a"), line("b")], wanted=WANTED)
        assert (report.indexed, report.failed) == (2, 0)
    assert copies(client, index) == {"a": 1, "b": 1}


def test_the_commands(
    client: OpenSearch,
    opensearch_url: str,
    index: str,
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ingest", "search", "evaluate"):
        monkeypatch.setattr(f"latent_ingest.cli.{name}.load_encoder", lambda *_: encoder)

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [*arguments, "--index", index, "--url", opensearch_url])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    Path("c.jsonl").write_text(line("bees", "the dance of bees") + "\n" + line("ants", "ants"))
    done = run("c.jsonl", "--ids", "engine")
    assert "a document may be there twice when a request or this run is cut" in done.stderr
    assert "is exactly c.jsonl" in run("verify", "c.jsonl").stdout
    hits = run("search", "how do bees tell others of flowers").stdout.splitlines()
    assert hits[0].split()[2] == "bees"

    for again in ([], ["--restart"]):
        refused = run("c.jsonl", *again, code=2)
        assert f"c.jsonl was ingested into {index} before" in refused.stderr
    assert copies(client, index) == {"bees": 1, "ants": 1}
    assert (
        "made with ids 'engine', not 'document'"
        in run("c.jsonl", "--ids", "document", code=1).stderr
    )

    Path("queries.jsonl").write_text(line("q", "bees"))
    Path("corpus.jsonl").write_text(line("bees", "the dance of bees"))
    Path("qrels").mkdir()
    Path("qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tbees\t1\n")
    refused = run("evaluate", ".", code=1)
    assert f"the engine makes the ids of {index}" in refused.stderr


def test_chunks_need_ids(client: OpenSearch, index: str, encoder: LatentEncoder) -> None:
    with pytest.raises(InputError, match=r"chunks are found by ids of ours; use --long pool"):
        open_index(client, index, encoder, {"ids": "engine", "long": "chunks"})
