"""The evaluation page: it shows every value, and text never becomes markup."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from evaluation.reports import MEASURES, report
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.charts import (
    LINE,
    MOST_COLUMNS,
    columns,
    short,
    signed,
    spread,
    ticks,
)
from latent_ingest.connector.evaluation.page import html

NASTY = (
    "</title></svg><script>alert('x')</script><img src=x onerror=\"y\"> & {{ 7 * 7 }} \x00\ud800"
)


class Page(HTMLParser):
    """Parses a page into its elements and its text; every open tag must be closed."""

    VOID = ("meta", "br")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def pictures(page: str) -> list[ElementTree.Element]:
    found = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    return [ElementTree.fromstring(one) for one in found]


# Bars of three systems and of published figures, a scatter plot, differences of two systems, a bar
# of a comparison, bars of two fields.
PICTURES = 4 + 1 + 2 + 1 + 2


def test_every_value_is_on_the_page() -> None:
    given = report()
    page = Page(html(given)).text
    for system in given["collections"][0]["systems"].values():
        for value in system["means"].values():
            assert short(value, 4) in page
    for text in [
        *given["collections"][0]["systems"], *MEASURES, "tiny", "evaluate-tiny", "5,183",
        "809 without judgements", "0.2 / 41", "2.2 / 41", "3 / 81", "5 / 83",
        "5.5 / 97.5", "7.5 / 97.5", "12.3", "4,321",
        "−.0625", "< .001", ".012", "who likes quokkas", "who likes quokkas lost", "+.500",
        "−1.000", "123 kB", "4.56 MB", "7.89 MB",
        "12.5", "3,456", ".7103", "RR@10 .6999", "their paper",
        "published by others", "0 to .25", ".1357", "minilm-32k (0a1b2c)", "opensearch 3.8.0",
        "2026-01-02", "▼w", "w: words",
    ]:  # fmt: skip
        assert text in page, text


def test_charts_are_svg_and_complete() -> None:
    page = html(report())
    drawn = pictures(page)
    assert len(drawn) == PICTURES
    *bars, scatter, dense, latent, counts, large, small = drawn
    titles = [bar.findtext("title") for bar in (*bars, large, small)]
    assert titles == [
        "words: .4375", "dense: .4062", "latent: .3750", "SPLADE-v3: .7103",
        "latent: 4.56 MB", "text: 123 kB",
    ]  # fmt: skip
    assert [len(bar.findall("rect")) for bar in (*bars, large, small)] == [1] * 6
    assert len(scatter.findall("circle")) == 2
    assert [text.text for text in scatter.findall("text")][-2:] == ["words", "latent"]
    titles = [rect.findtext("title") for rect in latent.findall("rect")]
    assert titles == [
        "+.500  who likes quokkas 0", "+.250  who likes quokkas 1", "−1.000  who likes quokkas 3",
    ]  # fmt: skip
    assert [float(rect.attrib["height"]) for rect in latent.findall("rect")] == [0.5, 0.25, 1.0]
    assert [float(rect.attrib["x"]) for rect in latent.findall("rect")] == [0, 1, 3]
    assert len(dense.findall("rect")) == 2
    assert len(counts.findall("rect")) == 3
    assert counts.findtext("title") == "2 won, 1 tied, 1 lost"


@pytest.mark.parametrize("text", [NASTY, 'a" onload="b', "]]>", "<!--"])
def test_a_text_stays_a_text(text: str) -> None:
    """In questions and in names, of collections, systems and sources."""
    plain = Page(html(report()))
    given = report(text, name=text)
    page = html(given)
    assert [tag for tag, _ in Page(page).elements] == [tag for tag, _ in plain.elements]
    collection = given["collections"][0]
    collection["systems"][text] = collection["systems"].pop("latent")
    collection["comparisons"][0]["system"] = collection["published"][0]["source"] = text
    collection["overlap"][0]["overlap"] = collection["index"] = given["model"] = text
    collection["cost"]["index_bytes"] = {text: 1, "latent": 2}
    page = html(given)
    elements = [tag for tag, _ in Page(page).elements]
    assert "script" not in elements
    assert "img" not in elements
    assert not [
        name for _, attributes in Page(page).elements for name in attributes if name[:2] == "on"
    ]
    assert len(pictures(page)) == PICTURES
    page.encode()


@settings(deadline=None, max_examples=40)
@given(text=st.text(max_size=40))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    source = html(report(text))
    shown = Page(source)
    assert [tag for tag, _ in shown.elements] == [tag for tag, _ in Page(html(report())).elements]
    if text.isprintable():
        assert f"{text} lost" in shown.text
    assert len(pictures(source)) == PICTURES


def test_a_page_needs_no_network() -> None:
    given = report()
    given["collections"][0]["published"][0]["source"] = "https://example.org/paper"
    page = html(given)
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"https://example.org/paper"}
    for tag, attributes in Page(page).elements:
        assert tag not in ("script", "link", "img", "iframe", "object")
        assert attributes.keys().isdisjoint({"src", "srcset", "style", "action"})
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "@import" not in page


def test_sections_without_values_are_left_out() -> None:
    given = report()
    collection = given["collections"][0]
    del collection["systems"]["words"], collection["systems"]["latent"]
    collection["cost"] = {**dict.fromkeys(collection["cost"]), "index_total_bytes": 7_890_000}
    collection.update(comparisons=[], published=[], overlap=None, left_out={})
    source = html(given)
    page = Page(source).text
    assert len(pictures(source)) == 1
    for heading in (
        "word overlap",
        "published",
        "latency",
        "gain and",
        "Difference",
        "Holm",
        "left",
    ):
        assert heading not in page, heading
    assert "7.89 MB" in page
    assert "per second" not in page
    assert "by field" not in page
    assert "None" not in page
    assert "–" in page


def test_several_collections_begin_with_a_summary() -> None:
    given = report()
    other = copy.deepcopy(given["collections"][0])
    other["name"] = "other <b>"
    del other["systems"]["dense"]
    given["collections"].append(other)
    page = html(given)
    assert "other &lt;b&gt;" in page
    assert "at a glance" in page
    assert [a["href"] for tag, a in Page(page).elements if tag == "a"] == ["#c1", "#c2"]


def test_a_report_of_another_format_is_refused() -> None:
    with pytest.raises(InputError, match=r"format 2: this version reads 1"):
        html({**report(), "format": 2})


def test_many_questions_share_columns() -> None:
    found = columns([(1 - n / 1000, f"question {n}") for n in range(2001)])
    assert 300 < len(found) <= MOST_COLUMNS
    assert found[0].title == "+1.000  question 0 (and 5 beside it)"
    assert found[0].value == pytest.approx(0.9975)
    assert found[-1].title.startswith("−1.000  question 2000")


def test_long_questions_are_abbreviated() -> None:
    page = html(report("word " * 5000))
    assert len(page) < 30_000
    assert "word…" in page


def test_bars_are_as_long_as_their_values() -> None:
    given = report()
    for value, system in zip(
        (0.8, 0.2, 0), given["collections"][0]["systems"].values(), strict=True
    ):
        system["means"]["nDCG@10"] = value
    widths = [bar.find("rect").get("width") for bar in pictures(html(given))[:4]]  # type: ignore[union-attr]
    assert widths == ["100.0%", "25.0%", "0.0%", "88.79%"]
    given["collections"][0]["published"] = []
    for system in given["collections"][0]["systems"].values():
        system["means"]["nDCG@10"] = 0.0
    assert pictures(html(given))[0].find("rect").get("width") == "0.0%"  # type: ignore[union-attr]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=14).map(sorted))
def test_labels_do_not_touch_and_stay_within_the_plot(heights: list[float]) -> None:
    placed = spread(heights)
    assert len(placed) == len(heights)
    assert all(below - above > LINE - 1e-9 for above, below in pairwise(placed))
    assert 0 <= placed[0] <= placed[-1] <= 100
    apart = [100 * n / len(heights) for n in range(len(heights))]
    assert spread(apart) == apart


@given(low=st.floats(-5, 5), span=st.floats(0.001, 1000))
def test_ticks_are_round_and_few(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    assert 2 <= len(marks) <= 8
    assert marks[0] <= low + 1e-6
    assert marks[-1] >= low + span - 1e-6


def test_numbers_are_short() -> None:
    assert (short(0.73871, 4), short(1.0, 4), short(-0.5, 2)) == (".7387", "1.0000", "-.50")
    assert (signed(0.0384), signed(-0.5), signed(0)) == ("+.038", "−.500", "±.000")
