"""rollback, prune and indices: which versions there are, and which is searched."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import closing
from typing import Any

from opensearchpy import OpenSearch
from versions import (
    ROWS,
    Run,
    built,
    error,
    interrupted,
    killed,
    pointed_at,
    settings_of,
    the_journal,
    write,
)

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.indexing.journal_records import RunKey


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
