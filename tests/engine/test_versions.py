"""New versions of an index behind an alias: swapped whole or not at all, and searched all along."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tenacity
import torch
from click.testing import CliRunner, Result
from indexed import PREFIX
from opensearchpy import OpenSearch
from opensearchpy.client import IndicesClient
from opensearchpy.exceptions import TransportError

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.client import Connection, url_of
from latent_ingest.connector.errors import EngineError, MismatchError
from latent_ingest.connector.index.guard import Loading
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo, list_indices
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing import batches
from latent_ingest.connector.indexing.job import IngestJob, JobResult
from latent_ingest.connector.indexing.journal import Journal, RunKey
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.versions import Build
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher
from latent_ingest.mappings import MappingConfig, index_body

QUESTIONS = ["how do bees tell of flowers", "cost of a loan", "bad weather"]
ROWS = [
    {"_id": "bees", "text": "Honey insects dance to tell their hive where nectar is."},
    {"_id": "loans", "text": "The bank raised its interest rate on mortgages by half a percent."},
    {"_id": "rain", "text": "Heavy precipitation flooded the valley after the storm."},
    {"_id": "chess", "text": "She sacrificed her queen and gave checkmate two moves later."},
    {"_id": "bread", "text": "Knead the dough, let it rise, and bake until the crust is brown."},
]


@pytest.fixture
def alias(client: OpenSearch) -> Iterator[str]:
    """A name whose versions are gone after the test."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    yield name
    for index in list_indices(client, f"{name}*"):
        client.indices.delete(index=index.name)


@pytest.fixture(scope="session")
def other(backbone: Backbone) -> LatentEncoder:
    """The shipped model with its latents numbered otherwise: same scores, other terms."""
    autoencoder = TokenAutoencoder.load(SHIPPED_MODEL)
    order = torch.randperm(autoencoder.config.n_latents, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        autoencoder.W_enc.data = autoencoder.W_enc.data[:, order].contiguous()
        autoencoder.b_enc.data = autoencoder.b_enc.data[order]
        assert autoencoder.document_frequency is not None
        autoencoder.document_frequency = autoencoder.document_frequency[order]
    return LatentEncoder(backbone, autoencoder, name="Other Model!")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Choose which loaded model the commands use."""

    def choose(chosen: LatentEncoder) -> None:
        monkeypatch.setattr("latent_ingest.cli.options.ChosenModel.load", lambda *_: chosen)

    return choose


Run = Callable[..., Result]


@pytest.fixture
def run(
    opensearch_url: str, monkeypatch: pytest.MonkeyPatch, model: Any, encoder: LatentEncoder
) -> Run:
    """Call a command; the error is one line."""
    model(encoder)
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: object, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], **options)
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


def write(rows: list[Any], name: str = "c.jsonl") -> str:
    Path(name).write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return name


def the_journal() -> Journal:
    """That the commands use."""
    return Journal(Path(os.environ["LATENT_INGEST_JOURNAL"]))


def pointed_at(client: OpenSearch, alias: str) -> list[str]:
    return [index.name for index in list_indices(client, alias)]


def settings_of(client: OpenSearch, index: str) -> dict[str, Any]:
    ((_, content),) = client.indices.get_settings(index=index).items()
    found: dict[str, Any] = content["settings"]["index"]
    return found


def error(result: Result) -> str:
    """The line that says what was wrong."""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    return line


@contextmanager
def within_the_run(act: Callable[[IngestJob], JobResult[IngestReport]]) -> Iterator[None]:
    """Within it, the command's job is run by `act`, one line a batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MAX_BATCH_LINES", 1)
        patch.setattr("latent_ingest.cli.jobs.run_with_bar", act)
        yield


def interrupted(run: Run, *arguments: object, lines: int = 3) -> Result:
    """The command, interrupted after so many lines; they are done, and those in flight then."""

    def stop(job: IngestJob) -> JobResult[IngestReport]:
        return job.run(lambda report, _: job.stop() if report.lines >= lines else None)

    with within_the_run(stop):
        return run(*arguments, code=130)


def killed(run: Run, *arguments: object) -> None:
    """The command, of which the engine hears no more after some lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loading, "end", lambda _: None)
        interrupted(run, *arguments)


def built(run: Run, alias: str, *options: object, rows: Sequence[Any] = ROWS) -> str:
    """Build a version; the name of its index."""
    report = json.loads(run(write(rows), "--alias", alias, "--json", *options).stdout)
    assert report["alias_moved"]
    return str(report["index"])


def test_a_new_version_takes_the_alias_when_it_is_complete(
    run: Run, client: OpenSearch, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile: dict[str, Any] = {}

    def look(job: IngestJob) -> JobResult[IngestReport]:
        def note(*_: Any) -> None:
            (index,) = [i for i in list_indices(client, f"{alias}-*") if not i.complete]
            meanwhile.update(settings_of(client, index.name), behind=pointed_at(client, alias))

        return job.run(note)

    def count(*_: Any, body: Any) -> Any:
        requests.append(body["actions"])
        if len(requests) == 1:
            raise TransportError(503, "busy", {})
        return update(client.indices, body=body)

    requests: list[Any] = []
    update = IndicesClient.update_aliases
    monkeypatch.setattr(IndicesClient, "update_aliases", count)
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_fixed(0.01))

    done = run(write(ROWS), "--alias", alias)
    first, second = f"{alias}-minilm-32k-1", f"{alias}-minilm-32k-2"
    assert done.stdout.splitlines()[-1] == f"alias {alias} → {first}"
    assert pointed_at(client, alias) == [first]

    with within_the_run(look):
        done = run(write(ROWS[:4]), "--alias", alias, "--merge")
    assert done.stdout.splitlines()[-1] == f"alias {alias}: {first} → {second}"
    assert pointed_at(client, alias) == [second]
    assert client.count(index=alias)["count"] == 4
    assert client.count(index=first)["count"] == 5
    assert meanwhile["behind"] == [first]
    assert (meanwhile["number_of_replicas"], meanwhile["refresh_interval"]) == ("0", "-1")
    settings = settings_of(client, second)
    assert settings["number_of_replicas"] == "1"
    assert "refresh_interval" not in settings
    assert [len(request) for request in requests] == [1, 1, 2]


def test_replicas_of_a_template_come_back_and_filters_of_the_alias_stay(
    run: Run, client: OpenSearch, alias: str
) -> None:
    client.indices.put_index_template(
        name=alias,
        body={
            "index_patterns": [f"{alias}-*"],
            "priority": 500,
            "template": {"settings": {"number_of_replicas": 3}},
        },
    )
    try:
        first = built(run, alias)
        assert settings_of(client, first)["number_of_replicas"] == "3"
        client.indices.put_alias(index=first, name=alias, body={"filter": {"term": {"n": 1}}})
        second = built(run, alias, rows=[{**row, "n": n % 2} for n, row in enumerate(ROWS)])
        assert settings_of(client, second)["number_of_replicas"] == "3"
    finally:
        client.indices.delete_index_template(name=alias)
    assert client.count(index=second)["count"] == 5
    assert client.count(index=alias)["count"] == 2


def test_names_are_of_model_and_number(
    run: Run, client: OpenSearch, alias: str, model: Any, other: LatentEncoder
) -> None:
    """Numbers continue over all models, and skip an index that somebody else made."""
    assert built(run, alias) == f"{alias}-minilm-32k-1"
    model(other)
    client.indices.create(index=f"{alias}-other-model-2")
    assert built(run, alias) == f"{alias}-other-model-3"


def test_a_run_with_failed_lines_does_not_take_the_alias(
    run: Run, client: OpenSearch, alias: str
) -> None:
    """It says what to do, and that works."""
    first = built(run, alias)
    done = run(write([*ROWS, "broken"]), "--alias", alias, "--json", code=1)
    report = json.loads(done.stdout)
    second = report["index"]
    assert (report["alias_moved"], report["failed"], second) == (False, 1, f"{alias}-minilm-32k-2")
    assert f"alias {alias} still points at {first}: 1 of the lines failed; " in error(done)
    assert f"correct c.failed.jsonl and ingest it with --index {second}" in error(done)
    assert pointed_at(client, alias) == [first]
    assert settings_of(client, second)["number_of_replicas"] == "0"

    run(write([{"_id": "corrected", "text": "moths"}]), "--index", second)
    taken = run("rollback", "--alias", alias, "--to", second)
    assert taken.stdout == f"alias {alias}: {first} → {second}\n"
    assert client.count(index=alias)["count"] == 6
    assert settings_of(client, second)["number_of_replicas"] == "1"
    assert run("rollback", "--alias", alias).stdout == f"alias {alias}: {second} → {first}\n"


def test_an_interrupted_run_resumes_and_then_takes_the_alias(
    run: Run, client: OpenSearch, alias: str
) -> None:
    file = write(ROWS)
    stopped = interrupted(run, file, "--alias", alias)
    index = f"{alias}-minilm-32k-1"
    assert f"alias {alias} is not created: the run was stopped; the same command" in stopped.stderr
    assert f"rollback --alias {alias} --to {index}" in stopped.stderr
    assert pointed_at(client, alias) == []
    done = run(file, "--alias", alias, "--json")
    report = json.loads(done.stdout)
    assert f"alias {alias}: resuming {index}, which is not complete" in done.stderr
    assert (report["index"], report["indexed"]) == (index, 5)
    assert 3 <= report["resumed_after"] <= 5
    assert pointed_at(client, alias) == [index]
    assert settings_of(client, index)["number_of_replicas"] == "1"
    assert built(run, alias) == f"{alias}-minilm-32k-2", "the next run is a new one"


def test_a_run_that_was_interrupted_at_the_swap_resumes(
    run: Run, client: OpenSearch, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its last document but before the swap, and after the swap."""

    def no_finish(*_: Any) -> None:
        raise EngineError("the power went")

    def no_last_note(index: Index, **changes: Any) -> None:
        if "complete" in changes:
            raise EngineError("the power went")
        update_meta(index, **changes)

    file, update_meta = write(ROWS), Index.update_meta
    for where, name, cut_off in (
        (Build, "finish", no_finish), (Index, "update_meta", no_last_note)
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(where, name, cut_off)
            done = run(file, "--alias", alias, code=1)
        assert "the run did not end; once the cause is fixed, the same" in done.stderr
        (*_, unfinished) = list_indices(client, f"{alias}-*")
        assert unfinished.complete is False
        report = json.loads(run(file, "--alias", alias, "--json").stdout)
        assert (report["index"], report["resumed_after"]) == (unfinished.name, 5), name
        assert pointed_at(client, alias) == [unfinished.name]
        assert IndexInfo.read(client, unfinished.name).complete is True


def test_restart_and_other_runs_begin_a_version_of_their_own(
    run: Run, client: OpenSearch, alias: str, model: Any, other: LatentEncoder
) -> None:
    file = write(ROWS)
    interrupted(run, file, "--alias", alias)
    another = write(ROWS, "d.jsonl")
    for number, arguments in enumerate(
        [(another,), (file, "--scale", "2"), (file, "--restart")], start=2
    ):
        done = run(*arguments, "--alias", alias, "--json")
        assert json.loads(done.stdout)["index"] == f"{alias}-minilm-32k-{number}"
    model(other)
    assert built(run, alias) == f"{alias}-other-model-5"
    states = {index.name[-1]: index.complete for index in list_indices(client, f"{alias}-*")}
    assert states == {"1": False, "2": True, "3": True, "4": True, "5": True}


def test_an_interrupted_restart_is_resumed_by_the_command_without_restart(
    run: Run, client: OpenSearch, alias: str
) -> None:
    file = write(ROWS)
    built(run, alias)
    done = interrupted(run, file, "--alias", alias, "--restart")
    assert done.stderr.count("the same command without --restart resumes it") == 1
    assert "the same command without --restart resumes and duplicates nothing" in done.stdout
    shown = run("runs").stdout
    command = f"latent-ingest ingest {file} --alias {alias}"
    assert f"resume with: cd {Path.cwd()} && {command}\n" in shown
    report = json.loads(run(file, "--alias", alias, "--json").stdout)
    assert report["index"][-1] == "2"
    assert 3 <= report["resumed_after"] <= len(ROWS)
    assert pointed_at(client, alias) == [report["index"]]


def test_a_changed_file_is_refused_and_the_alias_stays(
    run: Run, client: OpenSearch, alias: str
) -> None:
    first = built(run, alias)
    interrupted(run, write(ROWS), "--alias", alias)
    done = run(write(list(reversed(ROWS))), "--alias", alias, code=2)
    assert re.search(r"first [345] lines are not those that were ingested before", error(done))
    assert f"alias {alias} still points at {first}: the run did not end" in done.stderr
    assert pointed_at(client, alias) == [first]


def test_what_the_run_did_not_index_keeps_it_from_the_alias(
    run: Run, client: OpenSearch, alias: str
) -> None:
    file = write(ROWS)
    interrupted(run, file, "--alias", alias)
    index = f"{alias}-minilm-32k-1"
    client.index(index=index, id="foreign", body={"text": "x"})
    done = run(file, "--alias", alias, code=1)
    assert f"{index} has 6 documents and the run indexed 5, so something else" in error(done)
    assert pointed_at(client, alias) == []


def test_an_empty_file_does_not_take_the_alias(run: Run, alias: str) -> None:
    first = built(run, alias)
    done = run(write([]), "--alias", alias, code=1)
    assert f"alias {alias} still points at {first}: the file has no documents" in error(done)


def test_rollback_goes_back_one_complete_version(
    run: Run, client: OpenSearch, alias: str, model: Any, other: LatentEncoder
) -> None:
    file = write(ROWS)
    first = built(run, alias)
    interrupted(run, file, "--alias", alias)
    model(other)
    third = built(run, alias)
    shown = run("rollback", "--alias", alias).stdout.splitlines()
    assert shown == [
        f"alias {alias}: {third} → {first}",
        "its model is minilm-32k, it was Other Model!",
    ]
    assert pointed_at(client, alias) == [first]
    nothing = run("rollback", "--alias", alias, code=2)
    assert f"there is no complete version before {first}" in error(nothing)
    again = run("rollback", "--alias", alias, "--to", first, code=2)
    assert f"alias {alias} points at {first} already" in error(again)
    forth = json.loads(run("rollback", "--alias", alias, "--to", third, "--json").stdout)
    assert forth == {"alias": alias, "from": first, "to": third}
    assert pointed_at(client, alias) == [third]


def test_rollback_to_a_version_whose_run_was_killed_takes_it_as_it_is(
    run: Run, client: OpenSearch, alias: str
) -> None:
    killed(run, write(ROWS), "--alias", alias)
    index = f"{alias}-minilm-32k-1"
    assert settings_of(client, index)["refresh_interval"] == "-1"
    run("rollback", "--alias", alias, "--to", index)
    settings = settings_of(client, index)
    assert (settings.get("refresh_interval"), settings["number_of_replicas"]) == (None, "1")
    assert list(client.indices.get_alias(index=index)[index]["aliases"]) == [alias]


def test_rollback_refuses_what_is_no_version(
    run: Run, client: OpenSearch, alias: str, new_index: Any
) -> None:
    first = built(run, alias)
    second = built(run, alias)
    foreign = new_index()
    client.indices.create(index=foreign)

    def refused(*arguments: str) -> str:
        result = run("rollback", "--alias", *arguments, code=2)
        assert pointed_at(client, alias) == [second]
        return error(result)

    assert f"{alias}-x is not an index; 'latent-ingest indices' lists" in refused(
        alias, "--to", f"{alias}-x"
    )
    assert "  is not an index" in refused(alias, "--to", "")
    assert f"{foreign} has no latent terms" in refused(alias, "--to", foreign)
    books = f"{alias}-books"
    assert f"no alias {books}; " in refused(books)
    assert f"{first} is a version of alias {alias}, not of {books}" in refused(books, "--to", first)
    with closing(the_journal()) as journal:
        key = RunKey("c.jsonl", first, Index(client, first).uuid())
        with closing(journal.open(key)):
            assert f"index {first} is being ingested into" in refused(alias)
    client.indices.close(index=first)
    assert f"index {first} is closed; open it first" in refused(alias)


def test_indices_lists_ours_for_people_and_programs(
    run: Run, client: OpenSearch, alias: str, new_index: Any, load: Any, model: Any,
    other: LatentEncoder,
) -> None:  # fmt: skip
    plain, foreign = new_index(), new_index()
    load(client, plain, [json.dumps(ROWS[0])])
    client.indices.create(index=foreign)
    file = write(ROWS)
    first = built(run, alias)
    model(other)
    second = built(run, alias)
    model(other)
    killed(run, file, "--alias", alias, "--scale", "2")
    client.indices.refresh(index=f"{alias}-other-model-3")
    client.indices.close(index=first)
    client.indices.put_alias(index=second, name=f"{second}.loading-1-0123abcd")

    lines = run("indices").stdout.splitlines()
    assert lines[0].split() == ["index", "model", "documents", "size", "state", "alias", "created"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert foreign not in rows
    assert rows[plain].split()[1:3] == ["minilm-32k", "1"]
    assert rows[plain].split()[4:6] == ["-", "-"]
    assert rows[first].split()[1:5] == ["minilm-32k", "closed", "complete", "-"]
    assert "Other Model!" in rows[second]
    assert rows[second].split()[5:7] == ["loading", alias]
    assert rows[f"{alias}-other-model-3"].split()[5:7] == ["unfinished", "-"]

    found = json.loads(run("indices", "--alias", alias, "--json").stdout)["indices"]
    assert [row["index"] for row in found] == [first, second, f"{alias}-other-model-3"]
    assert [row["documents"] for row in found[:2]] == [None, 5]
    assert 3 <= found[2]["documents"] <= 5
    assert [row["complete"] for row in found] == [True, True, False]
    assert [row["aliases"] for row in found] == [[], [alias], []]
    assert [row["loading"] for row in found] == [False, True, True]
    assert found[1]["bytes"] > 0
    assert found[1]["fingerprint"] == other.fingerprint.digest
    assert found[0]["created"] < found[1]["created"] < found[2]["created"]


def test_an_index_made_before_there_were_versions_opens(
    client: OpenSearch, new_index: Any, encoder: LatentEncoder, load: Any
) -> None:
    index = new_index()
    body = index_body(MappingConfig(), IndexMeta.of(encoder, MappingConfig()).to_json())
    stored = body["mappings"]["_meta"]["latent_ingest"]
    for name in ("alias", "number", "complete", "replicas"):
        del stored[name]
    client.indices.create(index=index, body=body)
    assert load(client, index, [json.dumps(row) for row in ROWS]).indexed == 5
    meta = IndexMeta.read(client, index)
    assert meta is not None
    assert (meta.alias, meta.complete) == (None, None)


def test_prune_keeps_what_is_used_and_the_last_complete_ones(
    run: Run, client: OpenSearch, alias: str
) -> None:
    file = write(ROWS)
    names = [built(run, alias, rows=ROWS[:n]) for n in (1, 2, 3)]
    killed(run, file, "--alias", alias, "--scale", "2")
    names += [f"{alias}-minilm-32k-4", *(built(run, alias, rows=ROWS[:n]) for n in (4, 5))]
    client.indices.put_alias(index=names[0], name=f"{alias}-archive")
    killed(run, file, "--alias", alias, "--scale", "3")
    names.append(f"{alias}-minilm-32k-7")

    def left() -> set[int]:
        return {index.number for index in list_indices(client, f"{alias}-*")}

    assert left() == {1, 2, 3, 4, 5, 6, 7}
    shown = run("prune", "--alias", alias, "--dry-run").stdout.splitlines()
    assert [line.split()[0] for line in shown[1:]] == [names[1], names[3]]
    assert shown[1].split()[2] == "2"
    refused = run("prune", "--alias", alias, code=2)
    assert "prune deletes these 2 indices; agree with --yes, or list them with --dry-run" in error(
        refused
    )
    assert left() == {1, 2, 3, 4, 5, 6, 7}

    # From another machine it cannot be told whether the run of the fourth was killed.
    there = run("prune", "--alias", alias, "--dry-run", "--journal", "other.sqlite")
    assert [line.split()[0] for line in there.stdout.splitlines()[1:]] == [names[1]]
    assert f"{names[3]} stays: a run is loading it, or a run that this journal" in there.stderr

    with closing(the_journal()) as journal:  # one that is being ingested into
        key = RunKey("c.jsonl", names[3], Index(client, names[3]).uuid())
        with closing(journal.open(key)):
            done = run("prune", "--alias", alias, "--yes", "--json")
    assert [row["index"] for row in json.loads(done.stdout)["indices"]] == [names[1]]
    assert f"{names[3]} stays: a run is loading it" in done.stderr
    assert left() == {1, 3, 4, 5, 6, 7}
    shown = run("prune", "--alias", alias, "--keep", "1", "--yes").stdout.splitlines()
    assert shown[-1] == f"deleted {names[2]}, {names[3]}"
    assert left() == {1, 5, 6, 7}
    assert run("prune", "--alias", alias).stdout == f"nothing to delete for alias {alias}\n"


def test_prune_asks_on_a_terminal(
    run: Run, client: OpenSearch, alias: str, opensearch_url: str
) -> None:
    for _ in range(3):
        built(run, alias)
    script = "from latent_ingest.cli.main import cli; cli()"
    command = [sys.executable, "-c", script, "prune", "--alias", alias, "--keep", "1"]
    for answer, left, code in (("n", 3, 1), ("y", 2, 0)):
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            command, stdin=theirs, capture_output=True, text=True, timeout=60,
            env={**os.environ, "OPENSEARCH_URL": opensearch_url},
        )  # fmt: skip
        os.close(ours)
        os.close(theirs)
        assert "prune deletes this index. Continue? [y/N]" in done.stderr
        assert (done.returncode, len(list_indices(client, f"{alias}-*"))) == (code, left)


def test_an_index_behind_two_aliases_keeps_the_other(
    run: Run, client: OpenSearch, alias: str
) -> None:
    first = built(run, alias)
    client.indices.put_alias(index=first, name=f"{alias}-stable")
    built(run, alias)
    third = built(run, alias)
    assert pointed_at(client, f"{alias}-stable") == [first]
    assert pointed_at(client, alias) == [third]
    assert "nothing to delete" in run("prune", "--alias", alias, "--keep", "1", "--yes").stdout


def test_an_alias_of_an_index_made_by_itself_is_taken_over(
    run: Run, client: OpenSearch, alias: str, new_index: Any
) -> None:
    plain = new_index()
    run(write(ROWS), "--index", plain)
    client.indices.put_alias(index=plain, name=alias)
    assert f"{plain}, which was not built with --alias" in error(
        run("rollback", "--alias", alias, code=2)
    )
    assert f"{plain}, which was not built with --alias" in error(
        run("prune", "--alias", alias, code=2)
    )
    listed = json.loads(run("indices", "--alias", alias, "--json").stdout)["indices"]
    assert [row["index"] for row in listed] == [plain]
    first = built(run, alias)
    assert pointed_at(client, alias) == [first]
    run("rollback", "--alias", alias, "--to", plain)
    assert pointed_at(client, alias) == [plain]


def test_on_elasticsearch(run: Run, any_elasticsearch: OpenSearch, alias: str) -> None:
    url = ("--url", url_of(any_elasticsearch))
    names = [built(run, alias, *url, rows=ROWS[:n]) for n in (2, 3, 4)]
    try:
        assert pointed_at(any_elasticsearch, alias) == [names[2]]
        assert settings_of(any_elasticsearch, names[2])["number_of_replicas"] == "1"
        run("rollback", "--alias", alias, *url)
        assert pointed_at(any_elasticsearch, alias) == [names[1]]
        run("rollback", "--alias", alias, "--to", names[2], *url)
        run("prune", "--alias", alias, "--keep", "1", "--yes", *url)
        found = json.loads(run("indices", "--alias", alias, "--json", *url).stdout)["indices"]
        assert [(row["index"], row["documents"]) for row in found] == [
            (names[1], 3),
            (names[2], 4),
        ]
    finally:
        for index in list_indices(any_elasticsearch, f"{alias}-*"):
            any_elasticsearch.indices.delete(index=index.name)


@pytest.mark.parametrize("command", ["ingest", "rollback", "prune", "indices"])
def test_names_that_cannot_be_an_alias_are_refused(
    run: Run, client: OpenSearch, alias: str, new_index: Any, command: str
) -> None:
    plain = new_index()
    client.indices.create(index=plain)
    words = [new_index(), new_index()]
    for name in words:
        client.indices.create(index=name)
        client.indices.put_alias(index=name, name=alias)
    arguments = [write(ROWS)] if command == "ingest" else [command]
    for name in ("Papers", "p*", "a,b", "a b", "-a", "_all", ".", "", "a/b", "<a-{now/d}>"):
        assert "an alias is lower case" in error(run(*arguments, "--alias", name, code=2)), name
    assert f"{plain} is an index, not an alias" in error(run(*arguments, "--alias", plain, code=2))
    several = error(run(*arguments, "--alias", alias, code=2))
    assert f"alias {alias} points at 2 indices ({', '.join(sorted(words))})" in several
    assert [i.name for i in list_indices(client, f"{PREFIX}*")] == sorted([plain, *words])


def test_other_refusals(run: Run, client: OpenSearch, alias: str, new_index: Any) -> None:
    file = write(ROWS)
    both = run(file, "--alias", alias, "--index", "papers", code=2)
    assert "an alias names its own indices; give index or alias, not both" in error(both)
    words = new_index()
    client.indices.create(index=words)
    client.indices.put_alias(index=words, name=alias)
    refused = error(run(file, "--alias", alias, code=2))
    assert f"alias {alias} points at {words}, which has no latent terms" in refused
    long = error(run(file, "--alias", "a" * 250, code=2))
    assert "cannot be created" in long
    assert "255" in long
    for command in ("rollback", "prune"):
        assert f"no alias {alias}-x;" in error(run(command, "--alias", f"{alias}-x", code=2))
    assert run("indices", "--alias", f"{alias}-x").stdout == "no indices\n"


def test_search_rewrite_and_verify_take_the_alias(
    run: Run, alias: str, model: Any, encoder: LatentEncoder, other: LatentEncoder
) -> None:
    index = built(run, alias)
    file = write(ROWS)
    hits = json.loads(run("search", QUESTIONS[0], "--index", alias, "--json").stdout)["hits"]
    assert [hits["hits"][0][name] for name in ("_index", "_id")] == [index, "bees"]
    assert json.loads(run("rewrite", QUESTIONS[0], "--index", alias).stdout)["query"]
    assert f"index {index} is exactly" in run("verify", file, "--index", alias).stdout
    model(other)
    second = built(run, alias)
    model(encoder)
    refused = error(run("search", QUESTIONS[0], "--index", alias, code=1))
    assert f"index {second} was made by model Other Model!" in refused


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}


def test_searches_while_the_model_changes_neither_fail_nor_mix(
    run: Run, client: OpenSearch, opensearch_url: str, alias: str, model: Any,
    encoder: LatentEncoder, other: LatentEncoder,
) -> None:  # fmt: skip
    """Both models give the same scores in an index of their own, and others in the other's."""
    indices = {encoder: built(run, alias)}
    searcher = Searcher(client, alias, [encoder, other])
    found = {question: scores(searcher.search(question, form="latent")) for question in QUESTIONS}
    assert all(found.values())
    pure = {question: pytest.approx(answer, rel=1e-4) for question, answer in found.items()}
    for question, expected in pure.items():
        foreign = QueryRewriter(other).rewrite(question, form="latent")
        assert scores(client.search(index=alias, body=foreign)) != expected, "a mix would show"

    ended = threading.Event()
    wrong: list[Any] = []
    asked: set[str] = set()
    done = [0] * 3

    def ask(number: int, renew_seconds: float) -> None:
        own = Connection(opensearch_url).open()
        searching = Searcher(own, alias, [encoder, other], renew_seconds=renew_seconds)
        while not ended.is_set():
            for question in QUESTIONS:
                try:
                    answer = searching.search(question, form="latent")
                except Exception as error:
                    wrong.append(error)
                    return
                asked.update(hit["_index"] for hit in answer["hits"]["hits"])
                if scores(answer) != pure[question]:
                    wrong.append((question, answer))
                done[number] += 1
        own.close()

    # The last does not look the alias up again but when its index is gone.
    threads = [
        threading.Thread(target=ask, args=(number, seconds))
        for number, seconds in enumerate((0, 0.05, 3600))
    ]
    for thread in threads:
        thread.start()
    try:
        for chosen in (other, encoder, other):
            model(chosen)
            indices[chosen] = built(run, alias)
            run("prune", "--alias", alias, "--keep", "1", "--yes")
        for _ in range(4):
            for chosen in (encoder, other):
                before = sum(done)
                run("rollback", "--alias", alias, "--to", indices[chosen])
                deadline = time.monotonic() + 30
                while sum(done) < before + 6 and time.monotonic() < deadline:
                    time.sleep(0.01)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(done) > 10
    assert len(asked) == 4, "every version was searched"


def test_a_searcher_keeps_its_index_while_the_new_model_is_not_loaded(
    run: Run, client: OpenSearch, alias: str, model: Any, encoder: LatentEncoder,
    other: LatentEncoder,
) -> None:  # fmt: skip
    with pytest.raises(MismatchError, match=f"no index or alias {alias}"):
        Searcher(client, alias, [encoder])
    first = built(run, alias)
    searcher = Searcher(client, alias, [encoder], renew_seconds=0)
    model(other)
    second = built(run, alias)
    assert searcher.search(QUESTIONS[0])["hits"]["hits"][0]["_index"] == first
    both = Searcher(client, alias, [encoder, other])
    assert both.index == second
    client.indices.delete(index=first)
    with pytest.raises(MismatchError, match=r"Other Model! .* none of those loaded here: minilm"):
        searcher.search(QUESTIONS[0])
