"""The command `tune`: what it selects, what it never reads, and what it leaves, also if killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from indexed import indexed
from killed import Killed
from opensearchpy import OpenSearch
from opensearchpy.client.indices import IndicesClient

from latent_ingest.cli.main import cli
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.index.repair import (
    new_note,
    repair,
    restore,
)
from latent_ingest.connector.indexing.journal import Journal, RunKey
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher
from latent_ingest.connector.tuning import tuned_index
from latent_ingest.connector.tuning.knobs import Settings
from latent_ingest.connector.tuning.splits import halved
from latent_ingest.connector.tuning.trials import Trials
from latent_ingest.mappings import MappingConfig

HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture(scope="module")
def folder(documents: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions are parts of documents; dev judges every third of them, test the others."""
    folder = tmp_path_factory.mktemp("tune") / "docs"
    (folder / "qrels").mkdir(parents=True)
    chosen = documents[:55]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in chosen))
    parts = [(d["_id"], d["text"].split()[n::2][:8]) for d in chosen for n in (0, 1)]
    queries = [{"_id": f"q{n}", "text": " ".join(words)} for n, (_, words) in enumerate(parts)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    lines = [f"q{n}\t{id_}\t1\n" for n, (id_, _) in enumerate(parts)]
    (folder / "qrels" / "dev.tsv").write_text(HEADER + "".join(lines[::3]))
    others = [line for n, line in enumerate(lines) if n % 3]
    (folder / "qrels" / "test.tsv").write_text(HEADER + "".join(others))
    (folder / "qrels" / "all.tsv").write_text(HEADER + "".join(lines))
    (folder / "qrels" / "few.tsv").write_text(HEADER + "".join(lines[:15]))
    return folder


@pytest.fixture(scope="module")
def made(client: OpenSearch, encoder: LatentEncoder, folder: Path) -> Iterator[str]:
    """An index of the documents, which tests leave as it is."""
    with indexed(client, encoder, folder / "corpus.jsonl") as index:
        yield index


def state(client: OpenSearch, index: str) -> dict[str, Any]:
    """All that tuning may change, without the counter that each opening increases."""
    (content,) = client.indices.get(index=index).values()
    content["settings"]["index"].pop("verified_before_close", None)
    (row,) = client.cat.indices(index=index, format="json", h="status")
    content["mappings"]["_meta"]["latent_ingest"].setdefault("tuning", None)
    return {"status": row["status"], **content}


def call(url: str, folder: Path, index: str, *options: str) -> Result:
    arguments = ["tune", str(folder), "--index", index, "--url", url, "--dtype", "float32"]
    return CliRunner().invoke(cli, [*arguments, *options])


def tuned(url: str, folder: Path, index: str, *options: str) -> dict[str, Any]:
    done = call(url, folder, index, *options, "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def rewritten(source: Path, target: Path, name: str, lines: list[str]) -> Path:
    """The collection with other judgements in one file."""
    (target / "qrels").mkdir(parents=True)
    for file in source.rglob("*.*"):
        (target / file.relative_to(source)).write_bytes(file.read_bytes())
    (target / "qrels" / name).write_text(HEADER + "".join(lines))
    return target


def decided(answer: dict[str, Any]) -> Any:
    """The selected settings and all figures that selected them, without times."""
    curves = [
        {**c, "points": [{**p, "took_p50": 0} for p in c["points"]]} for c in answer["curves"]
    ]
    return answer["after"], curves


def judged(folder: Path, name: str) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "qrels" / name).read_text().splitlines()[1:]]


@pytest.mark.slow
def test_garbled_test_judgements_change_no_selected_setting(
    opensearch_url: str, made: str, folder: Path, tmp_path: Path
) -> None:
    """Each question is judged by another's document instead."""
    rows = judged(folder, "test.tsv")
    moved = [
        f"{q}\t{other[1]}\t1\n" for (q, *_), other in zip(rows, rows[7:] + rows[:7], strict=True)
    ]
    garbled = rewritten(folder, tmp_path / "docs", "test.tsv", moved)
    options = ("--split", "dev", "--copy", "--knobs", "latent_boost,k1")
    honest = tuned(opensearch_url, folder, made, *options)
    other = tuned(opensearch_url, garbled, made, *options)
    assert decided(honest) == decided(other)
    assert len(honest["curves"]) == 3  # the boost twice
    values = [answer["held_out"]["forms"][0]["after"] for answer in (honest, other)]
    assert values[0] > 0.8 > 0.2 > values[1]


@pytest.mark.slow
def test_garbled_judgements_of_the_other_half_change_no_selected_setting(
    opensearch_url: str, made: str, folder: Path, tmp_path: Path
) -> None:
    split = halved(Collection.load(folder, "all"), None, 3, "")
    assert split.held_out is not None
    held = split.held_out.queries
    rows = judged(folder, "all.tsv")
    moved = [f"{q}\t{rows[0][1] if q in held else d}\t{g}\n" for q, d, g in rows]
    garbled = rewritten(folder, tmp_path / "docs", "all.tsv", moved)
    options = ("--split", "all", "--report", "all", "--seed", "3", "--knobs", "latent_boost")
    honest = tuned(opensearch_url, folder, made, *options)
    other = tuned(opensearch_url, garbled, made, *options)
    assert decided(honest) == decided(other)
    assert honest["held_out"] != other["held_out"]


def test_few_queries_are_cross_validated(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path, tmp_path: Path
) -> None:
    before = state(client, made)
    options = ("--split", "few", "--report", "few", "--knobs", "latent_boost,head_terms")
    answer = tuned(opensearch_url, folder, made, *options, "--out", str(tmp_path / "out"))
    assert answer["description"].startswith("15 queries of")
    assert len(answer["folds"]) == 5
    forms = [outcome["form"] for outcome in answer["held_out"]["forms"]]
    assert forms == ["hybrid", "hybrid_two_phase", "latent"]
    assert 0 < answer["held_out"]["forms"][0]["p"] <= 1
    written = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert written == answer
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["head-terms.png", "latent-boost.png"]
    assert state(client, made) == before
    # A disk that is full in the end; what was found is said all the same.
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "tune.json").symlink_to("/dev/full")
    few = (*options, "--limit-queries", "10", "--out", str(tmp_path / "full"))
    done = call(opensearch_url, folder, made, *few)
    assert (done.exit_code, "cannot be written: No space left" in done.stderr) == (2, True)
    assert "10 queries of" in done.stdout
    assert "hybrid_two_phase" in done.stdout


def test_a_dry_run_leaves_the_index_as_it_was(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    before = state(client, made)
    done = call(opensearch_url, folder, made, "--split", "dev", "--knobs", "k1,b", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "nothing was changed" in done.stdout
    assert state(client, made) == before


def test_questions_use_the_applied_settings(
    opensearch_url: str,
    client: OpenSearch,
    encoder: LatentEncoder,
    folder: Path,
    made: str,
    tmp_path: Path,
) -> None:
    index = f"{made}-applied"
    client.reindex(body={"source": {"index": made}, "dest": {"index": copied(client, made, index)}})
    try:
        client.indices.refresh(index=index)
        agreeing = rewritten(
            folder, tmp_path / "docs", "dev.tsv", found_by_latents(client, made, encoder, folder)
        )
        options = ("--split", "dev", "--copy", "--yes", "--apply")
        options += ("--knobs", "latent_boost,b,max_query_terms,head_terms")
        answer = tuned(opensearch_url, agreeing, index, *options)
        after = answer["after"]
        assert answer["applied"]
        assert after != answer["before"]
        similarity = state(client, index)["settings"]["index"]["similarity"]["latent_bm25"]
        assert (float(similarity["k1"]), float(similarity["b"])) == (after["k1"], after["b"])
        rewriter = QueryRewriter.from_index(client, index, encoder)
        assert rewriter.latent_boost == after["latent_boost"] != 0.15
        assert rewriter.max_query_terms == after["max_query_terms"]
        assert boost_of(rewriter) == pytest.approx(after["latent_boost"], rel=1e-5)
        own = QueryRewriter.from_index(client, index, encoder, latent_boost=0.9, max_query_terms=7)
        assert boost_of(own) == pytest.approx(0.9, rel=1e-5)
        assert len(own.terms("a pattern of file names")) == 7
        meta = IndexMeta.read(client, index)
        assert meta is not None
        assert (meta.k1, meta.b, meta.tuning) == (after["k1"], after["b"], None)
        # More terms than heads, so that there is a second phase whatever was selected.
        heads = after["head_terms"]
        rewriter = QueryRewriter.from_index(client, index, encoder, max_query_terms=heads + 1)
        long = "the names of files in a directory that match a pattern, sorted by time and size"
        two = rewriter.rewrite(long, form="two_phase")
        assert two["rescore"]["window_size"] == after["window"]
        assert len(two["query"]["bool"]["should"]) == heads
    finally:
        client.indices.delete(index=index)


def boost_of(rewriter: QueryRewriter) -> float:
    """The boost of latent terms in a hybrid request."""
    text = "a pattern of file names"
    _, latent = rewriter.rewrite(text)["query"]["bool"]["should"]
    term = latent["bool"]["should"][0]["term"]["latent"]
    return float(term["boost"]) / rewriter.terms(text)[0].weight


def found_by_latents(
    client: OpenSearch, index: str, encoder: LatentEncoder, folder: Path
) -> list[str]:
    """Judgements that agree with latent scores only, so that a higher boost is better."""
    rewriter = QueryRewriter.from_index(client, index, encoder)
    texts = Collection.load(folder, "dev").queries
    lines = []
    for query, text in texts.items():
        body = rewriter.rewrite(text, form="latent", size=5)
        hits = client.search(index=index, body=body)["hits"]["hits"]
        lines += [f"{query}\t{hit['_id']}\t{5 - rank}\n" for rank, hit in enumerate(hits)]
    return lines


def copied(client: OpenSearch, source: str, target: str) -> str:
    """An empty index like another."""
    (content,) = client.indices.get(index=source).values()
    settings = {"similarity": content["settings"]["index"]["similarity"]}
    settings["analysis"] = content["settings"]["index"]["analysis"]
    body = {"settings": {"index": settings}, "mappings": content["mappings"]}
    client.indices.create(index=target, body=body)
    return target


CALLED = (sys.executable, "-c", "from latent_ingest.cli.main import cli; cli()")

# Dies right after the index was closed for the second time: other k1 and b are in it by then.
DIES_WHILE_CLOSED = Killed("opensearchpy.client.indices.IndicesClient.close", call=2, after=True)


def started(
    url: str, folder: Path, index: str, *options: str, program: Sequence[str] = CALLED
) -> subprocess.Popen[str]:
    arguments = ["tune", str(folder), "--index", index, "--url", url, "--split", "all"]
    return subprocess.Popen(
        [*program, *arguments, *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def k1_of(client: OpenSearch, index: str) -> float:
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    return float(settings["similarity"]["latent_bm25"]["k1"])


def copies_of(client: OpenSearch, index: str) -> dict[str, Any]:
    found: dict[str, Any] = client.indices.get(index=f"{index}-tune-*")
    return found


def test_the_next_command_restores_an_index_that_a_killed_run_left_closed(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    before = state(client, made)
    options = ("--knobs", "k1,b", "--yes")
    process = started(opensearch_url, folder, made, *options, program=DIES_WHILE_CLOSED.program())
    stderr = process.communicate(timeout=180)[1]
    assert process.returncode == -signal.SIGKILL, stderr
    left = state(client, made)
    assert left["status"] == "close"
    assert left["settings"] != before["settings"]
    done = subprocess.run(
        [
            *(*CALLED, "search"),
            *("file names", "--index", made, "--url", opensearch_url, "--json"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"index {made} was left changed by an interrupted tuning run: it is open" in done.stderr
    assert json.loads(done.stdout)["hits"]["hits"]
    assert state(client, made) == before


def test_the_next_command_deletes_the_copy_of_a_killed_run(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    before = state(client, made)
    process = started(opensearch_url, folder, made, "--knobs", "k1", "--copy")
    wait_until(lambda: copies_of(client, made), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(copies_of(client, made)) == 1
    corpus = str(folder / "corpus.jsonl")
    done = CliRunner().invoke(cli, ["verify", corpus, "--index", made, "--url", opensearch_url])
    assert done.exit_code == 0, done.stderr
    assert copies_of(client, made) == {}
    assert state(client, made) == before


@pytest.mark.parametrize("command", ["explain", "rewrite", "enrich", "ingest", "evaluate", "tune"])
def test_each_command_that_opens_an_index_restores_it(
    opensearch_url: str, client: OpenSearch, folder: Path, load: Any, index: str, command: str
) -> None:
    """Those for search and verify are below: their tuning runs are killed."""
    corpus = folder / "corpus.jsonl"
    assert load(client, index, corpus).ok
    handle = Index(client, index)
    note = new_note(tuned_index.similarity(2.0, 0.7)) | {"pid": 2**22 + 1, "renewed": 0}
    handle.update_meta(tuning=note)
    handle.put_settings_closed(tuned_index.similarity(9.0, 0.7), Retry(client))
    client.indices.close(index=index)
    arguments = {
        "explain": ["file names", "--id", json.loads(corpus.read_text().splitlines()[0])["_id"]],
        "rewrite": ["file names"],
        "enrich": [],
        "evaluate": ["--systems", "words", "--split", "dev", str(folder)],
        "ingest": [str(corpus)],
        "tune": ["--split", "few", "--report", "few", "--knobs", "latent_boost", str(folder)],
    }[command]
    where = ["--index", index, "--url", opensearch_url]
    done = CliRunner().invoke(cli, [command, *where, *arguments])
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert f"index {index} was left changed by an interrupted tuning run: it is open" in done.stderr
    assert k1_of(client, index) == 2.0
    assert handle.meta().tuning is None


def test_reading_an_index_that_tuning_left_changes_nothing(
    client: OpenSearch, made: str, encoder: LatentEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader only warns; `repair` restores, also by an alias, and deletes no index but a copy."""
    index, foreign = Index(client, made), f"{made}-tune-archive"
    alias = f"{made}-alias"
    client.indices.create(index=foreign)
    client.indices.put_alias(index=made, name=alias)
    before = state(client, made)
    note = new_note(tuned_index.similarity(2.0, 0.7), foreign) | {"pid": 2**22 + 1}
    try:
        index.update_meta(tuning=note | {"renewed": 0})
        index.put_settings_closed(tuned_index.similarity(9.0, 0.7), Retry(client))
        left = state(client, made)
        meta = IndexMeta.read(client, alias)
        assert meta is not None
        assert meta.tuning is not None
        assert ExistingIndex.read(client, alias).open
        assert caplog.messages == []
        for read in (
            lambda: QueryRewriter.from_index(client, alias, encoder),
            lambda: Searcher(client, alias, [encoder]),
        ):
            read()
            assert caplog.messages[-1].startswith(
                f"index {made} was left changed by an interrupted"
            )
            assert f"any command with --index {made}" in caplog.messages[-1]
        assert state(client, made) == left
        repair(client, alias)
        assert state(client, made) == before
        assert f"{foreign}, which is not a name that tuning gives" in caplog.text
        assert client.indices.exists(index=foreign)
    finally:
        client.indices.delete_alias(index=made, name=alias)
        client.indices.delete(index=foreign)


def test_a_result_that_cannot_be_applied_is_not_lost(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path, tmp_path: Path
) -> None:
    block = "index.blocks.read_only"
    client.indices.put_settings(index=made, body={block: True})
    options = ("--split", "dev", "--knobs", "latent_boost", "--apply", "--out", str(tmp_path / "r"))
    try:
        done = call(opensearch_url, folder, made, *options, "--json")
    finally:
        client.indices.put_settings(index=made, body={block: None})
    assert (done.exit_code, "FORBIDDEN" in done.stderr) == (1, True), done.output
    answer = json.loads(done.stdout)
    assert (answer["applied"], len(answer["curves"])) == (False, 2)
    assert json.loads((tmp_path / "r" / "tune.json").read_text()) == answer


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_restores_the_index_at_once(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path, how: str
) -> None:
    before = state(client, made)
    copy = how == "SIGTERM"
    process = started(opensearch_url, folder, made, "--knobs", "k1", "--copy" if copy else "--yes")
    if copy:
        wait_until(lambda: copies_of(client, made), process)
    else:
        wait_until(lambda: k1_of(client, made) != 2.0, process)
    process.send_signal(signal.Signals[how])
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert state(client, made) == before
    assert copies_of(client, made) == {}


def test_a_run_that_was_taken_for_dead_ends_and_closes_nothing(
    client: OpenSearch, made: str
) -> None:
    """As after a laptop slept: another command has restored the index, and tunes it."""
    before = state(client, made)
    existing = ExistingIndex.read(client, made)
    other = new_note(tuned_index.similarity(2.0, 0.7))
    with tuned_index.in_place(existing, Retry(client)) as asked:
        asked.set(3.0, 0.7)
        asked.check()
        restore(existing.index, other, Retry(client))
        with pytest.raises(EngineError, match=r"has k1 and b \(2.0, 0.7\), not \(3.0, 0.7\)"):
            asked.check()
    assert state(client, made) == before
    with tuned_index.in_place(existing, Retry(client)) as asked:
        Index(client, made).update_meta(tuning=other)
        with pytest.raises(EngineError, match="another command took this run for dead"):
            asked.set(3.0, 0.7)
    assert state(client, made)["mappings"]["_meta"]["latent_ingest"]["tuning"] == other
    Index(client, made).update_meta(tuning=None)
    assert state(client, made) == before


def test_a_run_renews_its_note_while_it_asks(
    client: OpenSearch, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = ExistingIndex.read(client, made)
    with tuned_index.in_place(existing, Retry(client)) as asked:
        first = IndexMeta.read(client, made)
        monkeypatch.setattr(tuned_index, "RENEW_SECONDS", 0)
        asked.check()
        second = IndexMeta.read(client, made)
    notes = [meta.tuning for meta in (first, second) if meta and meta.tuning]
    assert notes[0]["renewed"] < notes[1]["renewed"]


def test_an_answer_of_some_shards_measures_nothing(
    client: OpenSearch, made: str, encoder: LatentEncoder
) -> None:
    class Partly:
        """An engine one of whose shards fails."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def msearch(self, **request: Any) -> Any:
            answer = client.msearch(**request)
            answer["responses"][1]["_shards"]["failed"] = 1
            return answer

    questions = {"q1": "file names", "q2": "a pattern"}
    qrels = {query: {"d": 1} for query in questions}
    index = Index(cast(OpenSearch, Partly()), made)
    on = tuned_index.TunedIndex(index, index, None, Retry(client))
    trials = Trials(on, Collection("c", None, questions, qrels), QueryEncoder(encoder))
    with pytest.raises(EngineError, match=r"query 'q2' \(hybrid\): not all shards of .* answered"):
        trials(Settings(2.0, 0.7), "hybrid")


def test_a_process_that_lives_is_left_alone(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    Index(client, made).update_meta(tuning=new_note({"index.similarity.latent_bm25.k1": 9.0}))
    try:
        meta = IndexMeta.read(client, made)
        assert meta is not None
        assert meta.tuning is not None
        assert k1_of(client, made) == 2.0
        done = call(opensearch_url, folder, made, "--split", "dev", "--yes")
        assert done.exit_code == 2
        assert f"index {made} is being tuned by process {os.getpid()}" in done.stderr
    finally:
        Index(client, made).update_meta(tuning=None)


def test_an_index_that_is_written_to_is_left_alone(
    opensearch_url: str, client: OpenSearch, folder: Path, load: Any, index: str, tmp_path: Path
) -> None:
    """By an application, or by a running ingest."""
    assert load(client, index, folder / "corpus.jsonl").ok
    before = state(client, index)
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.1):
            client.index(index=index, id="written", body={"text": "Vitamin D"})

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for options in (("--yes",), ("--copy",)):
            done = call(opensearch_url, folder, index, "--split", "dev", *options)
            assert done.exit_code == 2
            assert f"index {index} receives writes" in done.stderr
    finally:
        ended.set()
        writing.join()
    key = RunKey(str(tmp_path / "corpus.jsonl"), index, Index(client, index).uuid())
    with closing(Journal(tmp_path / "runs.sqlite")) as book, closing(book.open(key)):
        options = ("--split", "dev", "--yes", "--journal", str(tmp_path / "runs.sqlite"))
        done = call(opensearch_url, folder, index, *options)
        assert (done.exit_code, f"a run of ingest writes to {index}" in done.stderr) == (2, True)
    # And once it is closed and opened now and then, which are no writes.
    existing = ExistingIndex.read(client, index)
    with tuned_index.in_place(existing, Retry(client)) as asked:
        asked.set(3.0, 0.7)
        asked.set(2.0, 0.7)
        client.index(index=index, id="written", body={"text": "Vitamin D"})
        with pytest.raises(InputError, match=r"receives writes \(1 since tuning began\)"):
            asked.set(3.0, 0.7)
    after = state(client, index)
    assert (after["status"], after["settings"]) == ("open", before["settings"])


def test_an_index_whose_k1_was_set_by_hand_is_tuned_from_there(
    opensearch_url: str,
    client: OpenSearch,
    folder: Path,
    load: Any,
    index: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index is not closed for a knob that is not one of its settings."""
    assert load(client, index, folder / "corpus.jsonl").ok
    Index(client, index).put_settings_closed(tuned_index.similarity(5.0, 0.4), Retry(client))
    monkeypatch.setattr(IndicesClient, "close", None)
    options = ("--split", "few", "--report", "few", "--knobs", "latent_boost", "--apply")
    answer = tuned(opensearch_url, folder, index, *options)
    for settings in (answer["before"], answer["after"]):
        assert (settings["k1"], settings["b"]) == (5.0, 0.4)
    assert k1_of(client, index) == 5.0
    meta = IndexMeta.read(client, index)
    assert meta is not None
    assert (meta.k1, meta.b) == (5.0, 0.4)


def test_titles_and_sentences_do_without_judgements(
    opensearch_url: str, made: str, folder: Path
) -> None:
    options = ("--from-titles", "--knobs", "latent_boost")
    done = call(opensearch_url, folder / "corpus.jsonl", made, *options)
    assert done.exit_code == 0, done.stderr
    assert "No user asked them" in done.stdout
    assert "cross-validated" in done.stdout


def test_an_index_of_chunks_has_no_knobs_of_two_phases(
    opensearch_url: str, folder: Path, load: Any, client: OpenSearch, index: str
) -> None:
    assert load(client, index, folder / "corpus.jsonl", wanted={"long": "chunks"}).ok
    options = ("--split", "dev", "--knobs", "latent_boost,head_terms,window")
    answer = tuned(opensearch_url, folder, index, *options)
    assert {curve["knob"] for curve in answer["curves"]} == {"latent_boost"}
    assert answer["held_out"]["forms"][0]["after"] > 0.8


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--split", "none"), 2, "no qrels/none.tsv; name one with --split (existing: all, dev"),
        (("--knobs", "speed"), 2, "'speed': use some of latent_boost,k1"),
        (("--split", "dev"), 2, "agree with --yes, or try on a clone with --copy"),
        (("--split", "dev", "--from-titles"), 2, "leave out --split and --report"),
        (("--split", "dev", "--report", "tset"), 2, "no qrels/tset.tsv; name one with --report"),
        (("--split", "dev", "--form", "latent", "--knobs", "latent_boost"), 2, "has none of these"),
        (("--split", "dev", "--out", "/dev/null/report"), 2, "cannot be written"),
    ],
)
def test_wrong_input_gives_one_line(
    opensearch_url: str, made: str, folder: Path, options: Any, status: int, message: str
) -> None:
    done = call(opensearch_url, folder, made, *options)
    assert done.exit_code == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_index_that_cannot_be_tuned_gives_one_line(
    opensearch_url: str, client: OpenSearch, folder: Path, index: str, encoder: LatentEncoder
) -> None:
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy", "--out", "out")
    assert (done.exit_code, f"no index {index}" in done.stderr) == (2, True)
    assert list(Path("out").iterdir()) == []
    client.indices.create(index=index, body={"mappings": {"properties": {"a": {"type": "text"}}}})
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy")
    assert (done.exit_code, "has no latent terms" in done.stderr) == (1, True)
    client.indices.delete(index=index)
    open_index(client, index, encoder, {"long": MappingConfig().long})
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy")
    assert (done.exit_code, "lacks 37 of the 37 documents" in done.stderr) == (2, True), done.stderr
    client.indices.close(index=index)
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy")
    assert (done.exit_code, f"index {index} is closed; open it" in done.stderr) == (2, True)
