"""Rows larger than a document can be: said in one line, and not read into memory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from latent_ingest.connector.corpus import arrow_rows
from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.reading import Reading


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_rows, "MOST_BYTES", 1_000_000)


def write(name: str) -> None:
    """Ten rows, of which the fourth is too large."""
    texts = [f"text {n}" for n in range(10)]
    texts[3] = "x" * 3_000_000
    table = pa.table(
        {"_id": [str(n) for n in range(10)], "text": pa.array(texts, pa.large_string())}
    )
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(table, name)
    else:
        pyarrow.feather.write_feather(table, name)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_row_that_is_too_large_fails_and_the_others_are_read(name: str) -> None:
    write(name)
    with Corpus(name) as corpus:
        lines = list(corpus)
    assert [line.number for line in lines] == list(range(1, 11))
    (bad,) = [line for line in lines if line.problem]
    assert (bad.number, bad.content) == (4, b'{"_id": "3"}')
    assert bad.problem == (
        "a row of 3 MB, most of it in column 'text'; engines take no document above 1 MB; split "
        "it, or leave the column out with --drop text"
    )


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_column_that_is_left_out_does_not_count(name: str) -> None:
    write(name)
    with Corpus(name, Reading(drop=["text"])) as corpus:
        assert [line.problem for line in corpus] == [None] * 10


def test_few_rows_are_read_at_a_time_where_they_are_large() -> None:
    """A row group's size is known before it is read."""
    texts = pa.array([f"{n} " * 100_000 for n in range(40)])
    pyarrow.parquet.write_table(pa.table({"text": texts}), "t.parquet")
    file = pyarrow.parquet.ParquetFile("t.parquet")
    assert arrow_rows.rows_at_once(file.metadata) < 6
    assert Path("t.parquet").stat().st_size < texts.nbytes
    with Corpus("t.parquet") as corpus:
        assert [line.problem for line in corpus] == [None] * 40
