"""JSON arrays, bulk files, Parquet and Arrow; folders and patterns; changes of documents."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import json
import lzma
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import fsspec.implementations.dirfs
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector.corpus import arrow_rows, json_items
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.finding import find_files, identity
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.corpus_file import Line, zstd
from latent_ingest.connector.document import BadLine, Document, parse_line
from latent_ingest.connector.errors import InputError

DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "1", "title": "Bees", "text": "fly", "n": 1, "tags": ["a", "b"], "at": {"x": None}},
    {"_id": "2", "title": "Größe", "text": "ants\nwalk", "n": 2, "tags": [], "at": {"x": 1.5}},
    {"_id": "3", "title": None, "text": "", "n": None, "tags": ["c"], "at": {"x": -2.0}},
]


def lines(path: Any, **options: Any) -> list[Line]:
    with Corpus(path, Reading(**options)) as corpus:
        return list(corpus)


def read(path: Any, **options: Any) -> list[Any]:
    """The fields of each line, or its problem."""
    found = lines(path, **options)
    return [line.problem or json.loads(line.content) for line in found]


def refused(path: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        lines(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def array(documents: list[dict[str, Any]]) -> bytes:
    return json.dumps(documents, indent=2, ensure_ascii=False).encode()


def bulk(documents: list[dict[str, Any]]) -> bytes:
    out = ""
    for document in documents:
        fields = {name: value for name, value in document.items() if name != "_id"}
        out += json.dumps({"index": {"_index": "old", "_id": document["_id"]}}) + "\n"
        out += json.dumps(fields) + "\n"
    return out.encode()


def table(documents: list[dict[str, Any]]) -> Any:
    return pa.Table.from_pylist(documents)


def parquet(documents: list[dict[str, Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table(documents), sink, **options)
    return sink.getvalue()


def arrow(documents: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table(documents).schema) as writer:
        writer.write_table(table(documents), max_chunksize=2)
    return sink.getvalue()


def stream(documents: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table(documents).schema) as writer:
        writer.write_table(table(documents), max_chunksize=2)
    return sink.getvalue()


def feather(documents: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table(documents), sink, compression="lz4")
    return sink.getvalue()


def json_lines(documents: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(document) + "\n" for document in documents).encode()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "c.jsonl": json_lines,
    "c.json": array,
    "c.ndjson": bulk,
    "c.parquet": parquet,
    "c.arrow": arrow,
    "s.arrow": stream,
    "c.feather": feather,
}
COMPRESSIONS = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents(
    name: str, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = COMPRESSIONS[compression](WRITERS[name](DOCUMENTS))
    path = Path(name + compression)
    path.write_bytes(raw)
    assert read(path) == DOCUMENTS
    path.rename("no-ending")
    assert read("no-ending") == DOCUMENTS
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    assert read("-") == DOCUMENTS


@pytest.mark.parametrize("name", [*WRITERS, "c.csv"])
def test_reading_can_end_anywhere(name: str) -> None:
    """What is closed before its generator is not used by that any more."""
    csv = "_id,text\n1,bees\n2,ants\n".encode("utf-16")
    Path(name).write_bytes(WRITERS[name](DOCUMENTS) if name in WRITERS else csv)
    with Corpus(name) as corpus:
        reading = iter(corpus)
        assert next(reading).content
    assert corpus.position > 0
    del reading
    gc.collect()  # pytest fails for what a generator raises then


def test_a_json_array_cut_short_keeps_its_whole_items() -> None:
    Path("c.json").write_bytes(array(DOCUMENTS)[:-40])
    found = []
    with Corpus("c.json") as corpus, pytest.raises(InputError) as error:
        found.extend(corpus)
    assert [json.loads(line.content) for line in found] == DOCUMENTS[:2]
    assert str(error.value).startswith("c.json: broken after item 2: the array is cut short; ")


def test_a_bad_item_costs_that_item() -> None:
    Path("c.json").write_text('[{"_id": 1, "text": "a"}, {"text": oops}, {"_id": 3, "text": "b"}]')
    found = [parse_line(line) for line in lines("c.json")]
    assert [isinstance(one, Document) for one in found] == [True, False, True]
    assert found[1].content == b'{"text": oops}'
    assert lines("c.json")[1].number == 2


def test_more_after_an_array_is_said() -> None:
    Path("c.json").write_text('[{"text": "a"}]\n[{"text": "b"}]')
    assert "c.json: broken after item 1: more follows the array: '[{\"text" in refused("c.json")
    Path("c.json").write_text('[{"text": "a"}]\n \n')
    assert len(lines("c.json")) == 1


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
LISTS = SCALARS | st.lists(SCALARS, max_size=3)
JSON = LISTS | st.lists(LISTS, max_size=3) | st.dictionaries(st.text(), LISTS, max_size=3)


@given(st.lists(st.dictionaries(st.text(), JSON), max_size=5), st.integers(1, 9), st.booleans())
def test_any_array_is_split_as_json_reads_it(
    items: list[dict[str, Any]], chunk: int, pretty: bool
) -> None:
    raw = json.dumps(items, indent=1 if pretty else None, ensure_ascii=pretty)

    class Drip(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            return super().read(chunk)

    found = list(json_items.items(Drip(raw.encode("utf-8", "surrogatepass"))))
    assert [json.loads(item.decode("utf-8", "surrogatepass")) for item in found if item] == items


def test_delete_and_update_lines_of_a_bulk_file_are_named_and_nothing_else_is_lost() -> None:
    Path("b.ndjson").write_text(
        '{"index": {"_id": "1"}}\n{"text": "a"}\n'
        '{"delete": {"_id": "1"}}\n'
        '{"create": {}}\n{"text": "b"}\n\n'
        '{"update": {"_id": "2"}}\n{"doc": {"text": "c"}}\n'
        '{"index": {"_id": 3}}\n{}\n'
        '{"text": "no action"}\n'
        '{"index": {"_id": "4"}}\n{"index": {"_id": "5"}}\n{"text": "e"}\n'
        '{"index": {"_id": "6"}}\n'
    )
    found = lines("b.ndjson")
    good = [json.loads(line.content) for line in found if not line.problem]
    assert good == [{"_id": "1", "text": "a"}, {"text": "b"}, {"_id": 3}, {"_id": "5", "text": "e"}]
    problems = {line.number: line.problem.partition(",")[0] for line in found if line.problem}
    assert problems == {
        3: "a delete action",
        8: "an update action",
        11: "no action before it",
        12: "an action without a document after it; add it",
        15: "an action without a document after it; add it",
    }


def test_the_id_of_an_action_and_one_in_the_document_are_two_keys() -> None:
    Path("b.json").write_text('{"index": {"_id": "1"}}\n{"_id": "2", "text": "a"}\n')
    (line,) = lines("b.json")
    assert "key '_id' twice" in parse_line(line).reason  # type: ignore[union-attr]


def test_the_routing_of_actions_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    Path("b.json").write_text('{"index": {"_id": "1", "routing": "x"}}\n{"text": "a"}\n' * 2)
    lines("b.json")
    assert caplog.messages == ["b.json: line 1: the routing of actions is not kept"]


def test_types_of_parquet_survive_as_json_has_them() -> None:
    utc = timezone.utc
    row = {
        "day": date(2020, 1, 2),
        "at": datetime(2020, 1, 2, 3, 4, 5, 600_000),
        "zone": datetime(2020, 1, 2, 3, tzinfo=utc),
        "hour": time(3, 4),
        "took": timedelta(seconds=1.5),
        "price": Decimal("12.50"),
        "exact": Decimal("12345678901234567890.12"),
        "bytes": b"caf\xc3\xa9",
        "nested": {"list": [{"a": 1}, None], "nan": math.nan},
        "nan": math.nan,
        "none": None,
        "big": 2**62,
    }
    kinds = pa.Table.from_pylist([row]).append_column(
        "nanos", pa.array([1_577_934_245_123_456_789], pa.timestamp("ns"))
    )
    kinds = kinds.append_column("map", pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())))
    kinds = kinds.append_column("kind", pa.array(["x"]).dictionary_encode())
    pyarrow.parquet.write_table(kinds, "t.parquet")
    assert read("t.parquet") == [
        {
            "day": "2020-01-02",
            "at": "2020-01-02T03:04:05.600000",
            "zone": "2020-01-02T03:00:00+00:00",
            "hour": "03:04:00",
            "took": 1.5,
            "price": 12.5,
            "exact": "12345678901234567890.12",
            "bytes": "café",
            "nested": {"list": [{"a": 1}, None], "nan": None},
            "nan": None,
            "none": None,
            "big": 2**62,
            "nanos": "2020-01-02T03:04:05.123456",
            "map": {"k": 1},
            "kind": "x",
        }
    ]


def test_what_json_does_not_have_costs_its_row_and_can_be_dropped() -> None:
    rows = [
        {"_id": "1", "text": "a", "image": b"\xff\xd8", "n": 1.0},
        {"_id": "2", "text": "b", "image": None, "n": math.inf},
        {"_id": "3", "text": "c", "image": None, "n": 1.0},
    ]
    Path("t.parquet").write_bytes(parquet(rows))
    found = read("t.parquet")
    assert found[0].startswith("column 'image': bytes that are no text in UTF-8; correct it, or ")
    assert found[0].endswith("--drop image")
    assert found[1].startswith("column 'n': an infinite number, which engines do not take")
    assert found[2]["_id"] == "3"
    assert [one["_id"] for one in read("t.parquet", drop=["image", "n"])] == ["1", "2", "3"]
    assert "image" in read("t.parquet", drop=["image"], map={"text": "image"})[2]
    content = lines("t.parquet")[0].content
    assert json.loads(content) == {"_id": "1", "text": "a", "image": r"b'\xff\xd8'", "n": 1.0}


def test_text_that_is_not_utf_8_costs_its_row() -> None:
    texts = pa.array([b"good", b"caf\xe9", b"fine"]).view(pa.string())
    pyarrow.parquet.write_table(pa.table({"text": texts}), "t.parquet")
    found = lines("t.parquet")
    assert [line.number for line in found] == [1, 2, 3]
    assert [bool(line.problem) for line in found] == [False, True, False]
    assert "a value cannot be read" in (found[1].problem or "")
    assert json.loads(found[1].content) == {"text": r"b'caf\xe9'"}


def test_nested_texts_and_lists_of_parquet_are_texts() -> None:
    rows = [{"_id": "1", "body": {"parts": [{"t": "bees"}, {"t": "dance"}]}, "tags": ["a", None]}]
    Path("t.parquet").write_bytes(parquet(rows))
    (line,) = lines("t.parquet")
    found = parse_line(line, text_fields=["body.parts.t", "tags"])
    assert isinstance(found, Document)
    assert found.text == "bees dance a"
    bad = parse_line(line, text_fields=["body"])
    assert isinstance(bad, BadLine)
    assert "field 'body' is an object" in bad.reason
    assert "--text-fields body.FIELD" in bad.reason


@pytest.mark.parametrize("name", ["c.parquet", "c.arrow"])
def test_an_empty_and_a_truncated_file(name: str) -> None:
    Path(name).write_bytes(WRITERS[name](DOCUMENTS)[:-30])
    assert f"{name}: cannot be read as {name[2:].capitalize()}: " in refused(name)
    Path(name).write_bytes(b"")
    assert f"{name}: cannot be read as" in refused(name)
    empty = table(DOCUMENTS).slice(0, 0)
    pyarrow.parquet.write_table(empty, "empty.parquet")
    assert read("empty.parquet") == []


def test_a_stream_that_breaks_off_keeps_what_came_before() -> None:
    Path("s.arrow").write_bytes(stream(DOCUMENTS)[:-60])
    found = []
    with Corpus("s.arrow") as corpus, pytest.raises(InputError) as error:
        found.extend(corpus)
    assert len(found) == 2
    assert str(error.value).startswith("s.arrow: broken after row 2: ")
    assert "\n" not in str(error.value)


def test_two_columns_of_one_name_are_refused() -> None:
    columns = [pa.array(["a"]), pa.array(["b"])]
    pyarrow.parquet.write_table(pa.table(columns, names=["text", "text"]), "t.parquet")
    assert refused("t.parquet") == "t.parquet: two columns are named 'text'; rename one"


def test_a_row_group_is_not_in_memory_as_a_whole() -> None:
    rows = 4000
    texts = pa.array([f"{n} " * 2000 for n in range(rows)])  # 38 MB
    pyarrow.parquet.write_table(
        pa.table({"text": texts}), "t.parquet", row_group_size=rows, use_dictionary=False
    )
    size = texts.nbytes
    del texts
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0
    with Corpus("t.parquet") as corpus:
        assert corpus.size is not None
        for number, _ in enumerate(corpus, start=1):
            most = max(most, pool.bytes_allocated() - before)
            if number == rows // 2:
                assert 0.4 < corpus.position / corpus.size < 0.6
    assert number == rows
    assert most < size / 2


def test_without_pyarrow_the_command_that_installs_it_is_named() -> None:
    Path("c.parquet").write_bytes(parquet(DOCUMENTS))
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from latent_ingest.connector.corpus.corpus import Corpus\n"
        "try: Corpus('c.parquet')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    wanted = "c.parquet: Parquet files need pyarrow: pip install 'latent-ingest[files]'"
    assert done.stdout.strip() == wanted, done.stderr


def write(name: str, *documents: dict[str, Any]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(json_lines(list(documents)))


def test_folders_and_patterns_are_read_in_the_order_of_names() -> None:
    for name in ("d/b.jsonl", "d/a.jsonl", "d/c/a.jsonl", "d/.hidden.jsonl", "d/_log.jsonl"):
        write(name, {"_id": name, "text": "x"})
    Path("d/README.md").write_text("about")
    wanted = ["d/a.jsonl", "d/b.jsonl", "d/c/a.jsonl"]
    assert find_files("d") == wanted
    assert find_files("d/[ab]*.jsonl") == wanted[:2]
    assert find_files("d/**/[ab]*.jsonl") == wanted
    assert find_files(["d/b.jsonl", "d/a.jsonl"]) == ["d/b.jsonl", "d/a.jsonl"]
    assert [one["_id"] for one in read("d")] == wanted


def test_places_are_those_in_each_file() -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        write(name, *({"text": str(n)} for n in range(3)))
    with Corpus("?.jsonl") as corpus:
        numbers = [line.number for line in corpus]
        assert numbers == list(range(1, 10))
        assert [str(corpus.place(n)) for n in (1, 3, 4, 9)] == [
            "a.jsonl: line 1", "a.jsonl: line 3", "b.jsonl: line 1", "c.jsonl: line 3",
        ]  # fmt: skip
        assert corpus.position == corpus.size == 3 * Path("a.jsonl").stat().st_size


def test_what_names_no_files_is_said() -> None:
    Path("empty").mkdir()
    Path("empty/README.md").write_text("x")
    write("a.jsonl", {"text": "x"})
    Path("b.csv").write_text("text\nx\n")
    assert refused("*.parquet").startswith("*.parquet: no file matches; check the pattern")
    assert refused("empty").startswith("empty: a folder without a file to read; their names end")
    assert refused("none.jsonl") == "none.jsonl: no such file; check the path"
    assert refused(["a.jsonl", "a.jsonl"]) == "a.jsonl: named twice; name it once"
    assert "is read alone" in refused(["-", "a.jsonl"])
    said = refused("*.*")
    assert "files of different kinds: a.jsonl is jsonl, b.csv is csv; name files of one" in said


def test_layouts_of_beir_and_ms_marco_are_known() -> None:
    for name in ("beir/corpus.jsonl", "beir/queries.jsonl"):
        write(name, {"_id": name, "title": "t", "text": "x"})
    Path("beir/qrels").mkdir()
    Path("beir/qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    assert [one["_id"] for one in read("beir")] == ["beir/corpus.jsonl"]
    Path("marco").mkdir()
    Path("marco/collection.tsv").write_text("0\tbees\n1\tants\n")
    Path("marco/queries.dev.tsv").write_text("7\twhat are bees\n")
    write("plain/corpus.jsonl", {"_id": "1", "text": "x"})
    write("plain/more.jsonl", {"_id": "2", "text": "x"})
    assert len(read("plain")) == 2
    assert read("marco") == [{"_id": "0", "text": "bees"}, {"_id": "1", "text": "ants"}]


def test_an_option_of_another_format_is_refused() -> None:
    write("a.jsonl", {"text": "x"})
    assert "--header is for CSV, and the file is jsonl" in refused("a.jsonl", header=["text"])
    Path("c.parquet").write_bytes(parquet(DOCUMENTS))
    assert "a Parquet file, not CSV; leave --input-format out" in refused("c.parquet", format="csv")


def test_a_sample_is_the_first_documents_over_all_files() -> None:
    Path("a.jsonl").write_text('{"_id": "1", "text": "x"}\n\n{"_id": "2", "text": "x"}\n')
    write("b.jsonl", {"_id": "3", "text": "x"}, {"_id": "4", "text": "x"})
    assert [line.number for line in lines("?.jsonl", sample=3)] == [1, 2, 3, 4]
    assert len(lines("?.jsonl", sample=9)) == 5


def test_the_hub_out_of_reach_is_one_line() -> None:
    said = refused("hf://datasets/nobody/nothing/data.parquet")
    assert said.startswith("hf://datasets/nobody/nothing/data.parquet: could not be downloaded: ")


class Hub(fsspec.implementations.dirfs.DirFileSystem):
    """A folder in place of the hub, which no test can rely on."""

    def __init__(self) -> None:
        super().__init__("hub", fsspec.filesystem("file"))

    def _join(self, path: Any) -> Any:
        return super()._join(path.removeprefix("hf://") if isinstance(path, str) else path)


def test_files_of_the_hub_are_found_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfFileSystem", Hub)
    home = "hub/datasets/me/set"
    for name in ("a.parquet", "b.parquet"):
        Path(home, "data").mkdir(parents=True, exist_ok=True)
        Path(home, "data", name).write_bytes(parquet(DOCUMENTS))
    Path(home, "README.md").write_text("about")
    write(f"{home}/c.jsonl.gz")
    Path(home, "c.jsonl.gz").write_bytes(gzip.compress(json_lines(DOCUMENTS)))
    whole = "hf://datasets/me/set"
    assert find_files(f"{whole}/data") == [f"{whole}/data/a.parquet", f"{whole}/data/b.parquet"]
    assert find_files(f"{whole}/**/*.parquet") == find_files(f"{whole}/data")
    assert read(f"{whole}/data") == DOCUMENTS * 2
    assert read(f"{whole}/c.jsonl.gz") == DOCUMENTS
    assert "files of different kinds" in refused(whole)
    assert "no file matches" in refused(f"{whole}/*.csv")
    with Corpus(f"{whole}/c.jsonl.gz") as corpus:
        assert len(list(corpus)) == 3
        assert corpus.position == corpus.size == Path(home, "c.jsonl.gz").stat().st_size


def changed(document: dict[str, Any], **options: Any) -> dict[str, Any]:
    change = Reading(**options).changes
    assert change
    return change(document)


def test_fields_are_renamed_left_out_and_set() -> None:
    body = {"content": "x", "lang": "en"}
    found = changed(
        {"headline": "T", "body": body, "a.b": 1, "parts": [{"t": 1}, {}]},
        map={"title": "headline", "text": "body.content", "n": "a.b", "list": "parts.t"},
        drop=["body"],
        set={"source": "x", "tags": []},
    )
    wanted = {"title": "T", "text": "x", "n": 1, "list": [1], "parts": [{}, {}]}
    assert found == {**wanted, "source": "x", "tags": []}


def test_renaming_happens_at_once_and_keeps_what_has_no_source() -> None:
    assert changed({"a": 1, "b": 2}, map={"a": "b", "b": "a"}) == {"a": 2, "b": 1}
    assert changed({"title": "T"}, map={"title": "headline"}) == {"title": "T"}
    assert changed({"x": {"y": 1}}, map={"z": "x.y"}) == {"z": 1}


def test_a_field_that_no_document_has_is_said() -> None:
    change = Reading(map={"title": "headlin", "text": "body"}).changes
    assert change
    change({"headline": "T"})
    assert change.unseen() == [
        "none of the first documents has the field 'headlin' of --map; did you mean 'headline'?",
        "none of the first documents has the field 'body' of --map",
    ]
    change({"body": "x"})
    assert len(change.unseen()) == 1


def test_documents_of_a_failures_file_are_not_changed_again() -> None:
    change = Reading(map={"a": "b", "b": "a"}).changes
    line = Line(1, b'{"_id": "1", "a": "x", "b": "y"}')
    first = parse_line(line, text_fields=["a"], change=change)
    assert isinstance(first, Document)
    assert first.fields == {"a": "y", "b": "x"}
    stored = BadLine(1, "rejected", first).to_json("c.jsonl").encode()
    again = parse_line(Line(1, stored), text_fields=["a"], change=change)
    assert isinstance(again, Document)
    assert again.fields == first.fields


def test_the_journal_tells_corpora_apart() -> None:
    assert identity("-") == "-"
    assert identity("a.jsonl") == str(Path("a.jsonl").resolve())
    assert identity(["a.jsonl"]) == identity("a.jsonl")
    assert identity(["a.jsonl", "b.jsonl"]) != identity(["a.jsonl", "c.jsonl"])
    assert Reading().to_json() is None
    assert Reading(map={"a": "b"}, sample=3).to_json() == {"map": {"a": "b"}, "sample": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, "'xml' is no format; use one of jsonl"),
        ({"delimiter": "::"}, "the delimiter is '::'; give one character"),
        ({"sample": 0}, "a sample of 0 documents is none"),
        ({"encoding": "latin-99"}, "'latin-99' is no encoding"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Reading(**options)


def test_rows_of_decimals_are_numbers_where_a_double_holds_them() -> None:
    assert arrow_rows.number_of(Decimal("0.1")) == 0.1
    assert arrow_rows.number_of(Decimal("100.00")) == 100
    assert arrow_rows.number_of(Decimal("0.12345678901234567890")) == "0.12345678901234567890"
    assert arrow_rows.number_of(Decimal(2) ** 70) == str(2**70)
