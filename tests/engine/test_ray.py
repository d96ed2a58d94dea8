"""Ingest on a real Ray: the index is the files, whichever of its processes is killed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import Result
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConflictError
from s3_server import S3
from toys import toy_backbone, toy_model

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.on_ray import enrich
from latent_ingest.connector.indexing.on_ray.blocks import Done, FileTask, read_file, room_of
from latent_ingest.connector.indexing.on_ray.settings import OnRay, Pool, pool_of
from latent_ingest.connector.indexing.verify import Verification

ray = pytest.importorskip("ray")

TESTS = Path(__file__).parent.parent
FILES = ["a.jsonl", "b.jsonl", "c.jsonl"]
LINES = 600


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[str]:
    """The address of a Ray that outlives its drivers, and whose workers can read buckets."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.chdir(tmp_path_factory.mktemp("ray"))
        found = ray.init(
            "local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20
        )
    yield found.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    return toy_model(folder / "model", toy_backbone(folder / "backbone"))


@pytest.fixture
def files() -> list[str]:
    """Three files: each tenth id is in all of them, and each has a bad line and a blank one."""
    for name in FILES:
        rows = [
            {"_id": f"{'every' if n % 10 == 0 else name}-{n}", "text": f"find trees in {name} {n}"}
            for n in range(LINES)
        ]
        lines = [json.dumps(row) for row in rows]
        Path(name).write_text("\n".join([*lines[:100], "", "no json", *lines[100:]]) + "\n")
    return FILES


@pytest.fixture
def in_bucket(files: list[str], s3: S3, bucket: str) -> list[str]:
    """The same three files in a bucket."""
    s3.fill(bucket, {f"corpus/{name}": Path(name).read_bytes() for name in files})
    return [f"s3://{bucket}/corpus/{name}" for name in files]


Driver = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def driver(cluster: str, opensearch_url: str, index: str, model: Path) -> Iterator[Driver]:
    """Start a run in a process of its own, which takes some seconds for each batch.

    Each process of it that encodes does so many batches, then waits while there is a file "hold".
    Without files, the index is enriched.
    """
    started: list[subprocess.Popen[str]] = []

    def start(
        seconds: float = 0.3, batches: int = 0, files: Sequence[str] = FILES
    ) -> subprocess.Popen[str]:
        command = [sys.executable, str(TESTS / "ray_driver.py"), opensearch_url, index, str(model)]
        held = [str(Path("hold").absolute()), str(batches)]
        done = subprocess.Popen(
            [*command, str(seconds), *held, *files],
            env={**os.environ, "RAY_ADDRESS": cluster, "PYTHONPATH": str(TESTS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(done)
        return done

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines_done() -> int:
    path = Path("progress")
    return int(path.read_text() or 0) if path.exists() else 0


def wait_for_lines(process: subprocess.Popen[str], number: int) -> None:
    ends = time.monotonic() + 900
    while lines_done() < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    return report


def check(
    client: OpenSearch, index: str, report: dict[str, Any], files: Sequence[str] = FILES
) -> None:
    """All counts are those of a run that nothing happens to, and the index is the files."""
    wanted = {"indexed": 3 * 540 + 60, "replaced": 120, "failed": 3, "blank": 3, "not_sent": 0}
    assert {name: report[name] for name in wanted} == wanted
    assert (report["lines"], report["stopped"]) == (3 * (LINES + 2), None)
    failed = [json.loads(line) for line in Path(report["failures_file"]).read_text().splitlines()]
    places = [(line["_failure"]["file"], line["_failure"]["line"]) for line in failed]
    assert sorted(places) == [(name, 102) for name in files]
    compared = Verification(Index(client, index), files).run()
    assert [compared.same, compared.missing.count, compared.different.count] == [1680, 0, 0]
    assert [compared.extra.count, compared.stale.count] == [0, 0]


def kill_worker(name: str) -> None:
    """Kill a process of Ray that does something, by the beginning of what it is called."""
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                if process.cmdline()[:1] and process.cmdline()[0].startswith(name):
                    process.kill()
                    return
        time.sleep(0.02)
    pytest.fail(f"no process {name}")


def test_a_run_on_ray_is_as_one_without(
    cluster: str,
    run: Callable[..., Result],
    client: OpenSearch,
    index: str,
    model: Path,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    named = [*files, "--index", index, "--model", model, "--json"]
    done = run(*named, "--on", "ray", "--encoders", "1")
    assert done.exit_code == 1  # three bad lines
    check(client, index, json.loads(done.stdout))
    assert "no json" in Path(f"{index}.failed.jsonl").read_text()
    meta = Index(client, index).meta()
    assert (meta.runs, meta.loading) == (1, None)


def test_files_of_a_bucket_are_read_by_the_workers(
    cluster: str,
    run: Callable[..., Result],
    client: OpenSearch,
    index: str,
    model: Path,
    in_bucket: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    pattern = f"{in_bucket[0].rpartition('/')[0]}/*.jsonl"
    named = [pattern, "--index", index, "--model", model, "--json"]
    done = run(*named, "--on", "ray", "--encoders", "1")
    assert done.exit_code == 1  # three bad lines
    check(client, index, json.loads(done.stdout), in_bucket)
    compare = ["verify", pattern, "--index", index, "--json"]
    wanted, on_ray = run(*compare), run(*compare, "--on", "ray")
    assert json.loads(on_ray.stdout) == json.loads(wanted.stdout)
    assert json.loads(on_ray.stdout)["same"] == 1680


@pytest.mark.slow
def test_workers_and_a_driver_that_are_killed_change_nothing_in_files_of_a_bucket(
    driver: Driver, client: OpenSearch, index: str, in_bucket: list[str]
) -> None:
    hold = Path("hold")
    hold.touch()  # so at most 6 of 12 batches are done until the driver is killed
    process = driver(batches=2, files=in_bucket)
    wait_for_lines(process, 100)
    kill_worker("ray::MapWorker")
    wait_for_lines(process, 300)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hold.unlink()
    report = ended(driver(0, files=in_bucket))
    assert report["resumed_after"] >= 300
    check(client, index, report, in_bucket)


@pytest.mark.slow
def test_workers_that_are_killed_change_nothing(
    driver: Driver, client: OpenSearch, index: str, files: list[str]
) -> None:
    assert files
    hold = Path("hold")
    hold.touch()  # so at most 8 of 12 batches are done until the second worker is killed
    process = driver(batches=2)
    wait_for_lines(process, 100)
    kill_worker("ray::MapWorker")
    wait_for_lines(process, 300)
    kill_worker("ray::Collector")
    kill_worker("ray::MapWorker")
    assert process.poll() is None
    hold.unlink()
    check(client, index, ended(process))


@pytest.mark.slow
def test_a_driver_that_is_killed_is_resumed_by_the_same_command(
    driver: Driver, client: OpenSearch, index: str, files: list[str]
) -> None:
    assert files
    hold = Path("hold")
    hold.touch()  # so at most 10 of 12 batches are done until the second driver is killed
    for least, batches in ((100, 2), (700, 3)):
        process = driver(batches=batches)
        wait_for_lines(process, least)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    hold.unlink()
    done = lines_done()
    report = ended(driver(0))  # whose first lines may come before those that are done
    assert 700 <= done <= report["resumed_after"] < report["lines"]
    check(client, index, report)
    assert list(client.indices.get_alias(index=index)[index]["aliases"]) == []


@pytest.mark.slow
def test_a_run_is_not_resumed_once_another_has_loaded_the_index(
    driver: Driver, run: Callable[..., Result], index: str, model: Path, files: list[str]
) -> None:
    hold = Path("hold")
    hold.touch()
    process = driver(batches=2)
    wait_for_lines(process, 100)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hold.unlink()
    Path("other.jsonl").write_text('{"_id": "other", "text": "bees"}\n')
    assert run("other.jsonl", "--index", index, "--model", model).exit_code == 0
    again = run(*files, "--index", index, "--model", model, "--on", "ray", "--encoders", "2")
    assert again.exit_code == 2
    (line,) = [line for line in again.stderr.splitlines() if line.startswith("Error")]
    assert f"another run has loaded index {index} since this one was interrupted" in line
    assert line.endswith("start again with --restart")


@pytest.mark.parametrize("long", ["pool", "chunks"])
def test_a_comparison_on_ray_is_that_without(
    cluster: str,
    run: Callable[..., Result],
    client: OpenSearch,
    index: str,
    model: Path,
    files: list[str],
    long: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever differs; lines of several files with the same id, and bad lines, too."""
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    named = ["--index", index, "--no-questions", "--model", model]
    assert run(*files, *named, "--long", long).exit_code == 1  # three bad lines
    change_some(client, index)
    compare = ["verify", *files, "--index", index, "--json"]
    without, on_ray = run(*compare), run(*compare, "--on", "ray")
    assert (without.exit_code, on_ray.exit_code) == (1, 1)
    wanted = json.loads(without.stdout)
    assert json.loads(on_ray.stdout) == wanted
    assert (wanted["missing"]["count"], wanted["extra"]["count"]) == (15, 7)
    assert wanted["different"]["count"] + wanted["stale"]["count"] == (30 if long == "pool" else 15)
    text = run("verify", *files, "--index", index, "--on", "ray")
    assert text.stdout == run("verify", *files, "--index", index).stdout


def change_some(client: OpenSearch, index: str) -> None:
    """Delete documents, change them and add some, behind the back of the ingest."""
    hits = client.search(index=index, size=2000, sort="_doc")["hits"]["hits"]
    assert len(hits) == 1680
    changes: list[dict[str, Any]] = []
    for number, hit in enumerate(hits[:60]):
        target = {"_index": index, "_id": hit["_id"]}
        if number < 15:
            changes.append({"delete": target})
        elif number < 30:
            changes += [{"update": target}, {"doc": {"text": "something else"}}]
        elif number < 45:
            changes += [{"update": target}, {"doc": {"latent_hash": "of another text"}}]
        elif number < 52:
            changes += [{"index": {**target, "_id": f"more{hit['_id']}"}}, hit["_source"]]
    assert not client.bulk(body=changes, refresh="true")["errors"]


def held(process: subprocess.Popen[str], folder: Path, without: set[str]) -> set[str]:
    """The workers that wait in a task, once there are some besides others."""
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        assert process.poll() is None, process.communicate()
        if found := {file.name for file in folder.iterdir()} - without:
            return found
        time.sleep(0.05)
    pytest.fail(f"nothing waits in {folder.name}")


@pytest.mark.slow
@pytest.mark.parametrize("long", ["pool", "chunks"])
def test_a_comparison_whose_workers_are_killed_is_that_without(
    cluster: str,
    run: Callable[..., Result],
    opensearch_url: str,
    client: OpenSearch,
    index: str,
    model: Path,
    files: list[str],
    long: str,
) -> None:
    """In each of its three stages, twice; what killed tasks have found is not counted."""
    named = ["--index", index, "--no-questions", "--model", model, "--long", long]
    assert run(*files, *named).exit_code == 1  # three bad lines
    change_some(client, index)
    tasks = [Path("hold", task).absolute() for task in ("last_lines", "compared", "extra")]
    for folder in tasks:
        folder.mkdir(parents=True)
    command = [sys.executable, str(TESTS / "ray_verify.py"), opensearch_url, index]
    process = subprocess.Popen(
        [*command, str(tasks[0].parent), *files],
        env={**os.environ, "RAY_ADDRESS": cluster, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for folder in tasks:
            killed: set[str] = set()
            for _ in range(2):
                found = held(process, folder, killed)
                killed |= found
                for number in found:
                    os.kill(int(number), signal.SIGKILL)
            shutil.rmtree(folder)
        report = ended(process)
    finally:
        process.kill()
        process.communicate()
    wanted = Verification(Index(client, index), files).run()
    assert report == json.loads(json.dumps(asdict(wanted)))
    assert (wanted.lines, wanted.missing.count, wanted.extra.count) == (3 * (LINES + 2), 15, 7)


def test_a_file_that_breaks_off_ends_a_comparison_on_ray(
    cluster: str,
    run: Callable[..., Result],
    index: str,
    model: Path,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    packed = gzip.compress(Path(files[0]).read_bytes())
    Path("a.jsonl.gz").write_bytes(packed)
    assert run("a.jsonl.gz", "--index", index, "--no-questions", "--model", model).exit_code == 1
    Path("a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    broken = run("verify", "a.jsonl.gz", "--index", index, "--on", "ray")
    assert broken.exit_code == 2
    (line,) = [line for line in broken.stderr.splitlines() if line.startswith("Error")]
    assert "a.jsonl.gz: broken after line" in line


TEXTS = 900


@pytest.fixture
def texts(client: OpenSearch, index: str) -> list[str]:
    """Documents of an index of two shards that has no latent terms, some written twice."""
    settings = {"settings": {"number_of_shards": 2, "number_of_replicas": 0}}
    client.indices.create(index=index, body=settings)
    for most in (TEXTS, TEXTS // 2):
        actions: list[dict[str, Any]] = []
        for number in range(most):
            actions += [{"index": {"_id": str(number)}}, {"text": f"find trees in leaf {number}"}]
        assert not client.bulk(body=actions, index=index, refresh="true")["errors"]
    return [f"find trees in leaf {number}" for number in range(TEXTS)]


def terms_of(client: OpenSearch, index: str) -> dict[str, tuple[str, str, str]]:
    """Text, hash and latent terms of each document."""
    client.indices.refresh(index=index)
    hits = client.search(index=index, size=2000)["hits"]["hits"]
    names = ("text", "latent_hash", "latent")
    return {hit["_id"]: tuple(hit["_source"].get(name, "") for name in names) for hit in hits}


def check_terms(client: OpenSearch, index: str) -> None:
    """Every document has latent terms of the text that it has."""
    found = terms_of(client, index)
    assert len(found) == TEXTS
    assert all(latent and hashed == text_hash(text) for text, hashed, latent in found.values())


def test_an_enrichment_on_ray_is_as_one_without(
    cluster: str,
    run: Callable[..., Result],
    client: OpenSearch,
    index: str,
    model: Path,
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setattr(enrich, "DOCUMENTS", 100)
    named = ["--text-fields", "text", "--model", model, "--yes", "--no-questions", "--json"]
    done = run("enrich", "--index", index, *named, "--on", "ray", "--encoders", "1")
    assert done.exit_code == 0
    found = terms_of(client, index)
    check_terms(client, index)
    client.update_by_query(
        index=index, body={"script": "ctx._source.remove('latent_hash')"}, refresh=True
    )
    again = run("enrich", "--index", index, *named)
    assert terms_of(client, index) == found
    counts = [json.loads(result.stdout) for result in (done, again)]
    for each in counts:
        for name in ("seconds", "documents_per_second", "tokens_per_second"):
            del each[name]
    assert counts[0] == counts[1]
    assert (counts[0]["read"], counts[0]["encoded"]) == (len(texts), len(texts))
    up_to_date = run("enrich", "--index", index, *named, "--on", "ray", "--encoders", "1")
    assert json.loads(up_to_date.stdout)["up_to_date"] == len(texts)


def test_a_copy_is_enriched_on_ray_and_takes_the_alias(
    cluster: str,
    run: Callable[..., Result],
    client: OpenSearch,
    index: str,
    model: Path,
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    alias = f"{index}-alias"
    named = ["--text-fields", "text", "--model", model, "--alias", alias, "--json"]
    done = run("enrich", "--index", index, *named, "--on", "ray", "--encoders", "1")
    assert done.exit_code == 0, done.stderr
    counts = json.loads(done.stdout)
    try:
        assert (counts["encoded"], counts["alias_moved"]) == (len(texts), True)
        assert list(client.indices.get_alias(name=alias)) == [counts["index"]]
        check_terms(client, alias)
        assert len(without_terms(client, index)) == len(texts)
    finally:
        client.indices.delete(index=counts["index"])


def without_terms(client: OpenSearch, index: str) -> list[dict[str, Any]]:
    """Documents that have no latent terms."""
    client.indices.refresh(index=index)
    query = {"bool": {"must_not": [{"exists": {"field": "latent"}}]}}
    body = {"query": query, "seq_no_primary_term": True, "size": 2000}
    hits: list[dict[str, Any]] = client.search(index=index, body=body)["hits"]["hits"]
    return hits


def write_others(client: OpenSearch, index: str, number: int) -> set[str]:
    """Change some documents that have no latent terms yet; returns their ids."""
    written: set[str] = set()
    for hit in without_terms(client, index):
        state = {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
        with suppress(ConflictError):  # it has them meanwhile
            body = {"doc": {"text": "find other trees"}}
            client.update(index=index, id=hit["_id"], body=body, params=state)
            written.add(hit["_id"])
        if len(written) == number:
            return written
    pytest.fail("too few documents are left")


@pytest.mark.slow
def test_enrichments_whose_workers_are_killed_lose_nothing(
    driver: Driver, client: OpenSearch, index: str, texts: list[str]
) -> None:
    """Nor do they overwrite what others write meanwhile."""
    hold = Path("hold")
    hold.touch()
    process = driver(batches=1, files=())
    wait_for_lines(process, 100)
    kill_worker("ray::MapWorker")
    written = write_others(client, index, 5)
    kill_worker("ray::MapWorker")
    assert process.poll() is None
    hold.unlink()
    report = ended(process)
    assert (report["read"], report["encoded"], report["left"]) == (TEXTS, TEXTS, 0)
    assert (report["conflicts"], report["stopped"], report["failed"]) == (5, None, 0)
    check_terms(client, index)
    found = terms_of(client, index)
    assert {one for one, (text, *_) in found.items() if text not in texts} == written


@pytest.mark.slow
def test_an_enrichment_whose_driver_is_killed_is_resumed_by_the_same_command(
    driver: Driver, client: OpenSearch, index: str, texts: list[str]
) -> None:
    hold = Path("hold")
    hold.touch()
    process = driver(batches=1, files=())
    wait_for_lines(process, 100)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hold.unlink()
    done = len(texts) - len(without_terms(client, index))
    assert 100 <= done < TEXTS
    report = ended(driver(0, files=()))
    assert report["up_to_date"] >= done
    assert report["up_to_date"] + report["encoded"] == report["read"] == TEXTS
    check_terms(client, index)


@pytest.mark.slow
def test_a_worker_without_the_model_ends_the_run_with_one_line(
    driver: Driver, files: list[str]
) -> None:
    assert files
    report = ended(driver(-1))
    assert report["indexed"] == 0
    assert "a worker of Ray on" in report["stopped"]
    assert "lacks the model" in report["stopped"]
    assert "no such model folder" in report["stopped"]


def test_a_missing_ray_is_named_with_its_extra(
    client: OpenSearch, index: str, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    job = IngestJob(client, files, index=index, on=OnRay(Connection("http://localhost:1")))
    with pytest.raises(InputError, match=r"pip install 'latent-ingest\[ray\]'"):
        job.run()
    assert not client.indices.exists(index=index)


@pytest.mark.parametrize(
    ("given", "resources", "wanted"),
    [
        ((None, None), {"CPU": 4.0}, Pool(4, 0)),
        ((None, None), {"CPU": 4.0, "GPU": 2.0}, Pool(2, 1)),
        ((None, 0.5), {"CPU": 4.0, "GPU": 2.0}, Pool(4, 0.5)),
        ((2, 0), {"CPU": 4.0, "GPU": 2.0}, Pool(2, 0)),
        ((5, None), {"CPU": 4.0}, "5 encoders are too many for .* 4 cores"),
        ((3, 1), {"CPU": 4.0, "GPU": 2.0}, "2 GPUs, for 2 encoders with 1 each"),
        ((1, 1), {"CPU": 4.0}, "an encoder needs 1 GPUs, and the cluster of Ray has 0"),
    ],
)
def test_the_encoders_of_a_cluster(
    given: tuple[Any, Any], resources: dict[str, float], wanted: Pool | str
) -> None:
    on = OnRay(Connection("http://localhost:1"), *given)
    if isinstance(wanted, Pool):
        assert pool_of(on, resources) == wanted
    else:
        with pytest.raises(InputError, match=wanted):
            pool_of(on, resources)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none-*.jsonl", "--on", "ray"], "no file matches"),
        (["-", "--on", "ray"], "a pipe is read by one process"),
        (["a.jsonl", "--on", "ray", "--shard", "1/2"], "--shard is for machines without Ray"),
        (["a.jsonl", "--on", "ray", "--sample", "5"], "--sample reads the files in order"),
        (["a.jsonl", "--on", "ray", "--ids", "engine"], "--ids engine might index"),
        (["a.jsonl", "--encoders", "2"], "are for --on ray"),
        (["enrich", "--gpus-per-encoder", "1"], "are for --on ray"),
        (["enrich", "--on", "ray", "--watch"], "--watch and --on exclude each other"),
    ],
)
def test_what_a_run_on_ray_refuses(
    run: Callable[..., Result], files: list[str], arguments: list[str], reason: str
) -> None:
    assert files
    result = run(*arguments, "--index", "never-made")
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert reason in line


def test_a_file_is_read_without_the_lines_that_are_done(
    client: OpenSearch, index: str, files: list[str], load: Any, encoder: Any
) -> None:
    """In stretches between them; a line that has changed since ends the run."""
    load(client, index, ['{"_id": "a", "text": "bees"}'], encoder=encoder)
    task: dict[str, Any] = {
        "number": 1, "path": files[1], "reading": IngestJob(client, files).reading,
        "id_fields": ("_id",), "meta": Index(client, index).meta(), "characters": 500,
        "room": room_of(3),
    }  # fmt: skip
    every = list(read_file(FileTask(**task)))
    assert every[-1].ended
    assert every[0].after == room_of(3)
    assert [one.last for one in every[:-1]] == [one.after for one in every[1:]]
    assert sum(one.batch.lines for one in every) == LINES + 2
    done = [Done(one.after, one.last, one.digest) for one in (*every[1:3], every[5])]
    left = list(read_file(FileTask(**task, done=done)))
    lines = [document.line for one in left for document in one.batch.documents]
    skipped = {n for one in done for n in range(one.after + 1, one.last + 1)}
    wanted = [document.line for one in every for document in one.batch.documents]
    assert lines == [line for line in wanted if line not in skipped]
    assert (left[-1].ended, left[-1].last) == (True, every[-1].last)
    content = Path(files[1]).read_text().splitlines()
    content[done[0].last - room_of(3) - 1] = '{"_id": "other", "text": "bees"}'
    Path(files[1]).write_text("\n".join(content) + "\n")
    *_, last = read_file(FileTask(**task, done=done))
    assert "have changed; give the same file" in (last.problem or "")
