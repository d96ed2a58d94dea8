"""The command `enrich`: what it asks, prints and resumes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from killed import Killed
from opensearchpy import OpenSearch
from shop import all_done, sources

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder

# In requests of three documents, killed before the fifth.
KILLED = Killed(
    "opensearchpy.OpenSearch.bulk",
    call=5,
    constants={"latent_ingest.connector.indexing.sender.MAX_DOCUMENTS": 3},
)

Command = Callable[..., Result]


@pytest.fixture
def command(opensearch_url: str, monkeypatch: pytest.MonkeyPatch, index: str) -> Command:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["enrich", "--index", index, *arguments])

    return invoke


def test_the_command_asks_before_it_closes_an_index(
    command: Command, client: OpenSearch, index: str
) -> None:
    fields = ("--text-fields", "title,body")
    refused = command(*fields)
    assert refused.exit_code == 2
    assert "will be closed for a moment" in refused.stderr
    assert "agree with --yes" in refused.stderr
    assert "latent" not in client.indices.get_mapping(index=index)[index]["mappings"]["properties"]
    client.indices.put_alias(index=index, name=f"{index}-alias")
    done = command("--index", f"{index}-alias", *fields, "--yes")
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()
    assert first.startswith(f"index {index}: 32 documents encoded in ")
    assert second == "32 documents read = 32 encoded"
    again = command("--json")  # nothing to close, so nothing to ask
    assert again.exit_code == 0, again.output
    report = json.loads(again.stdout)
    assert (report["read"], report["up_to_date"], report["encoded"]) == (32, 32, 0)
    shown = CliRunner().invoke(cli, ["runs"]).stdout
    assert f"index:{index} → {index}: done" in shown


def test_the_same_command_resumes_one_that_was_killed(
    command: Command, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    arguments = ["--text-fields", "title,body", "--yes"]
    KILLED.run("enrich", "--index", index, *arguments)
    shown = CliRunner().invoke(cli, ["runs"]).stdout
    assert f"index:{index} → {index}: interrupted" in shown
    assert f"resume with: cd {Path.cwd()} && latent-ingest enrich --index {index}" in shown
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    counts = re.search(
        r"32 documents read = (\d+) up to date already \+ (\d+) encoded", done.stdout
    )
    assert counts, done.stdout
    # Several requests were under way when it was killed.
    assert 0 < int(counts[1]) < 32 == int(counts[1]) + int(counts[2])
    assert all_done(client, index, encoder)


def test_the_command_refuses_in_one_line(command: Command) -> None:
    for arguments, message in {
        ("--index", "not-there"): "no index not-there; check --index",
        ("--text-fields", "bodi"): "no field 'bodi' in index",
        ("--text-fields", ","): "write at least one name",
        ("--url", "http://127.0.0.1:1"): "nothing answers at http://127.0.0.1:1",
    }.items():
        done = command(*arguments)
        assert done.exit_code == (1 if "--url" in arguments else 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_giving_up_ends_with_status_1(command: Command, client: OpenSearch, index: str) -> None:
    """An index that its operator has made read-only for documents."""
    assert command("--text-fields", "title", "--yes").exit_code == 0
    name = next(iter(sources(client, index)))
    client.update(index=index, id=name, body={"doc": {"title": "bees"}}, refresh=True)
    client.indices.put_settings(index=index, body={"index.blocks.write": True})
    done = command("--give-up-after", "1s")
    client.indices.put_settings(index=index, body={"index.blocks.write": False})
    assert done.exit_code == 1
    assert "32 documents read = 31 up to date already + 1 left" in done.stdout
    assert "blocked by" in done.stderr
    assert "gave up after 1 s" in done.stderr
    assert command().exit_code == 0
