"""Collections whose ids the engine makes: every document at least once, and doubles are found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity
from click.testing import CliRunner, Result
from faults import FaultProxy, Spoiling
from lines import adds_up, line
from opensearchpy import OpenSearch
from serverless import Serverless, WithoutIds

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import client as client_module
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing import batches, sender
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.verify import Verification

DOCUMENTS = 120
WANTED = {"ids": "engine"}


Run = Callable[..., Result]


@pytest.fixture
def run(opensearch_url: str, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The commands, with four documents a request."""
    monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda _: encoder)
    monkeypatch.setattr(batches, "MAX_BATCH_LINES", 4)

    def invoke(*arguments: str, code: int = 0, url: str = opensearch_url) -> Result:
        urls = () if arguments[0] == "runs" else ("--url", url)
        result = CliRunner().invoke(cli, [*arguments, *urls])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return invoke


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
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 3)
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_random(0, 0.02))
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
    verified = Verification(Index(client, index), "c.jsonl").run()
    assert (verified.same, verified.doubled.count) == (DOCUMENTS, len(doubles))
    assert (verified.missing.count, verified.different.count, verified.extra.count) == (0, 0, 0)
    assert not verified.ok


def test_lines_with_one_id_are_all_there(client: OpenSearch, index: str, load: Any) -> None:
    report = load(
        client, index, [line("a", "bees"), line("b", "ants"), line("a", "wasps")], wanted=WANTED
    )
    assert adds_up(report)
    assert (report.indexed, report.replaced, report.repeated) == (3, 0, 1)
    assert copies(client, index) == {"a": 2, "b": 1}
    assert Verification(Index(client, index), "corpus.jsonl").run().ok

    rows = [line("a", "bees"), line("b", "flies"), line("c", "moths"), line("a", "hornets")]
    Path("other.jsonl").write_text("\n".join(rows))
    verified = Verification(Index(client, index), "other.jsonl").run()
    assert (verified.same, verified.different.count, verified.missing.count) == (1, 2, 1)
    assert (verified.extra.count, verified.doubled.count) == (0, 0)

    Path("one.jsonl").write_text(line("a", "bees"))
    verified = Verification(Index(client, index), "one.jsonl").run()
    assert (verified.same, verified.doubled.count, verified.extra.count) == (1, 1, 1)
    assert verified.doubled.examples == ["document 'a' is in the index 2 times, 1 in the file"]


def test_a_collection_that_refuses_ids(
    client: OpenSearch, opensearch_url: str, new_index: Any, load: Any, run: Run
) -> None:
    proxy = FaultProxy(opensearch_url, seed=1)
    with proxy.listening(WithoutIds) as url:
        refusing = Connection(url).open()
        report = load(refusing, new_index(), [line("a"), line("b")])
        assert adds_up(report)
        assert (report.indexed, report.failed, report.not_sent) == (0, 0, 2)
        assert report.stopped is not None
        assert "Document ID is not supported" in report.stopped
        assert "delete the index and ingest with --ids engine" in report.stopped
        index = new_index()
        done = run("corpus.jsonl", "--index", index, "--ids", "engine", "--json", url=url)
        report = json.loads(done.stdout)
        assert (report["indexed"], report["failed"], report["bytes_a_document"]) == (2, 0, None)
        assert EngineInfo.read(refusing).keeps_k1_factor
    assert copies(client, index) == {"a": 1, "b": 1}


@pytest.mark.question_tables
def test_a_collection_that_takes_ids_and_lacks_much(
    client: OpenSearch, opensearch_url: str, index: str, run: Run
) -> None:
    """What docs/hosted.md says of it: each command works, or says in a line why it does not."""
    rows = [line("bees", "the dance of bees"), line("ants", "ants follow a trail")]
    Path("c.jsonl").write_text("\n".join(rows))
    proxy = FaultProxy(opensearch_url, seed=1)
    here = ("--index", index)
    with proxy.listening(Serverless) as url:
        done = run("c.jsonl", *here, "--no-questions", "--json", url=url)
        assert json.loads(done.stdout)["indexed"] == 2
        client.indices.refresh(index=index)
        assert "is exactly c.jsonl" in run("verify", "c.jsonl", *here, url=url).stdout
        for form in ("auto", "latent", "hybrid_two_phase"):
            found = run("search", "how do bees tell of flowers", *here, "--form", form, url=url)
            assert found.stdout.splitlines()[0].split()[2] == "bees"
        assert run("explain", "bees", *here, "--id", "bees", url=url).stdout
        doctor = run("doctor", *here, "--json", url=url)
        states = {one["check"]: one["state"] for one in json.loads(doctor.stdout)["findings"]}
        assert states["model"] == "ok"
        assert "unknown" in states.values()
        assert "problem" not in states.values()
        refused = run("questions", *here, "--yes", url=url, code=1)
        assert len(refused.stderr.strip().splitlines()[-1:]) == 1


class Losing(Spoiling):
    """From the third bulk request on, the engine takes it and the answer is lost or a refusal."""

    refusing = False
    bulks = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        answered = self.forward(body)
        if "_bulk" in self.path:
            with self.proxy._lock:
                type(self).bulks += 1
            if type(self).bulks == 3 and not self.refusing:
                self.reset()
                return
            if type(self).bulks >= 3 and self.refusing:
                answered = 403, b"{}", "application/json"
        self.give(*answered)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST


class Refused(Losing):
    """The same, and the run ends."""

    refusing = True


def test_the_commands(client: OpenSearch, index: str, run: Run) -> None:
    here = ("--index", index)
    Path("c.jsonl").write_text(line("bees", "the dance of bees") + "\n" + line("ants", "ants"))
    done = run("c.jsonl", *here, "--ids", "engine")
    assert done.stderr.count("may be there twice if a request or this run is interrupted") == 1
    assert f"index {index} is exactly c.jsonl" in run("verify", "c.jsonl", *here).stdout
    question = "how do bees tell others of flowers"
    hits = run("search", question, *here, "--form", "latent").stdout.splitlines()
    assert hits[0].split()[2] == "bees"
    found = run("explain", question, *here, "--id", "bees").stdout
    assert found.startswith(f"bees in {index}, hybrid: ")
    assert "no document 'wasps'" in run("explain", "bees", *here, "--id", "wasps", code=2).stderr

    for again in ([], ["--restart"]):
        refused = run("c.jsonl", *here, *again, code=2)
        assert f"the engine makes the ids of {index}, which has documents" in refused.stderr
        assert f"{index}: done" in run("runs").stdout
    assert copies(client, index) == {"bees": 1, "ants": 1}
    assert (
        "made with ids 'engine', not 'document'"
        in run("c.jsonl", *here, "--ids", "document", code=1).stderr
    )
    (hit,) = client.search(index=index, q="latent_id:ants")["hits"]["hits"]
    client.update(index=index, id=hit["_id"], body={"doc": {"text": "wasps"}}, refresh=True)
    Path("c.jsonl").write_text(line("bees", "the dance of bees") + "\n" + line("ants", "wasps"))
    assert "stale: 1\n" in run("verify", "c.jsonl", *here, code=1).stdout
    assert "1 document encoded" in run("enrich", *here).stdout
    assert f"index {index} is exactly c.jsonl" in run("verify", "c.jsonl", *here).stdout

    Path("queries.jsonl").write_text(line("q", "bees"))
    Path("corpus.jsonl").write_text(line("bees", "the dance of bees"))
    Path("qrels").mkdir()
    Path("qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tbees\t1\n")
    refused = run("evaluate", ".", *here, code=1)
    assert f"the engine makes the ids of {index}" in refused.stderr


def test_an_interrupted_run_resumes_and_verify_names_what_it_doubled(
    client: OpenSearch, opensearch_url: str, index: str, run: Run
) -> None:
    Path("c.jsonl").write_text("\n".join(line(str(n % 18), f"bees {n}") for n in range(20)))
    command = ("c.jsonl", "--index", index, "--concurrency", "1")
    Refused.bulks = 0
    with FaultProxy(opensearch_url, seed=1).listening(Refused) as url:
        cut = run(*command, "--ids", "engine", code=1, url=url)
    assert (
        "stopped after line 12; the same command resumes and may duplicate documents" in cut.stdout
    )
    resumed = run(*command)
    assert "resuming after line 8" in resumed.stderr
    assert "20 lines = 20 indexed" in resumed.stdout
    assert "2 documents with the id of an earlier line: all are in the index" in resumed.stdout

    there = copies(client, index)
    assert there == Counter(str(n % 18) for n in range(20)) + Counter(["8", "9", "10", "11"])
    verified = json.loads(run("verify", "c.jsonl", "--index", index, "--json", code=1).stdout)
    assert verified["same"] == 20
    assert verified["doubled"] == {
        "count": 4,
        "examples": [
            f"document '{n}' is in the index 2 times, 1 in the file" for n in (8, 9, 10, 11)
        ],
    }
    for_people = run("verify", "c.jsonl", "--index", index, code=1).stdout
    assert "build a new index with --alias, or delete the duplicates" in for_people


def test_an_alias_is_not_moved_to_an_index_with_doubles(
    client: OpenSearch, opensearch_url: str, index: str, run: Run
) -> None:
    Path("c.jsonl").write_text("\n".join(line(str(n), f"bees {n}") for n in range(20)))
    command = ("c.jsonl", "--alias", index, "--ids", "engine", "--concurrency", "1")
    try:
        Losing.bulks = 0
        with FaultProxy(opensearch_url, seed=1).listening(Losing) as url:
            refused = run(*command, code=1, url=url)
        assert "has 24 documents and the run indexed 20, so some may be there" in refused.stderr
        assert not client.indices.exists_alias(name=index)
        assert "start a new version with --restart" in run(*command, code=1).stderr
        assert not client.indices.exists_alias(name=index)
        run(*command, "--restart")
        assert set(copies(client, index).values()) == {1}
        run(*command)  # another version: nothing is doubled
        assert set(copies(client, index).values()) == {1}
    finally:
        for version in client.indices.get(index=f"{index}-*"):
            client.indices.delete(index=version)


def test_lines_that_are_the_same_are_all_wanted(client: OpenSearch, index: str, load: Any) -> None:
    load(client, index, [line("a", "bees"), line("b", "ants")], wanted=WANTED)
    rows = [line("a", "bees"), line("b", "ants"), line("a", "bees")]
    Path("more.jsonl").write_text("\n".join(rows))
    verified = Verification(Index(client, index), "more.jsonl").run()
    assert (verified.same, verified.missing.count) == (2, 1)
    assert verified.missing.examples == ["line 3: document 'a'"]


def test_chunks_need_ids(client: OpenSearch, index: str, encoder: LatentEncoder) -> None:
    with pytest.raises(InputError, match=r"chunks need ids from the document; use --long pool"):
        open_index(client, index, encoder, {"ids": "engine", "long": "chunks"})
