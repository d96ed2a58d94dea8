"""Shards of a corpus: each line is in one of them, and the alias moves when all are in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from indexed import PREFIX
from lines import logged
from opensearchpy import OpenSearch

from latent_ingest.cli.commands.indexing.ingest import ingest
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing import batches
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.jobs.job import JobResult
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.sharding import load
from latent_ingest.connector.indexing.sharding.lock import ShardLock
from latent_ingest.connector.indexing.sharding.shard import Shard
from latent_ingest.connector.indexing.verify import Verification
from latent_ingest.connector.indexing.versions import Build

FILES = ["a.jsonl", "b.jsonl"]

Load = Callable[..., JobResult[IngestReport]]


@pytest.fixture
def alias(client: OpenSearch) -> Iterator[str]:
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    yield name
    for index in list_indices(client, f"{name}*"):
        client.indices.delete(index=index.name)
    assert not client.indices.exists(index=f"{name}.shard-lock")


@pytest.fixture
def files() -> list[str]:
    """Two files of 40 lines; ids of the first occur again in the second, some lines hold none."""
    texts = ["a hive of bees", "a loan of the bank", "rain in the valley", "bread of rye"]
    for number, name in enumerate(FILES):
        rows = [
            {"_id": f"d{line % 25}", "text": f"{texts[line % 4]} {number}"} for line in range(38)
        ]
        lines = [json.dumps(row) for row in rows]
        Path(name).write_text("\n".join([*lines[:10], "", *lines[10:], ""]) + "\n")
    return FILES


@pytest.fixture
def shard(client: OpenSearch, encoder: LatentEncoder, files: list[str]) -> Load:
    """Run a shard as if on a machine of its own, with its own journal."""

    def run(number: int, of: int, **options: Any) -> JobResult[IngestReport]:
        named = {"journal": Path(f"journal-{number}.sqlite"), "encoder": encoder, **options}
        return IngestJob(client, files, shard=f"{number}/{of}", **named).run()

    return run


def lines_sum(report: IngestReport) -> int:
    parts = (report.indexed, report.replaced, report.failed, report.not_sent, report.blank)
    return sum(parts) + report.of_other_shards


def check(client: OpenSearch, name: str, reports: list[IngestReport]) -> None:
    """The index is the files, and each line was handled by one shard."""
    assert Verification(Index(client, name), FILES).run().ok
    assert [(report.lines, lines_sum(report)) for report in reports] == [(80, 80)] * len(reports)
    assert sum(report.lines - report.of_other_shards for report in reports) == 80
    assert sum(report.indexed for report in reports) == 25
    assert sum(report.blank for report in reports) == 4


def test_the_alias_moves_when_the_last_shard_is_in(
    shard: Load, client: OpenSearch, alias: str
) -> None:
    results = [shard(number, 3, alias=alias) for number in (2, 3)]
    assert [result.waiting for result in results] == [
        f"shard 2/3 is in; alias {alias} moves once the others are, too: 1/3, 3/3",
        f"shard 3/3 is in; alias {alias} moves once the others are, too: 1/3",
    ]
    assert results[1].ok
    told = results[1].to_json()
    assert (told["alias_moved"], told["waiting"]) == (False, results[1].waiting)
    assert list_indices(client, alias) == []
    results.append(shard(1, 3, alias=alias))
    assert (results[2].waiting, results[2].refusal) == (None, None)
    (version,) = list_indices(client, alias)
    assert {result.index for result in results} == {version.name}
    assert (version.complete, version.guards) == (True, [])
    check(client, version.name, [result.report for result in results])


def test_a_command_given_again_has_nothing_to_do(
    shard: Load, client: OpenSearch, alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a job of Kubernetes starts it again; files that changed make a new version."""
    caplog.set_level("INFO", "latent_ingest")
    shard(1, 2, alias=alias)
    again = shard(1, 2, alias=alias, journal=Path("another.sqlite"))
    assert (again.report.lines, again.ok) == (0, True)
    assert again.waiting is not None
    first = shard(2, 2, alias=alias).index
    for number in (1, 2):
        again = shard(number, 2, alias=alias)
        assert (again.index, again.report.lines, again.ok) == (first, 0, True)
    assert f"index {first} holds all 2 shards of these files" in logged(caplog)
    with Path("b.jsonl").open("a") as file:
        file.write('{"_id": "new", "text": "more bees"}\n')
    last = [shard(number, 2, alias=alias) for number in (1, 2)][1]
    assert last.index != first == last.before
    assert [info.name for info in list_indices(client, alias)] == [last.index]


@pytest.mark.question_tables
def test_shards_that_start_and_end_at_once_make_one_version_and_one_table(
    shard: Load, client: OpenSearch, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits before it notes that it is in until all have come so far."""
    there, made = threading.Barrier(5), []
    end, put = load.ShardedLoad.end, load.ReadBackTable.put

    def together(self: Any, *arguments: Any, **named: Any) -> Any:
        there.wait(60)
        return end(self, *arguments, **named)

    def noted(self: Any, *arguments: Any, **named: Any) -> None:
        assert list_indices(client, alias) == []
        put(self, *arguments, **named)
        made.append(self.report)

    monkeypatch.setattr(load.ShardedLoad, "end", together)
    monkeypatch.setattr(load.ReadBackTable, "put", noted)
    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda n: shard(n, 5, alias=alias), range(1, 6)))
    assert [result.refusal for result in results] == [None] * 5
    assert [result.waiting is None for result in results].count(True) == 1
    (version,) = list_indices(client, alias)
    assert {result.index for result in results} == {version.name}
    check(client, version.name, [result.report for result in results])
    assert len(made) == 1
    assert made[0].own >= 8  # bees, hive, loan, ...
    assert (version.meta.own_words, version.meta.loading) == (None, None)
    assert version.stored["questions"]["origin"] == "index"
    settings = Index(client, version.name).settings()
    assert "index.refresh_interval" not in settings
    assert settings["index.number_of_replicas"] == "1"


def test_shards_fill_an_index_without_an_alias(shard: Load, client: OpenSearch, index: str) -> None:
    for _ in range(2):  # the second time into an index that exists
        results = [shard(number, 2, index=index) for number in (1, 2)]
        assert results[0].waiting == (
            f"shard 1/2 is in; index {index} is complete once the others are, too: 2/2"
        )
        assert results[1].waiting is None
        check(client, index, [result.report for result in results])
        assert Index(client, index).meta().shards is None


def test_an_interrupted_shard_resumes(
    shard: Load, client: OpenSearch, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_LINES", 4)
    whole = shard(1, 2, alias=alias)
    real = IngestJob._start

    def start(self: IngestJob, run: Any) -> None:
        real(self, run)
        note = run._note

        def stop_after(batch: Any) -> None:
            note(batch)
            if run.report.lines > 20:
                self.stop()

        run._note = stop_after

    monkeypatch.setattr(IngestJob, "_start", start)
    cut = shard(2, 2, alias=alias)
    assert cut.report.stopped == "interrupted"
    assert "same command resumes it" in (cut.refusal or "")
    monkeypatch.setattr(IngestJob, "_start", real)
    resumed = shard(2, 2, alias=alias)
    assert 0 < resumed.report.resumed_after < 80
    assert (resumed.refusal, resumed.waiting, resumed.index) == (None, None, whole.index)
    check(client, resumed.index, [whole.report, resumed.report])


def test_any_shard_completes_what_a_killed_one_has_left(
    shard: Load, client: OpenSearch, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one ended after it was noted as in, before the alias moved."""
    first = shard(1, 2, alias=alias)
    with monkeypatch.context() as patch:
        patch.setattr(Build, "take", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shard(2, 2, alias=alias)
    assert list_indices(client, alias) == []
    completed = shard(1, 2, alias=alias)
    assert (completed.waiting, completed.refusal, completed.index) == (None, None, first.index)
    assert Verification(Index(client, alias), FILES).run().ok


def test_the_lock_of_a_killed_shard_is_taken_over_by_the_same_shard(
    shard: Load, client: OpenSearch, alias: str
) -> None:
    ShardLock(client, alias, Shard(2, 2), Retry(client))._take()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(shard, 1, 2, alias=alias)
        time.sleep(1)
        assert not waiting.done()
        assert list_indices(client, f"{alias}-*") == []
        results = [shard(2, 2, alias=alias), waiting.result(60)]
    assert [result.refusal for result in results] == [None, None]
    check(client, alias, [result.report for result in results])


def test_the_lock_keeps_others_out(either: OpenSearch) -> None:
    name, within, most = f"{PREFIX}{uuid.uuid4().hex[:12]}", [0], []

    def enter(number: int) -> None:
        with ShardLock(either, name, Shard(number, 4), Retry(either)).held():
            within[0] += 1
            time.sleep(0.05)
            most.append(within[0])
            within[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(1, 5)))
    assert most == [1] * 4
    assert not either.indices.exists(index=f"{name}.shard-lock")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0/3", "out of range; shards are counted 1/3 to 3/3"),
        ("4/3", "out of range; shards are counted 1/3 to 3/3"),
        ("1/0", "out of range"),
        ("2", "write NUMBER/SHARDS, such as 2/8"),
        ("-1/2", "write NUMBER/SHARDS"),
        ("", "write NUMBER/SHARDS"),
    ],
)
def test_a_shard_that_is_none_is_one_line(run: Any, text: str, reason: str) -> None:
    Path("c.jsonl").write_text('{"_id": "a", "text": "bees"}\n')
    result = run("c.jsonl", "--index", "never-made", "--shard", text)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert reason in line


def test_what_shards_refuse(client: OpenSearch, shard: Load, index: str, alias: str) -> None:
    for options, reason in (
        ({"corpus": "-", "alias": alias}, "a pipe has no shards"),
        ({"corpus": "a.jsonl", "alias": alias, "restart": True}, "a version for each shard"),
    ):
        with pytest.raises(InputError, match=reason):
            IngestJob(client, shard="1/2", **options)  # type: ignore[arg-type]
    shard(1, 2, index=index)
    with pytest.raises(InputError, match="is being loaded by 2 shards of other files, of which 1"):
        shard(1, 3, index=index)
    assert shard(1, 3, index=index, restart=True).waiting is not None
    meta = IndexMeta.read(client, index)
    assert meta is not None
    assert meta.shards is not None
    assert (meta.shards["of"], list(meta.shards["done"])) == (3, ["1"])


def test_the_job_of_the_documentation_starts_each_shard_once(root: Path) -> None:
    """Its YAML, its shell, and that the command has its options."""
    text = (root / "docs" / "distributed.md").read_text(encoding="utf-8")
    (fence,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    spec = yaml.safe_load(fence)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    shell = container["command"]
    assert (spec["completionMode"], shell[:2]) == ("Indexed", ["sh", "-c"])
    shown = shell[2].replace("exec latent-ingest", "printf '%s\\n'")
    shards = []
    for number in range(spec["completions"]):
        environment = {"JOB_COMPLETION_INDEX": str(number), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [*shell[:2], shown], capture_output=True, text=True, check=True, env=environment
        )
        arguments = done.stdout.splitlines()
        shards.append(Shard.parse(arguments[arguments.index("--shard") + 1]))
    assert shards == [Shard(n, spec["completions"]) for n in range(1, spec["completions"] + 1)]
    known = {name for parameter in ingest.params for name in parameter.opts}
    assert {one for one in arguments if one.startswith("--")} <= known
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {container["workingDir"], "/corpus"} <= mounted
