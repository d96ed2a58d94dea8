"""Columns and lines on a terminal."""

from __future__ import annotations

import pytest
import wcwidth
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.cli.layout import one_line, printable, shorten, side_by_side, table
from latent_ingest.cli.search import column, lines_of, title_and_text

letters = st.text(alphabet=st.sampled_from("ab 水é🙂\x1b\n\u200b\ud800"), max_size=60)


def test_wide_letters_take_two_cells() -> None:
    assert shorten("水水水水水", 8) == "水水..."
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 2) == ".."
    lines = side_by_side([["水水水水", "x"], ["one"]], 21)
    assert lines == ["水水水水    one", "x"]
    assert table([["a", "1"], ["水水", "10"]], right=(1,)) == ["a      1", "水水  10"]


@given(text=letters, width=st.integers(0, 40))
def test_lines_never_get_wider(text: str, width: int) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert wcwidth.width(shorten(line, width)) <= width
    assert len(printable(text)) == len(text)


@given(columns=st.lists(st.lists(letters.map(one_line), max_size=4), min_size=1, max_size=3))
def test_columns_fit(columns: list[list[str]]) -> None:
    lines = side_by_side(columns, 61)
    assert len(lines) == max(map(len, columns))
    assert all(wcwidth.width(line) <= 61 for line in lines)


def hit(**source: object) -> dict[str, object]:
    return {"_id": "7", "_score": 1.5, "_source": source}


def test_a_hit_is_a_title_and_a_text() -> None:
    fields = ["title", "text"]
    assert title_and_text(hit(title="A\nb", text="c"), fields) == ("A b", "c")
    assert title_and_text(hit(title="7", text="c"), fields) == ("", "c")
    assert title_and_text(hit(text="c"), fields) == ("", "c")
    assert title_and_text(hit(text=["c", "d"]), fields) == ("", "c d")
    assert title_and_text(hit(other="x"), fields) == ("", "x")
    assert title_and_text(hit(), fields) == ("", "")


@pytest.mark.parametrize("width", [None, 40])
def test_a_line_of_a_hit_fits(width: int | None) -> None:
    """And its text is there, however long its title."""
    title, text = lines_of(1, hit(title="水" * 50, text="c " * 90), ["title", "text"], width)
    assert title.startswith("  1    1.500  7  水")
    assert text.startswith("     c c c")
    assert all(wcwidth.width(line) <= (width or 90) for line in (title, text))
    assert lines_of(1, hit(text="c"), ["title", "text"], width) == ["  1    1.500  7  c"]


def test_forms_stand_beside_each_other() -> None:
    some = [hit(title="Falls", text="Vitamin D helps " * 9)]
    columns = [column(name, some, ["title", "text"]) for name in ("words", "latent", "hybrid")]
    columns[0] = column("words", [], ["title", "text"])
    heads, first, second = side_by_side(columns, 120)
    assert [wcwidth.strip_sequences(head) for head in heads.split()] == [
        "words", "latent", "hybrid",
    ]  # fmt: skip
    assert first.startswith("no hits")
    assert first.count("1   1.500 7 Falls") == 2
    assert second.count("...") == 2
    assert wcwidth.width(second) <= 120
