"""The question table of an index's own words: put in by an ingest, or made again by a command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from faults import FaultProxy
from killed import Killed
from opensearchpy import OpenSearch
from toys import toy_backbone, toy_model

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.questions.refresh import TableRefresh
from latent_ingest.connector.questions.building import build_table
from latent_ingest.connector.questions.question_table import FILE, FORMAT
from latent_ingest.connector.questions.stored_table import StoredTable

pytestmark = pytest.mark.question_tables

# Words that no model's table has.
OWN = ["wumpusitis", "zorblax", "quuxonium"]
WORDS = 300

# Words of the tiny model's table.
GENERAL = ["find", "files", "trees", "falls"]

# Method of the index → what its argument tells when the process is killed.
DIES_WHEN = {"put_settings": "latent_table", "open": "", "put_mapping": "'origin': 'index'"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    texts = [
        "Falls with wumpusitis",
        "Zorblax for wumpusitis",
        "Zorblax and quuxonium",
        "The falls of 1999",
    ]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(
        json.dumps({"_id": str(i), "title": "", "text": text}) + "\n"
        for i, text in enumerate(texts)
    ))  # fmt: skip
    return path


def table_of(client: OpenSearch, name: str) -> StoredTable | None:
    index = Index(client, name)
    meta = index.meta()
    return StoredTable.from_index(name, meta.questions, meta.model, index.settings())


def matches(client: OpenSearch, index: str, text: str) -> list[str]:
    body = {"query": {"match": {"latent": text}}, "_source": False}
    return [hit["_id"] for hit in client.search(index=index, body=body)["hits"]["hits"]]


def test_a_new_index_gets_the_words_of_its_documents(
    either: OpenSearch, new_index: Any, encoder: LatentEncoder, corpus: Path
) -> None:
    name = new_index(either)
    seen: list[tuple[int, int]] = []
    job = IngestJob(either, corpus, index=name, encoder=encoder, question_words=WORDS)
    result = job.run(on_words=lambda done, of: seen.append((done, of)))
    assert result.ok
    assert seen == [(0, 3), (3, 3)]
    assert result.table is not None
    assert (result.table.words, result.table.encoded) == (WORDS, 3)
    assert result.to_json()["questions"]["encoded"] == 3
    table = table_of(either, name)
    assert table is not None
    assert table.origin == "index"
    assert {*OWN, "falls", "people"} <= table.rules.keys()
    meta = Index(either, name).meta()
    assert (meta.own_words, meta.tuning) == (None, None)
    found = matches(either, name, "Wumpusitis?")
    assert set(found[:2]) == {"0", "1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model that has a table."""
    folder = tmp_path_factory.mktemp("model")
    model = toy_model(folder / "toy", toy_backbone(folder / "backbone"))
    encoder = LatentEncoder.load(model, device="cpu", dtype="float32")
    build_table(encoder, GENERAL).save(model)
    return model


@pytest.fixture(scope="module")
def toy(model: Path) -> LatentEncoder:
    return LatentEncoder.load(model, device="cpu", dtype="float32")


def asked(url: str, *arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments), "--url", url])


def origin(client: OpenSearch, index: str) -> str | None:
    meta = Index(client, index).meta()
    return meta.questions["origin"] if meta.questions else None


def test_a_stopped_run_is_resumed_and_counts_every_line(
    client: OpenSearch, index: str, toy: LatentEncoder, corpus: Path
) -> None:
    """Stopped while the words are encoded: no document is sent again, and no word is missing."""
    first = IngestJob(client, corpus, index=index, encoder=toy)
    stopped = first.run(on_words=lambda done, of: first.stop())
    assert (stopped.report.stopped, stopped.table) == ("interrupted", None)
    assert (origin(client, index), Index(client, index).meta().own_words) == ("model", True)
    resumed = IngestJob(client, corpus, index=index, encoder=toy).run()
    assert (resumed.report.resumed_after, resumed.report.lines) == (4, 4)
    assert resumed.ok
    table = table_of(client, index)
    assert table is not None
    assert {*OWN, *GENERAL} <= table.rules.keys()


def test_a_stopped_run_is_resumed_without_a_table(
    client: OpenSearch, index: str, toy: LatentEncoder, corpus: Path
) -> None:
    """A later run of other documents must not close the index."""
    first = IngestJob(client, corpus, index=index, encoder=toy)
    assert first.run(on_words=lambda done, of: first.stop()).report.stopped
    assert Index(client, index).meta().own_words
    resumed = IngestJob(client, corpus, index=index, encoder=toy, questions=False).run()
    assert (resumed.ok, resumed.table) == (True, None)
    assert (origin(client, index), Index(client, index).meta().own_words) == ("model", None)


@pytest.mark.parametrize("step", ["put_settings", "open", "put_mapping"])
def test_the_same_command_puts_right_what_a_killed_one_left(
    opensearch_url: str, client: OpenSearch, index: str, model: Path, corpus: Path, step: str
) -> None:
    """Killed when the index is closed, when it has the new settings, and when it is open again."""
    command = ["ingest", str(corpus), "--index", index, "--model", str(model), "--device", "cpu"]
    killed = Killed(f"latent_ingest.connector.index.index.Index.{step}", about=DIES_WHEN[step])
    killed.run(*command, "--url", opensearch_url)
    info = IndexInfo.read(client, index)
    assert info.closed == (step != "put_mapping")
    assert info.meta.tuning is not None
    done = asked(opensearch_url, *command)
    assert done.exit_code == 0, done.output
    assert "left changed by an interrupted change of its table of words: it is open" in done.stderr
    assert "4 lines of these by an earlier run" in done.stdout
    meta = Index(client, index).meta()
    assert (meta.tuning, meta.own_words) == (None, None)
    table = table_of(client, index)
    assert table is not None
    assert table.origin == "index"
    assert table.rules.keys() >= {*OWN, *GENERAL}


def test_an_index_that_may_be_searched_is_not_closed(
    client: OpenSearch, index: str, toy: LatentEncoder, corpus: Path, caplog: Any
) -> None:
    general = StoredTable.of_model(toy)
    meta = open_index(client, index, toy, {}, None, general)
    other = Path("other.jsonl")
    other.write_text('{"_id": "other", "text": "find files"}\n')
    assert Ingest(client, index, toy, meta, other).run().ok
    for expected in ("model", "index"):
        caplog.clear()
        with caplog.at_level("INFO"):
            result = IngestJob(client, corpus, index=index, encoder=toy).run()
        assert (result.ok, result.table) == (True, None)
        assert f"'latent-ingest questions --index {index}' makes it" in caplog.text
        assert origin(client, index) == expected
        TableRefresh(client, index).run(toy)
        assert origin(client, index) == "index"


def test_two_runs_that_load_a_new_index_leave_its_table(
    client: OpenSearch, index: str, toy: LatentEncoder, corpus: Path, caplog: Any
) -> None:
    """The words of one file would not be those of the index."""
    other = Path("other.jsonl")
    other.write_text('{"_id": "other", "text": "find files"}\n')

    def meanwhile(_report: Any, position: int) -> None:
        if position and not done:
            done.append(IngestJob(client, other, index=index, encoder=toy).run().ok)

    done: list[bool] = []
    with caplog.at_level("INFO"):
        result = IngestJob(client, corpus, index=index, encoder=toy).run(meanwhile)
    assert (result.ok, done, result.table) == (True, [True], None)
    assert "is loaded by other runs, too" in caplog.text
    assert (origin(client, index), Index(client, index).meta().own_words) == ("model", None)


def test_what_the_table_has_already_closes_no_index(
    client: OpenSearch, index: str, toy: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Index, "close")
    corpus = Path("known.jsonl")
    corpus.write_text('{"_id": "1", "text": "Find FILES, trees; 42"}\n{"_id": "2", "text": "42"}\n')
    result = IngestJob(client, corpus, index=index, encoder=toy).run()
    assert (result.ok, result.table, origin(client, index)) == (True, None, "model")
    assert Index(client, index).meta().own_words is None


def test_without_a_table_there_is_none(
    opensearch_url: str, client: OpenSearch, new_index: Any, model: Path,
    corpus: Path, tmp_path: Path,
) -> None:  # fmt: skip
    index = new_index()
    arguments = ("--index", index, "--model", model, "--device", "cpu", "--no-questions")
    done = asked(opensearch_url, "ingest", corpus, *arguments)
    assert done.exit_code == 0, done.output
    assert (origin(client, index), "question table" in done.stdout) == (None, False)
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / FILE).unlink()
    index = new_index()
    done = asked(
        opensearch_url, "ingest", corpus, "--index", index, "--model", bare, "--device", "cpu"
    )
    assert done.exit_code == 0, done.output
    assert (origin(client, index), "table" in done.output) == (None, False)


def test_an_alias_moves_to_a_version_with_its_own_words(
    opensearch_url: str, client: OpenSearch, index: str, model: Path, corpus: Path
) -> None:
    arguments = ("--alias", index, "--model", model, "--device", "cpu", "--question-words", 30)
    done = asked(opensearch_url, "ingest", corpus, *arguments)
    try:
        assert done.exit_code == 0, done.output
        table, moved = done.stdout.splitlines()[-2:]
        assert table.startswith("question table of ")
        assert f"({len(OWN)} encoded, " in table
        assert moved == f"alias {index} → {index}-toy-1"
        found = table_of(client, f"{index}-toy-1")
        assert found is not None
        assert found.rules.keys() >= {*OWN, *GENERAL}
    finally:
        client.indices.delete(index=f"{index}-toy-*")


def test_an_enriched_copy_gets_its_own_words(
    opensearch_url: str, client: OpenSearch, index: str, model: Path, corpus: Path
) -> None:
    for line in corpus.read_text().splitlines():
        document = json.loads(line)
        client.index(index=index, id=document.pop("_id"), body=document)
    client.indices.refresh(index=index)
    arguments = ("--text-fields", "text", "--model", model, "--device", "cpu", "--json")
    alias = f"{index}-alias"
    done = asked(opensearch_url, "enrich", "--index", index, "--alias", alias, *arguments)
    try:
        assert done.exit_code == 0, done.output
        answer = json.loads(done.stdout)
        assert (answer["alias_moved"], answer["questions"]["encoded"] >= len(OWN)) == (True, True)
        assert origin(client, f"{alias}-toy-1") == "index"
    finally:
        client.indices.delete(index=f"{alias}-toy-*")
    done = asked(opensearch_url, "enrich", "--index", index, *arguments, "--yes")
    assert done.exit_code == 0, done.output
    assert origin(client, index) == "model", "in place, it would be closed a second time"


@pytest.fixture
def no_closing(client: OpenSearch) -> Iterator[None]:
    setting = "cluster.indices.close.enable"
    client.cluster.put_settings(body={"persistent": {setting: False}})
    yield
    client.cluster.put_settings(body={"persistent": {setting: None}})


@pytest.mark.usefixtures("no_closing")
def test_where_closing_is_not_allowed_the_models_table_stays(
    opensearch_url: str, client: OpenSearch, index: str, model: Path, corpus: Path
) -> None:
    arguments = ("--index", index, "--model", model, "--device", "cpu")
    done = asked(opensearch_url, "ingest", corpus, *arguments)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert line.startswith(f"warning: index {index} keeps the table of its model's words: ")
    assert "closing indices is disabled" in line
    meta = Index(client, index).meta()
    assert (origin(client, index), meta.own_words, meta.tuning) == ("model", None, None)
    done = asked(opensearch_url, "questions", *arguments, "--yes")
    assert (done.exit_code, "closing indices is disabled" in done.stderr) == (1, True), done.output
    assert client.count(index=index)["count"] == 4


class Refusing(FaultProxy):
    """Answers with faults to requests that put a table into an index."""

    def __init__(self, engine: str, faults: Iterable[str]) -> None:
        super().__init__(engine, 0)
        self._faults = iter(faults)

    def choose(self, path: str, body: bytes) -> str | None:
        puts = path.split("?")[0].endswith("/_settings") and b"latent_table" in body
        return next(self._faults, None) if puts else None


def test_an_engine_that_refuses_the_size_is_left_alone(
    opensearch_url: str, client: OpenSearch, index: str, model: Path, corpus: Path
) -> None:
    """As managed engines do whose requests have at most 10 MB."""
    with Refusing(opensearch_url, repeat("413")).listening() as url:
        arguments = ("--index", index, "--model", model, "--device", "cpu")
        done = asked(url, "ingest", corpus, *arguments)
        assert done.exit_code == 0, done.output
        assert f"warning: index {index} keeps the table of its model's words: " in done.stderr
        meta = Index(client, index).meta()
        assert (origin(client, index), meta.own_words, meta.tuning) == ("model", None, None)
        done = asked(url, "questions", *arguments, "--yes")
        assert done.exit_code == 2, done.output
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert f"index {index} refuses a table of " in line
        assert line.endswith("use fewer with --question-words")
    assert client.count(index=index)["count"] == 4
    assert origin(client, index) == "model"


def test_an_engine_that_is_busy_is_asked_again(
    opensearch_url: str, client: OpenSearch, index: str, toy: LatentEncoder, corpus: Path
) -> None:
    with Refusing(opensearch_url, ["503", "503"]).listening() as url:
        assert IngestJob(Connection(url).open(), corpus, index=index, encoder=toy).run().table
    assert origin(client, index) == "index"


def test_the_command_makes_the_table_of_an_index_that_has_none(
    either: OpenSearch, new_index: Any, model: Path, toy: LatentEncoder,
    load: Any, corpus: Path,
) -> None:  # fmt: skip
    """As one that an earlier version made: its latent field has no search analyzer either."""
    index = new_index(either)
    load(either, index, corpus, encoder=toy)
    assert Index(either, index).meta().questions is None
    either.indices.put_alias(index=index, name=f"{index}-alias")
    url = either.transport.hosts[0]
    address = f"http://{url['host']}:{url['port']}"
    arguments = ("questions", "--index", f"{index}-alias", "--model", model, "--device", "cpu")
    done = asked(address, *arguments)
    assert done.exit_code == 2
    assert f"index {index} will be closed for a moment" in done.stderr
    assert "agree with --yes" in done.stderr
    assert Index(either, index).meta().questions is None
    done = asked(address, *arguments, "--yes", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    seconds = answer.pop("seconds")
    assert seconds > 0
    words = len(OWN) + len(GENERAL)
    assert answer == {
        "index": index, "documents": 4, "words": words, "own": 4, "encoded": len(OWN),
    }  # fmt: skip
    table = table_of(either, index)
    assert table is not None
    assert sorted(table.rules) == sorted([*OWN, *GENERAL])
    assert matches(either, index, "wumpusitis")
    done = asked(address, *arguments, "--yes", "--question-words", 2)
    assert done.exit_code == 0, done.output
    assert f"index {index}: question table of 2 words, 2 of them in the documents" in done.stdout


def test_what_cannot_have_a_table_is_one_line(
    opensearch_url: str, client: OpenSearch, new_index: Any, model: Path, toy: LatentEncoder,
    load: Any, tmp_path: Path,
) -> None:  # fmt: skip
    index, bare = new_index(), new_index()
    load(client, index, [json.dumps({"_id": "1", "text": "1999 東京都 42"})] * 2, encoder=toy)
    client.indices.create(index=bare)

    def line(*arguments: object, code: int = 2) -> str:
        options = () if "--model" in arguments else ("--model", model)
        done = asked(opensearch_url, "questions", *arguments, *options, "--device", "cpu", "--yes")
        assert done.exit_code == code, done.output
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        return line

    assert "no index none; check --index" in line("--index", "none")
    assert f"index {bare} has no latent terms" in line("--index", bare, code=1)
    assert f"index {index} has no words in title, text" in line("--index", index)
    both = f"{index}-both"
    for name in (index, bare):
        client.indices.put_alias(index=name, name=both)
    assert f"{both}: 2 indices (" in line("--index", both)
    other = toy_model(tmp_path / "other", toy_backbone(tmp_path / "backbone", seed=1))
    assert "was made by model toy" in line("--index", index, "--model", other, code=1)
    newer = tmp_path / "newer"
    shutil.copytree(model, newer)
    content = (newer / FILE).read_bytes()
    number = b'"format":"%d"' % FORMAT
    assert number in content
    (newer / FILE).write_bytes(content.replace(number, b'"format":"9"'))
    assert "its format is 9" in line("--index", index, "--model", newer, code=1)
    client.indices.close(index=index)
    assert f"index {index} is closed; open it: POST /{index}/_open" in line("--index", index)
    client.indices.delete_alias(index=index, name=both)


def test_options_of_one_kind_of_table_are_refused_for_the_other(opensearch_url: str) -> None:
    for arguments, message in (
        ((), "name SOURCES with --model"),
        (("c.jsonl", "--index", "papers"), "name SOURCES with --model"),
        (("--index", "papers", "--words", 5), "--words is for SOURCES"),
        (("c.jsonl", "--question-words", 5), "--question-words is for --index"),
        (("c.jsonl", "--yes"), "--yes is for --index"),
        (("c.jsonl", "--list-words", 5), "--list-words needs --word-list"),
    ):
        done = asked(opensearch_url, "questions", *arguments)
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
