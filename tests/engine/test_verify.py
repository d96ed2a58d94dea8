"""verify finds each kind of difference, and nothing where there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opensearchpy import OpenSearch

from latent_ingest.cli.main import cli
from latent_ingest.connector.indexing import verify

ROWS: list[Any] = [
    {"_id": "a", "text": "bees"},
    {"_id": "b", "text": "honey", "year": 2024, "share": 0.1, "tags": ["x", None]},
    {"_id": "a", "text": "wasps"},
    {"text": "no id"},
    {"_id": "c", "text": "a lone surrogate"},
]

Verify = Callable[..., Result]


@pytest.fixture
def index(new_index: Any, load: Any, client: OpenSearch, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index that is exactly c.jsonl, which is read in several parts."""
    monkeypatch.setattr(verify, "AT_ONCE", 2)
    monkeypatch.setattr(verify, "IDS_AT_ONCE", 2)
    name: str = new_index()
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n")
    assert load(client, name, Path("c.jsonl")).ok
    return name


@pytest.fixture
def run(opensearch_url: str, monkeypatch: pytest.MonkeyPatch, index: str) -> Verify:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["verify", "c.jsonl", "--index", index, *arguments])

    return invoke


def test_an_index_that_is_the_file(run: Verify, index: str) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"index {index} is exactly c.jsonl",
        "6 lines = 4 same + 1 replaced by a later line with the same id + 1 blank",
    ]


def test_each_kind_of_difference_is_named(run: Verify, index: str, client: OpenSearch) -> None:
    client.delete(index=index, id="a")
    client.update(index=index, id="b", body={"doc": {"year": 2025}})
    client.index(index=index, id="z", body={"text": "of another file"})
    client.update(index=index, id="c", body={"script": "ctx._source.remove('latent')"})
    with Path("c.jsonl").open("a") as file:
        file.write("broken\n")
    done = run()
    assert done.exit_code == 1
    out = done.stdout
    assert "7 lines = 1 same + 1 replaced" in out
    for line in (
        "line 3: document 'a'",
        "line 2: document 'b': other 'year'",
        "line 5: document 'c': no latent terms",
        "document 'z'",
        "line 7: not JSON",
    ):
        assert f"  {line}" in out, out
    report = json.loads(run("--json").stdout)
    kinds = ("failed", "missing", "different", "extra")
    assert [report[kind]["count"] for kind in kinds] == [1, 1, 2, 1]
    ends = report["same"] + report["replaced"] + report["blank"]
    assert report["lines"] == ends + sum(report[kind]["count"] for kind in kinds[:3])


def test_latents_of_another_text_are_stale(run: Verify, index: str, client: OpenSearch) -> None:
    client.update(index=index, id="b", body={"doc": {"text": "wax"}})
    rows = [row | {"text": "wax"} if row.get("_id") == "b" else row for row in ROWS]
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run()
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"index {index} is not c.jsonl",
        "5 lines = 3 same + 1 replaced by a later line with the same id + 1 stale",
        "stale: 1",
        "  line 2: document 'b': its latent terms are of another text",
    ]


@pytest.mark.parametrize(
    "wanted", [{}, {"long": "chunks"}, {"ids": "engine"}], ids=["whole", "chunks", "engine ids"]
)
def test_lean_documents_that_lost_their_latents_are_different(
    opensearch_url: str, new_index: Any, load: Any, client: OpenSearch, wanted: dict[str, Any]
) -> None:
    """Which a partial update takes from them. One without text has none to lose."""
    name = new_index()
    rows = [{"_id": "a", "text": "bees"}, {"_id": "b", "text": "honey"}, {"_id": "c", "text": ""}]
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load(client, name, Path("c.jsonl"), wanted={"lean": True, **wanted}).ok
    command = ["verify", "c.jsonl", "--index", name, "--url", opensearch_url]
    assert CliRunner().invoke(cli, command).exit_code == 0
    hits = client.search(index=name, body={"query": {"match": {"text": "bees"}}})["hits"]["hits"]
    client.update(index=name, id=hits[0]["_id"], body={"script": "ctx._source.seen = true"})
    client.update(index=name, id=hits[0]["_id"], body={"script": "ctx._source.remove('seen')"})
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 1
    assert "3 lines = 2 same + 1 different" in done.stdout
    assert re.search(r"line 1: document 'a': (chunk 0: )?no latent terms", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl"], "none.jsonl: no such file"),
        (["-"], "standard input can be read only once; verify needs a file"),
        (["c.jsonl", "--index", "not-there"], "no index not-there; ingest c.jsonl first"),
    ],
)
@pytest.mark.usefixtures("run")
def test_wrong_input_is_one_clear_line(index: str, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["verify", "--index", index, *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
