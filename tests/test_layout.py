"""Output of the commands: columns, tables and lines on a terminal; progress in a log."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import wcwidth
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.cli import output
from latent_ingest.cli.commands.querying.search import column, lines_of, title_and_text
from latent_ingest.cli.jobs import finish
from latent_ingest.cli.output import (
    one_line,
    printable,
    progress_bar,
    shorten,
    side_by_side,
    table,
    warn,
)
from latent_ingest.connector.indexing.jobs.job import JobResult
from latent_ingest.connector.indexing.outcomes import IngestReport

letters = st.text(alphabet=st.sampled_from("ab 水é🙂\x1b\n\u200b\ud800"), max_size=60)


def test_wide_letters_take_two_cells() -> None:
    assert shorten("水水水水水", 8) == "水水..."
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 2) == ".."
    lines = side_by_side([["水水水水", "x"], ["one"]], 21)
    assert lines == ["水水水水    one", "x"]
    heads, row = table(["a", "1"], [["水水", "10"]], right=(1,))
    assert (wcwidth.strip_sequences(heads), row) == ("a      1", "水水  10")


def test_tables_lose_nothing_unless_they_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the columns that may shrink do, to no less than their least width."""
    rows = [["0.1234", "水" * 40, "word " * 20 + "end", "1,234"]]

    def row_in(width: int | None) -> str:
        monkeypatch.setattr(output, "terminal_width", lambda: width)
        return table(["a", "b", "c", "d"], rows, right=(0, 3), shrink=(2, 1))[1]

    assert row_in(None) == "  ".join(rows[0])
    fitted = row_in(90)
    assert wcwidth.width(fitted) <= 90
    assert fitted.startswith("0.1234  " + "水" * 5)
    assert fitted.count("...") == 2
    assert fitted.endswith("  1,234")
    assert row_in(10).endswith("  1,234")


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


def test_no_text_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in a table nor in a message; line ends of a message stay."""
    _, row = table(["a", "b"], [["x\x1b[2J\ny", "z"]])
    assert row == "x [2J y  z"
    warn("bad \x1b]0;title\x07 id\nsecond line\r")
    assert capsys.readouterr().err == "bad  ]0;title  id\nsecond line\n"


def test_progress_in_a_log_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(total=4, desc="reading", unit="doc") as bar:
        bar.update(4)
    with progress_bar(total=8, bar_format="{percentage:3.0f}% |{bar}| {desc}") as bar:
        warn("a line between")
    err = capsys.readouterr().err
    assert "\r" not in err
    assert "\x1b" not in err
    assert "|" not in err
    first, last, *others = err.splitlines()
    assert first.startswith("reading:   0% 0/4")
    assert last.startswith("reading: 100% 4/4")
    assert "a line between" in others


@pytest.mark.parametrize(
    ("report", "refusal", "status", "said"),
    [
        (IngestReport(), None, None, ""),
        (IngestReport(), "alias a stays", 1, "Error: alias a stays\n"),
        (IngestReport(failed=1), None, 1, ""),
        (IngestReport(stopped="too many failed"), None, 1, "Error: too many failed\n"),
        (IngestReport(stopped="interrupted"), "alias a stays", 130, "Error: alias a stays\n"),
    ],
)
def test_a_run_ends_with_its_status(
    report: IngestReport,
    refusal: str | None,
    status: int | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = JobResult(report, "papers-1", None, "papers", refusal=refusal)  # type: ignore[arg-type]
    if status is None:
        finish(result, [], as_json=False)
    else:
        with pytest.raises(click.exceptions.Exit) as raised:
            finish(result, [], as_json=False)
        assert raised.value.exit_code == status
    shown = capsys.readouterr()
    assert shown.err == said
    assert shown.out == ("" if refusal else "alias papers → papers-1\n")


def test_commands_do_not_import_each_other(root: Path) -> None:
    """Code that several commands need is in the modules of `cli`."""
    sources = {str(path): path.read_text() for path in (root / "cli" / "commands").rglob("*.py")}
    assert len(sources) > 10
    assert [name for name, text in sources.items() if "latent_ingest.cli.commands" in text] == []
