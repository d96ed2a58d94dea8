"""CSV and TSV: layout and encoding are found, and a bad row costs that row alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.document import BadLine, parse_line
from latent_ingest.connector.errors import InputError

ROWS = [
    {"_id": "1", "title": "Bees", "text": "They fly, and\nmake honey."},
    {"_id": "2", "title": 'The "Ants"', "text": "They walk; \tall day."},
    {"_id": "3", "title": None, "text": "Größe café Ωmega"},
]


def written(rows: list[dict[str, Any]], **options: Any) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def read(content: str | bytes, name: str = "c.csv", **options: Any) -> list[Any]:
    """The rows of a file: fields, or a pair of the line and its problem."""
    raw = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(raw)
    with Corpus(name, Reading(**options)) as corpus:
        return [
            (line.number, line.problem) if line.problem else json.loads(line.content)
            for line in corpus
        ]


def refused(content: str | bytes, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        read(content, **options)
    return str(error.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_delimiters_quotes_and_line_ends_are_found(
    delimiter: str, line_end: str, quoting: int
) -> None:
    text = written(ROWS, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    assert read(text) == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_are_found(encoding: str) -> None:
    rows = [row for row in ROWS for _ in range(400)]  # of more than one buffer
    assert read(written(rows).encode(encoding)) == rows


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-be"])
def test_other_encodings_are_named_with_an_option(encoding: str) -> None:
    rows = [{"_id": "1", "text": "Größe café"}]
    assert read(written(rows).encode(encoding), encoding=encoding) == rows


def test_latin_1_is_refused_with_its_line_and_byte_before_anything_is_read() -> None:
    said = refused("_id,text\n1,bees\n2,café\n".encode("latin-1"))
    assert said.startswith("c.csv: line 3: not UTF-8: byte 0xe9 at position 5; ")
    assert "--encoding latin-1" in said


def test_a_byte_that_is_not_utf_8_far_into_the_file_costs_its_row() -> None:
    head = "_id,text\n" + "".join(f"{n},bees\n" for n in range(20_000))
    rows = read(head.encode() + b"x,caf\xe9\n" + b"y,wasps\n")
    assert rows[-1] == {"_id": "y", "text": "wasps"}
    number, problem = rows[-2]
    assert number == 20_002
    assert "not UTF-8: byte 0xe9 at position 5" in problem
    assert len(rows) == 20_002


def test_utf_16_that_breaks_off_keeps_what_came_before() -> None:
    raw = written([{"_id": str(n), "text": "bees"} for n in range(50)]).encode("utf-16")
    Path("c.csv").write_bytes(raw[:-3])
    found = []
    with Corpus("c.csv") as corpus, pytest.raises(InputError, match="broken after line 50"):
        found.extend(corpus)
    assert [json.loads(line.content)["_id"] for line in found] == [str(n) for n in range(49)]


def test_rows_are_numbered_by_the_line_on_which_they_begin() -> None:
    Path("c.csv").write_text('_id,text\n1,"a\nb\nc"\n\n2,d\n3,e,f\n')
    with Corpus("c.csv") as corpus:
        lines = list(corpus)
        assert [line.number for line in lines] == [2, 6, 7]
        assert str(corpus.place(7)) == "c.csv: line 7"


def test_ragged_rows_are_named_and_kept_as_they_are() -> None:
    rows = read("_id,title,text\n1,a,b\n2,only\n3,c,d,e\n4,f,g\n")
    assert [row["_id"] for row in rows if isinstance(row, dict)] == ["1", "4"]
    assert rows[1][0] == 3
    assert rows[1][1] == (
        "2 cells, and 3 columns; its last cells are missing: end it with ',' for each empty one"
    )
    assert rows[2][1] == (
        "4 cells, and 3 columns; enclose cells that contain the delimiter ',' in quotation marks"
    )
    with Corpus("c.csv") as corpus:
        assert [line.content for line in corpus if line.problem] == [b"2,only", b"3,c,d,e"]


def test_a_quotation_mark_that_is_not_closed_costs_one_line() -> None:
    """Not all the rows up to the next quotation mark, or to the end of the file."""
    many = "".join(f"{n},row number {n}\n" for n in range(3, 500))
    rows = read(f'_id,text\n1,"open\n2,"whole"\n{many}500,"open at the end\n501,last\n')
    ids = [row["_id"] for row in rows if isinstance(row, dict)]
    assert ids == [str(n) for n in range(2, 502) if n != 500]
    bad = [row for row in rows if isinstance(row, tuple)]
    assert [number for number, _ in bad] == [2, 501]
    assert "a closing quotation mark is followed by more than the delimiter" in bad[0][1]
    assert "a quotation mark is not closed" in bad[1][1]
    assert "--no-quotes" in bad[1][1]


def test_a_row_of_a_failures_file_fed_back_in_fails_again_as_it_was() -> None:
    Path("c.csv").write_text('_id,text\n1,a,b\n2,"x\n')
    with Corpus("c.csv") as corpus:
        bad = [parse_line(line) for line in corpus]
    Path("f.jsonl").write_text("".join(f"{one.to_json('c.csv')}\n" for one in bad))
    with Corpus("f.jsonl") as corpus:
        again = [parse_line(line) for line in corpus]
    assert all(isinstance(one, BadLine) for one in bad + again)
    assert [one.content for one in again] == [b"1,a,b", b'2,"x']


def test_two_columns_of_one_name_are_refused() -> None:
    said = refused("_id,text,title,text\n1,a,b,c\n")
    assert said == "c.csv: line 1: columns 2 and 4 are both named 'text'; rename one"


def test_a_header_that_begins_like_another_file_is_a_header() -> None:
    assert read("ORCID,text\n0,bees\n") == [{"ORCID": "0", "text": "bees"}]


def test_a_broken_header_is_refused() -> None:
    assert "line 1: the header has a quotation mark" in refused('_id,"text\n1,a\n')


def test_a_column_without_a_name_is_given_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "latent_ingest")
    assert read(",text\n0,bees\n") == [{"column_1": "0", "text": "bees"}]
    assert "c.csv: column 1 has no name: it is named column_1" in caplog.messages


def test_a_header_can_be_named() -> None:
    assert read("1,bees\n", header=["_id", "text"]) == [{"_id": "1", "text": "bees"}]
    said = refused("1,bees\n", header=["_id", "title", "text"])
    assert said.startswith("c.csv: line 1: 2 cells, and --header names 3 columns; ")


def test_cells_with_json_keep_their_types() -> None:
    text = 'text,year,tags,open\nbees,2020,"[""a"", 1.5]",\nants,soon,[],true\n'
    rows = read(text, json_fields=["year", "tags", "open"])
    assert rows[0] == {"text": "bees", "year": 2020, "tags": ["a", 1.5], "open": None}
    assert rows[1][1].startswith("column 'year' is not JSON: 'soon'; correct it")


def test_a_column_with_json_that_is_not_there_is_said() -> None:
    said = refused("text,year\nbees,1\n", json_fields=["yaer"])
    assert said == (
        "c.csv: no column 'yaer' for --json-fields (columns: text, year; did you mean 'year'?)"
    )


def test_one_column_and_no_rows_and_no_bytes() -> None:
    assert read("text\nbees\nants\n") == [{"text": "bees"}, {"text": "ants"}]
    assert read("_id,text\n") == []
    assert read("") == []


def test_tabs_without_quotes_are_found_and_can_be_told() -> None:
    loose = '_id\ttext\n1\t"Bees" fly\n2\tants"\n'
    assert read(loose, name="c.tsv")[0] == {"_id": "1", "text": '"Bees" fly'}
    both = '_id\ttext\n1\t"Bees fly"\n2\t"Ants" walk\n'
    assert isinstance(read(both, name="c.tsv")[1], tuple)
    assert read(both, name="c.tsv", quotes=False)[1] == {"_id": "2", "text": '"Ants" walk'}


def test_a_delimiter_can_be_told() -> None:
    assert read("_id:text\n1:a,b\n", delimiter=":") == [{"_id": "1", "text": "a,b"}]


def test_ms_marco_is_known_by_its_rows() -> None:
    passages = '0\tThe presence of "communication"\n1\t"Manhattan project\n8841822\tLast, one\n'
    rows = read(passages, name="collection.tsv")
    assert rows[1] == {"_id": "1", "text": '"Manhattan project'}
    assert len(rows) == 3
    documents = "D15\thttp://a\tTitle\tBody text\nD9\thttp://b\t\tOther\n"
    assert read(documents, name="msmarco-docs.tsv")[1] == {
        "_id": "D9", "url": "http://b", "title": None, "text": "Other",
    }  # fmt: skip
    assert read("id\ttext\n0\tbees\n", name="c.tsv") == [{"id": "0", "text": "bees"}]


def test_mac_line_ends_are_said() -> None:
    assert "lines end in a carriage return alone" in refused("_id,text\r1,bees\r")


def test_a_truncated_gz_keeps_what_came_before() -> None:
    raw = gzip.compress(written([{"_id": n, "text": f"bees {n**5}"} for n in range(9999)]).encode())
    for size in (len(raw) // 2, 300):
        Path("c.csv.gz").write_bytes(raw[:size])
        found = []
        with Corpus("c.csv.gz") as corpus, pytest.raises(InputError) as error:
            found.extend(corpus)
        assert str(error.value).startswith(f"c.csv.gz: broken after line {found[-1].number}: ")
        assert not any(line.problem for line in found)
        assert [json.loads(line.content)["_id"] for line in found] == [
            str(n) for n in range(len(found))
        ]
    Path("c.csv.gz").write_bytes(raw[:12])
    with Corpus("c.csv.gz") as corpus, pytest.raises(InputError, match="broken after line 0"):
        list(corpus)


def test_long_cells_are_read() -> None:
    long = "bee " * 500_000
    assert read(f"_id,text\n1,{long}\n")[0]["text"] == long


def test_from_standard_input_and_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = gzip.compress(written(ROWS).encode())
    Path("c.csv.gz").write_bytes(raw)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    for path, options in (("c.csv.gz", {}), ("-", {"format": "csv"})):
        with Corpus(path, Reading(**options)) as corpus:
            assert [json.loads(line.content) for line in corpus] == ROWS
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    with pytest.raises(InputError, match=r"standard input: not JSON.*--input-format"):
        Corpus("-")


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8), st.sampled_from(",;\t|"))
def test_any_cells_survive(rows: list[tuple[str, str, str]], delimiter: str) -> None:
    wanted = [dict(zip(("_id", "title", "text"), row, strict=True)) for row in rows]
    found = read(written(wanted, delimiter=delimiter))
    assert found == [{name: cell or None for name, cell in row.items()} for row in wanted]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(raw: bytes) -> None:
    try:
        found = read(b"_id,text\n" + raw)
    except InputError as error:
        found = [(0, str(error))]
    assert all(isinstance(row, dict) or "\n" not in row[1] for row in found)
