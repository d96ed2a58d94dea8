"""ingest --alias: a version takes the alias once it is complete, and only then."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tenacity
from indexed import PREFIX
from opensearchpy import OpenSearch
from opensearchpy.client import IndicesClient
from opensearchpy.exceptions import TransportError
from versions import (
    ROWS,
    Run,
    built,
    error,
    interrupted,
    pointed_at,
    settings_of,
    within_the_run,
    write,
)

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.client import url_of
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import IndexInfo, list_indices
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.jobs.job import JobResult
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.versions import Build
from latent_ingest.mappings import MappingConfig, index_body


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
