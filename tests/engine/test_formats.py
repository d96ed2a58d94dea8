"""Files of every format give the same index; resumed, verified, and with their failures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from killed import Killed
from opensearchpy import OpenSearch

from latent_ingest.cli.main import cli
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta

NUMBER = 40

# In batches of four documents, killed before the fifth request.
KILLED = Killed(
    "opensearchpy.OpenSearch.bulk",
    call=5,
    constants={"latent_ingest.connector.indexing.batches.MAX_BATCH_LINES": 4},
)

Run = Callable[..., Result]
Rows = list[dict[str, Any]]


@pytest.fixture
def rows(documents: list[dict[str, str]]) -> Rows:
    """Documents with dates, numbers, arrays, objects and nulls."""
    return [
        {
            "_id": document["_id"],
            "title": document["_id"] if n % 3 else None,
            "text": document["text"][:120] + ('\n"quoted", Größe' if n % 5 == 0 else ""),
            "year": 2000 + n if n % 4 else None,
            "price": n + 0.25,
            "day": f"2020-01-{n % 28 + 1:02}",
            "tags": ["a", f"b{n}"],
            "at": {"lat": 1.5, "lon": None},
        }
        for n, document in enumerate(documents[:NUMBER])
    ]


def as_csv(rows: Rows, **options: Any) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), **options)
    writer.writeheader()
    for row in rows:
        cells = {name: row[name] for name in ("_id", "title", "text", "day")}
        parsed = {name: json.dumps(row[name]) for name in row.keys() - cells.keys()}
        writer.writerow({**cells, **parsed})
    return file.getvalue()


def as_bulk(rows: Rows) -> str:
    return "".join(
        json.dumps({"index": {"_id": row["_id"]}})
        + "\n"
        + json.dumps({name: value for name, value in row.items() if name != "_id"})
        + "\n"
        for row in rows
    )


def write(form: str, rows: Rows) -> str:
    """Write the documents in a format; gives what to name to the command."""
    table = pa.Table.from_pylist(rows)
    # A date of its own type, as in files of databases.
    days = table["day"].cast(pa.date32())
    table = table.set_column(table.schema.get_field_index("day"), "day", days)
    match form:
        case "jsonl":
            Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            Path("c.json").write_text(json.dumps(rows, indent=1))
        case "csv":
            Path("c.csv").write_text(as_csv(rows))
        case "tsv":
            Path("c.tsv").write_text(as_csv(rows, delimiter="\t"), encoding="utf-16")
        case "bulk":
            Path("c.bulk").write_text(as_bulk(rows))
        case "parquet":
            pyarrow.parquet.write_table(table, "c.parquet", row_group_size=7)
        case "arrow":
            with pa.ipc.new_file("c.arrow", table.schema) as writer:
                writer.write_table(table, max_chunksize=9)
        case "feather":
            pyarrow.feather.write_feather(table, "c.feather")
        case "folder":
            Path("d").mkdir(exist_ok=True)
            for number in range(0, NUMBER, 10):
                part = rows[number : number + 10]
                Path(f"d/{number:02}.csv").write_text(as_csv(part, delimiter=";"))
            return "d"
    return f"c.{form}"


FORMS = ["json", "csv", "tsv", "bulk", "parquet", "arrow", "feather", "folder"]


def options(form: str) -> list[str]:
    parsed = ["--json-fields", "year,price,tags,at"]
    return parsed if form in ("csv", "tsv", "folder") else []


def held(client: OpenSearch, index: str) -> dict[str, Any]:
    """All documents of an index, by id."""
    client.indices.refresh(index=index)
    hits = client.search(index=index, body={"size": 1000})["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_index_of_json_lines(
    form: str, run: Run, client: OpenSearch, new_index: Any, rows: Rows
) -> None:
    """Killed in the middle, resumed and verified, it is the same too."""
    wanted, index = new_index(), new_index()
    # The process that is killed knows nothing of the fixture that leaves question tables out.
    assert run(write("jsonl", rows), "--index", wanted, "--no-questions").exit_code == 0
    path = write(form, rows)
    command = [path, "--index", index, "--no-questions", *options(form)]
    KILLED.run(*command)
    done = run(*command, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0, done.stderr
    assert 0 < report["resumed_after"] < NUMBER == report["indexed"] == report["lines"]
    found, expected = held(client, index), held(client, wanted)
    for document in (*found.values(), *expected.values()):
        assert document.pop("latent")  # rounding differs by what else is in a batch
    assert found == expected
    fields = [Index(client, name).mapping()["properties"] for name in (index, wanted)]
    assert fields[0] == fields[1]
    verified = run("verify", path, "--index", index, *options(form))
    assert f"index {index} is exactly {path}" in verified.stdout, verified.stdout
    unit = {"json": "items", "bulk": "actions"}.get(form, "rows")
    assert f"{NUMBER} {unit} = {NUMBER} same" in verified.stdout


def test_failures_name_file_and_line_and_can_be_corrected(
    run: Run, client: OpenSearch, index: str
) -> None:
    Path("a.csv").write_text("key,headline,body\n1,Bees,They fly\n2,Ants\n")
    Path("b.csv").write_text('key,headline,body\n3,Wasps,"They\nsting"\n4,Moths,"open\n')
    changes = ["--map", "_id=key,title=headline,text=body", "--set", "year=2020"]
    done = run("a.csv", "b.csv", "--index", index, *changes)
    assert done.exit_code == 1
    assert "4 rows = 2 indexed + 2 failed" in done.stdout
    assert "warning: a.csv: line 3: 2 cells, and 3 columns" in done.stderr
    assert "of documents with the same id, the last counts" in done.stderr
    failed = Path(f"{index}.failed.jsonl")
    rows = [json.loads(row) for row in failed.read_text().splitlines()]
    assert [(row["_failure"]["file"], row["_failure"]["line"]) for row in rows] == [
        ("a.csv", 3), ("b.csv", 4),
    ]  # fmt: skip
    assert [row["_failure"]["original"] for row in rows] == ["2,Ants", '4,Moths,"open']
    corrected = [
        {"key": "2", "headline": "Ants", "body": "walk"},
        {"_id": "4", "title": "Moths", "text": "open"},
    ]
    failed.write_text("".join(json.dumps(row) + "\n" for row in corrected))
    assert run(failed, "--index", index, *changes).exit_code == 0
    documents = held(client, index)
    assert documents["3"]["text"] == "They\nsting"
    assert {key: (row["title"], row["year"]) for key, row in documents.items()} == {
        "1": ("Bees", 2020), "2": ("Ants", 2020), "3": ("Wasps", 2020), "4": ("Moths", 2020),
    }  # fmt: skip


def test_of_two_files_with_one_id_the_later_wins(run: Run, client: OpenSearch, index: str) -> None:
    Path("b.jsonl").write_text('{"_id": "1", "text": "first by name last"}\n')
    Path("a.jsonl").write_text('{"_id": "1", "text": "bees"}\n{"_id": "2", "text": "ants"}\n')
    done = run("*.jsonl", "--index", index)
    assert "3 lines = 2 indexed + 1 replaced by a later line with the same id" in done.stdout
    assert held(client, index)["1"]["text"] == "first by name last"
    assert run("a.jsonl", "b.jsonl", "--index", index, "--restart").exit_code == 0
    assert run("b.jsonl", "a.jsonl", "--index", index).exit_code == 0
    assert held(client, index)["1"]["text"] == "bees"
    assert run("verify", "b.jsonl", "a.jsonl", "--index", index).exit_code == 0
    wrong = run("verify", "a.jsonl", "b.jsonl", "--index", index)
    assert "b.jsonl: line 1: document '1': other 'text'" in wrong.stdout


def test_a_file_that_breaks_off_keeps_what_came_before(
    run: Run, client: OpenSearch, index: str, rows: Rows
) -> None:
    path = Path(write("json", rows))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    done = run(path, "--index", index)
    assert done.exit_code == 1
    number = len(held(client, index))
    assert 10 < number < NUMBER
    assert f"Error: c.json: broken after item {number}: the array is cut short" in done.stderr
    assert f"stopped after item {number}; the same command resumes" in done.stdout
    path.write_bytes(whole)
    assert run(path, "--index", index).exit_code == 0
    assert len(held(client, index)) == NUMBER


def test_a_sample_is_said_by_the_index(
    run: Run, client: OpenSearch, index: str, rows: Rows
) -> None:
    path = write("parquet", rows)
    done = run(path, "--index", index, "--sample", 10)
    assert "10 rows = 10 indexed" in done.stdout
    meta = IndexMeta.read(client, index)
    assert meta
    assert meta.sample == 10
    assert f"sample of {10}" in run("indices").stdout
    assert run("verify", path, "--index", index, "--sample", 10).exit_code == 0
    wrong = run("verify", path, "--index", index)
    assert f"the latest ingest into index {index} had --sample 10" in wrong.stderr
    assert "missing: 30" in wrong.stdout
    assert run(path, "--index", index).exit_code == 0
    meta = IndexMeta.read(client, index)
    assert meta
    assert meta.sample is None
    assert len(held(client, index)) == NUMBER


def test_an_interrupted_run_does_not_resume_with_other_changes(
    run: Run, index: str, rows: Rows
) -> None:
    path = write("csv", rows)
    command = [path, "--index", index, "--drop", "at"]
    KILLED.run(*command)
    other = run(path, "--index", index)
    assert other.exit_code == 2
    assert "the interrupted run had reading {'drop': ['at']}, this one has None" in other.stderr
    assert run(*command).exit_code == 0


def test_a_dry_run_shows_documents_and_touches_no_engine() -> None:
    lines = [
        "_id,body",
        "1",
        "2,Bees dance to tell where nectar is",
        "3,Ants",
        "4,Moths",
        "5,Wasps",
    ]
    Path("c.csv").write_text("\n".join(lines) + "\n")
    url = ["--url", "http://localhost:1"]
    shown = CliRunner().invoke(cli, ["c.csv", *url, "--map", "text=body", "--dry-run"])
    assert shown.exit_code == 1
    assert "c.csv: line 2: 1 cell, and 2 columns" in shown.stderr
    assert "3 documents as sent to a new index, 1 failed; nothing was sent" in shown.stderr
    bulk = [json.loads(row) for row in shown.stdout.splitlines()]
    assert [row["index"]["_id"] for row in bulk[::2]] == ["2", "3", "4"]
    first = bulk[1]
    assert first.pop("latent").startswith("f")
    assert first.pop("latent_hash")
    assert first == {"text": "Bees dance to tell where nectar is"}
    assert not Path("c.failed.jsonl").exists()
    Path("good.csv").write_text("text\nbees\n")
    good = CliRunner().invoke(
        cli, ["good.csv", *url, "--dry-run", "--long", "chunks", "--map", "title=txt"]
    )
    assert "has the field 'txt' of --map; did you mean 'text'?" in good.stderr
    assert good.exit_code == 0
    assert '"parent_id"' in good.stdout
