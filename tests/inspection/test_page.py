"""The HTML page, in a real browser."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from latent_ingest.connector.inspection import html_page as module
from latent_ingest.connector.inspection.contexts import Context
from latent_ingest.connector.inspection.html_page import page
from latent_ingest.connector.inspection.labelling import Labelling
from latent_ingest.connector.inspection.neighbours import nearest
from latent_ingest.connector.inspection.survey import Survey

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--virtual-time-budget=5000"
)

FIGURES = [["", "latents", "words"], ["slope", "-0.54", "-0.84"]]
TITLE = "DATA of </title><b>&"


@pytest.fixture(scope="session")
def near(found: Survey) -> dict[int, list[int]]:
    return nearest(found, found.alive, None)


def write(found: Survey, labelling: Labelling, near: dict[int, list[int]]) -> str:
    return page(
        found, labelling, title=TITLE, figures=FIGURES, near=near, near_by="by texts in common"
    )


@pytest.fixture(scope="session")
def written(
    found: Survey,
    labelling: Labelling,
    near: dict[int, list[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(write(found, labelling, near), encoding="utf-8")
    return path


@pytest.fixture
def browse(written: Path, tmp_path: Path) -> Callable[..., str]:
    """HTML that a browser makes of the page, after some action on it."""
    if not CHROMIUM:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium: apt-get install chromium")
        pytest.skip("no chromium")

    def shown(fragment: str, doing: str = "") -> str:
        command = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"]
        page = tmp_path / "report.html"
        text = f"{written.read_text(encoding='utf-8')}<script>{doing}</script>"
        page.write_text(text, encoding="utf-8")
        address = f"{page.as_uri()}#{fragment}"
        done = subprocess.run(
            [*command, "--dump-dom", address], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout[: done.stdout.index('<script type="application/json"')]

    return shown


def part(dom: str, tag: str, identifier: str) -> str:
    """Content of an element, as text and marks."""
    (found,) = re.findall(rf'<{tag} id="{identifier}"[^>]*>(.*?)</{tag}>', dom, re.DOTALL)
    return str(found)


def results(dom: str) -> list[int]:
    """Numbers of the listed latents."""
    found = re.findall(r"#latent=(\d+)", part(dom, "ol", "results"))
    return [int(number) for number in found]


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def bracketed(context: Context) -> str:
    """The text of a context with its marked words in brackets."""
    text = context.text
    for start, end in reversed(context.marks):
        text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    return text


def telling(found: Survey, labelling: Labelling) -> int:
    """A latent with passages and a label whose heaviest word consists of letters."""
    for latent in found.alive.tolist():
        words = labelling.label_words(latent)
        if words and words[0].share > 0.5 and words[0].word.isalpha():
            return int(latent)
    raise AssertionError("none")


def written_data(text: str) -> str:
    """The JSON in the page."""
    return text.split('<script type="application/json" id="data">')[1].split("</script>")[0]


def test_a_latent_shows_its_words_passages_and_neighbours(
    browse: Callable[..., str],
    found: Survey,
    labelling: Labelling,
    near: dict[int, list[int]],
) -> None:
    latent = telling(found, labelling)
    dom = browse(f"latent={latent}")
    assert f"<h2>Latent {latent}: {labelling.label(latent)}</h2>" in dom
    assert plain(part(dom, "h1", "title")) == TITLE
    table = plain(part(dom, "table", "words"))
    for word in labelling.words(latent, 3):
        assert f"{word.word}{word.share * 100:.1f} %" in table
    passages = [
        html.unescape(passage.replace("<mark>", "[").replace("</mark>", "]"))
        for passage in re.findall(r'<div class="passage">(.*?)</div>', dom, re.DOTALL)
    ]
    assert passages == [bracketed(context) for context in found.contexts.of(latent)]
    assert "[" in passages[0]
    numbers = re.findall(r"#latent=(\d+)", part(dom, "ul", "neighbours"))
    assert [int(number) for number in numbers] == near[latent]
    assert near[latent]


def test_a_word_finds_its_latents(
    browse: Callable[..., str], found: Survey, labelling: Labelling
) -> None:
    word = labelling.label_words(telling(found, labelling))[0].word
    shown = results(browse(f"search={word}"))
    assert shown
    assert telling(found, labelling) in shown
    for latent in shown:
        heaviest = labelling.words(latent, module.WORDS) + labelling.label_words(latent)
        assert any(heavy.word.startswith(word) for heavy in heaviest)
    none = browse("search=zzzznothing")
    assert "0 latents" in none
    assert "<li>" not in part(none, "ol", "results")


def test_a_latent_is_found_by_all_words_of_its_label(
    browse: Callable[..., str], found: Survey, labelling: Labelling
) -> None:
    """Including those that are not its heaviest; and not by unrelated words."""
    labels = {
        latent: [word.word for word in labelling.label_words(latent)]
        for latent in found.alive.tolist()
    }
    light, words = next(
        (latent, words)
        for latent, words in labels.items()
        if len(words) > 1
        and words[-1] not in [word.word for word in labelling.words(latent, module.WORDS)]
    )
    assert light in results(browse(f"search={words[-1]}"))
    assert light in results(browse("search=" + " ".join(words)))
    assert light not in results(browse(f"search={words[-1]} zzzznothing"))


def test_somebody_types_and_clicks(
    browse: Callable[..., str], found: Survey, labelling: Labelling
) -> None:
    latent = telling(found, labelling)
    word = labelling.label_words(latent)[0].word
    typing = """
        const field = document.getElementById("search");
        for (const letter of %r) {
          field.value += letter;
          field.dispatchEvent(new Event("input", { bubbles: true }));
        }
    """
    dom = browse("", typing % word)
    assert results(dom) == results(browse(f"search={word}"))
    first, *_, last = results(dom)[:5]
    assert f"<h2>Latent {first}: " in dom
    assert f"<h2>Latent {last}: " not in dom
    clicking = f"document.querySelector('#results a[href=\"#latent={last}\"]').click();"
    dom = browse("", typing % word + clicking)
    assert f"<h2>Latent {last}: " in dom
    assert last in results(dom)


def test_the_front_shows_figures_and_the_picture(browse: Callable[..., str], found: Survey) -> None:
    dom = browse("")
    assert plain(part(dom, "table", "figures")) == "latentswordsslope-0.54-0.84"
    assert f"{len(found.alive):,} latents fire" in dom
    assert part(dom, "ol", "results").count("<li>") == 100
    for name in ("latents", "words"):
        (points,) = re.findall(rf'<polyline points="([^"]+)" class="{name}"', dom)
        assert len(points.split()) > 20
    assert "NaN" not in dom


def test_texts_cannot_break_out_of_the_page(
    found: Survey,
    labelling: Labelling,
    near: dict[int, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    latent = int(found.alive[0])
    evil = Context(1e9, "</script><script>alert(1)</script><!-- \u2028", ((0, 2),))
    monkeypatch.setattr(found.contexts, "of", lambda own: [evil] if own == latent else [])
    text = write(found, labelling, near)
    assert text.count("</script") == 2
    assert "alert(1)" in text
    assert "<b>&" not in text
    assert "<!--" not in text
    assert re.findall(r"https?:", text.replace("http://www.w3.org/2000/svg", "")) == []


def test_passages_are_left_out_of_a_page_that_is_too_large(
    found: Survey,
    labelling: Labelling,
    near: dict[int, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = write(found, labelling, near)
    most = len(written_data(whole)) - 500_000
    monkeypatch.setattr(module, "MOST_CHARACTERS", most)
    less = write(found, labelling, near)
    rest = len(whole) - len(written_data(whole))
    assert most - 2000 < len(less) - rest <= most
