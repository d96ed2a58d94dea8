"""The search page in a real browser, in front of a real engine."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from browser import Browser
from elastic_proxy import USER, Elastic, ElasticProxy
from proxy.conftest import Running
from proxy_page.conftest import BIDI, HUGE, IMAGE, QUESTION, SCRIPT, asking, ids, picture

from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.local import free_port

DONE = "document.body.dataset.done === 'true'"


def address(proxy: Running, index: str, question: str = QUESTION, **more: str) -> str:
    parts = {"index": index, "q": question, **more}
    written = "&".join(f"{name}={quote(value)}" for name, value in parts.items())
    return f"{proxy.url}/_latent/?{written}"


def show(browser: Browser, proxy: Running, index: str, **more: str) -> None:
    browser.open(address(proxy, index, **more))
    browser.until(DONE)


def shown(browser: Browser, column: str) -> list[str]:
    """Ids of the hits in a column."""
    found: list[str] = browser.do(
        f"[...document.querySelectorAll('#column-{column} .hit')].map(hit => hit.dataset.id)"
    )
    return found


def answer(proxy: Running, content: dict[str, Any]) -> Any:
    return proxy.ask("POST", "/_latent/api/search", content).json


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (800, True), (360, False)])
def test_three_widths(
    width: int, dark: bool, browser: Browser, proxy: Running, papers: str
) -> None:
    browser.size(width, dark=dark)
    show(browser, proxy, papers)
    picture(browser, "page.png")
    expected = answer(proxy, asking(papers))["columns"]
    for name, column in expected.items():
        assert shown(browser, name) == ids(column)
    assert browser.do("document.documentElement.scrollWidth") == width
    tops = browser.do("[...document.querySelectorAll('.column')].map(one => one.offsetTop)")
    assert (len(set(tops)) == 1) == (width == 1440)
    ground = browser.do("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (not dark)
    assert contrast(browser) >= 4.5
    assert browser.problems == []
    assert {urlsplit(url).netloc for url in browser.requested if not url.startswith("data:")} == {
        urlsplit(proxy.url).netloc
    }
    assert browser.do("document.querySelectorAll('mark').length") > 10


def contrast(browser: Browser) -> float:
    """The smallest contrast of the text of some parts with the ground behind them."""
    return float(
        browser.do("""
        (() => {
          const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
          const light = (colour) => {
            const [r, g, b] = numbers(colour).map((one) => {
              const part = one / 255;
              return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = (element) => {
            for (let one = element; one; one = one.parentElement) {
              const colour = getComputedStyle(one).backgroundColor;
              if (!colour.endsWith(", 0)")) return colour;
            }
          };
          const parts = "h1, h3, label, .facts span, .moved, .help, mark, button, #status, a";
          return Math.min(...[...document.querySelectorAll(parts)].map((element) => {
            const [one, other] = [getComputedStyle(element).color, ground(element)].map(light);
            return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
          }));
        })()
        """)
    )


def test_what_moved_is_marked(browser: Browser, proxy: Running, papers: str) -> None:
    show(browser, proxy, papers, size="5")
    columns = answer(proxy, asking(papers, size=5))["columns"]
    words = ids(columns["words"])
    assert words != ids(columns["hybrid"])
    for name in ("latent", "hybrid"):
        marks = browser.do(
            f"[...document.querySelectorAll('#column-{name} .moved > :first-child')]"
            ".map(mark => mark.textContent)"
        )
        expected = []
        for rank, id in enumerate(ids(columns[name])):
            before = words.index(id) if id in words else None
            if before is None:
                expected.append("new")
            else:
                up = before - rank
                expected.append("=" if not up else f"↑ {up}" if up > 0 else f"↓ {-up}")
        assert marks == expected
    spoken = browser.do("document.querySelector('#column-hybrid .moved .sr').textContent")
    assert "words" in spoken


def test_documents_are_text(browser: Browser, proxy: Running, papers: str) -> None:
    browser.size(1440)
    show(browser, proxy, papers, size="50")
    assert {"<b>evil</b>", "bidi", "huge", "half", "long"} <= set(shown(browser, "words"))
    assert browser.do("document.title") == f"{QUESTION} – search by meaning"
    assert browser.do("document.querySelectorAll('#answer :is(script, img, b, i, em)').length") == 0
    assert browser.do("document.scripts.length") == 1
    texts = browser.do("document.getElementById('columns').textContent")
    assert SCRIPT in texts
    assert "<em>not a mark</em>" in texts
    assert IMAGE.split(" A ")[0] in texts
    assert len(texts) < 300_000
    assert f"{HUGE:,}"[:3] not in browser.do("document.getElementById('status').textContent")
    # What stands after a title that turns the direction is where it stands after any other.
    places = browser.do("""
        (() => {
          const place = (id) => {
            const hit = [...document.querySelectorAll("#column-words .hit")]
              .find((one) => one.dataset.id === id);
            const facts = [...hit.querySelectorAll(".facts > *")];
            const [number] = hit.querySelector("h3").childNodes;
            const range = document.createRange();
            range.selectNode(number);
            return [
              Math.round(range.getBoundingClientRect().left - hit.getBoundingClientRect().left),
              facts[0].offsetLeft < facts[1].offsetLeft,
            ];
          };
          return [place("bidi"), place("huge")];
        })()
    """)
    assert places[0] == places[1]
    title = browser.do("""
        [...document.querySelectorAll("#column-words .hit")]
          .find((one) => one.dataset.id === "bidi").querySelector("h3 bdi").textContent
    """)
    assert title == BIDI
    assert browser.problems == []


def test_why_and_the_card_of_a_latent_by_keyboard(
    browser: Browser, proxy: Running, papers: str
) -> None:
    browser.size(1440)
    show(browser, proxy, papers)
    browser.do("document.querySelector('#column-hybrid .why').focus()")
    browser.press("Enter")
    browser.until("document.querySelector('#column-hybrid .why-panel table') !== null")
    assert browser.do("document.activeElement.getAttribute('aria-expanded')") == "true"
    shares = browser.do("document.querySelector('#column-hybrid .legend').textContent")
    assert "words" in shares
    assert "latents" in shares
    widths = browser.do(
        "[...document.querySelectorAll('#column-hybrid .bar span')]"
        ".reduce((sum, one) => sum + parseFloat(one.style.width), 0)"
    )
    assert widths == pytest.approx(100, abs=0.5)
    browser.press("Tab")
    browser.until("document.activeElement.matches('button.term')")
    latent = browser.do("document.activeElement.dataset.latent")
    browser.press("Enter")
    browser.until("document.querySelector('#card[open] h4') !== null")
    assert browser.do("document.activeElement.id") == "card-title"
    assert f"Latent {latent}: " in browser.do("document.activeElement.textContent")
    card = browser.do("document.getElementById('card').textContent")
    expected = proxy.ask("GET", f"/_latent/api/latent?index={papers}&latent={latent}").json
    assert f"in {expected['documents']} of {expected['of']} documents" in card
    for word in expected["words"][:3]:
        assert word["word"] in card
    picture(browser, "card.png")
    neighbour = expected["neighbours"][0]["latent"]
    browser.do(f"document.querySelector('#card [data-latent=\"{neighbour}\"]').click()")
    browser.until(f"document.getElementById('card-title').textContent.includes('{neighbour}: ')")
    browser.press("Escape")
    browser.until("!document.getElementById('card').open")
    assert browser.do("document.activeElement.dataset.latent") == latent
    assert browser.problems == []


def test_somebody_types_and_shares_the_address(
    browser: Browser, proxy: Running, papers: str
) -> None:
    browser.open(f"{proxy.url}/_latent/")
    browser.until("document.querySelector('#indices option') !== null")
    browser.do("document.getElementById('index').value = ''")
    browser.do("document.getElementById('question').focus()")
    browser.write("read a file line by line")
    browser.press("Tab")
    browser.write(papers)
    browser.press("Enter")
    browser.until(DONE)
    first = shown(browser, "hybrid")
    assert first == ids(
        answer(proxy, {"index": papers, "question": "read a file line by line"})["columns"][
            "hybrid"
        ]
    )
    shared = browser.do("location.href")
    assert "q=read+a+file" in shared
    browser.do("document.getElementById('question').value = 'sort numbers'")
    browser.do("document.getElementById('question').focus()")
    browser.press("Enter")
    browser.until(f"{DONE} && location.search.includes('sort')")
    assert shown(browser, "hybrid") != first
    browser.do("history.back()")
    browser.until(f"{DONE} && location.search.includes('read')")
    assert shown(browser, "hybrid") == first
    browser.open(shared)
    browser.until(DONE)
    assert shown(browser, "hybrid") == first


def test_a_filter(browser: Browser, proxy: Running, papers: str) -> None:
    show(browser, proxy, papers, filter='{"term": {"year": 2024}}')
    assert shown(browser, "words") == ["<b>evil</b>"]
    assert "<b>evil</b>" in shown(browser, "latent")
    assert len(shown(browser, "latent")) < 3
    show(browser, proxy, papers, filter='{"term": ')
    alert = browser.do("document.getElementById('error').textContent")
    assert alert.startswith("The filter is not JSON")
    assert browser.do("document.activeElement.id") == "filter"


@pytest.mark.parametrize("side", ["application", "engine"])
@pytest.mark.parametrize("column", ["words", "latent", "hybrid"])
def test_the_request_can_be_copied(
    side: str, column: str, browser: Browser, proxy: Running, papers: str
) -> None:
    """What is copied is run, and gives the hits of the page."""
    show(browser, proxy, papers, filter='{"range": {"year": {"lt": 2025}}}', size="5")
    written = {}
    for language in ("curl", "python", "console"):
        for part, value in (("column", column), ("side", side), ("language", language)):
            browser.do(f"""
                document.getElementById("request-{part}").value = "{value}";
                document.getElementById("request-{part}").dispatchEvent(new Event("change"));
            """)
        written[language] = browser.do("document.getElementById('request-text').textContent")
    hits = shown(browser, column)
    assert len(hits) > 1
    done = subprocess.run(["sh", "-c", written["curl"]], capture_output=True, text=True, timeout=60)
    assert [hit["_id"] for hit in json.loads(done.stdout)["hits"]["hits"]] == hits
    ending = "\nprint([hit['_id'] for hit in answer['hits']['hits']])"
    command = [sys.executable, "-c", written["python"] + ending]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(hits), done.stderr
    first, _, body = written["console"].partition("\n")
    method, _, path = first.partition(" ")
    if side == "engine":
        reply = proxy.ask(method, f"/{path}", body, x_latent="off")
        assert [hit["_id"] for hit in reply.json["hits"]["hits"]] == hits


def test_nothing_hides_in_what_is_copied(browser: Browser, proxy: Running, papers: str) -> None:
    question = "it's a file\u202e' ; $(touch owned) `x` \u200b\u2066 \\ \"q\" é 名"
    show(browser, proxy, papers, question=question)
    text = browser.do("document.getElementById('request-text').textContent")
    assert "\\u202e" in text
    assert not set("\u202e\u200b\u2066") & set(text)
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60)
    found = [hit["_id"] for hit in json.loads(done.stdout)["hits"]["hits"]]
    assert found == shown(browser, "hybrid")
    assert found


def test_errors_in_plain_words(browser: Browser, proxy: Running, papers: str, serve: Any) -> None:
    def told() -> str:
        browser.until(DONE)
        assert browser.do("document.getElementById('error').getAttribute('role')") == "alert"
        assert browser.do("document.getElementById('status').textContent") == ""
        return str(browser.do("document.getElementById('error').textContent"))

    browser.open(address(proxy, "nowhere"))
    assert told() == "No index or alias nowhere."
    away = f"http://127.0.0.1:{free_port()}"
    with serve(urls=(away,), questions="table", documents=False) as running:
        browser.open(address(running, papers))
        assert told() == ("The search engine cannot be reached; try again, or ask who runs it.")
    browser.do("document.getElementById('ask').requestSubmit()")
    browser.until("document.getElementById('error').textContent.includes('still running')")


def test_somebody_logs_in(browser: Browser, serve: Any, opensearch_url: str, papers: str) -> None:
    engine = ElasticProxy(opensearch_url)
    with (
        engine.listening(Elastic) as url,
        serve(urls=(url,), connection=Connection(url), questions="table", documents=False) as one,
    ):
        browser.open(address(one, papers))
        browser.until("document.getElementById('login').open")
        assert "asks for a login" in browser.do("document.getElementById('error').textContent")
        browser.do("document.getElementById('user').focus()")
        browser.write(USER[0])
        browser.press("Tab")
        browser.write(USER[1])
        browser.press("Enter")
        browser.until(f"{DONE} && document.querySelector('.hit') !== null")
        assert shown(browser, "words")
        assert not browser.do("document.getElementById('login').open")
        text = browser.do("document.getElementById('request-text').textContent")
        assert '-H "Authorization: $AUTHORIZATION"' in text
        secret = base64.b64encode(":".join(USER).encode()).decode()
        everything = browser.do("document.documentElement.outerHTML + location.href")
        assert secret not in everything
        assert USER[1] not in everything
        assert browser.do("JSON.stringify([localStorage, sessionStorage, document.cookie])") == (
            '[{},{},""]'
        )


def test_a_screen_reader_finds_its_way(browser: Browser, proxy: Running, papers: str) -> None:
    show(browser, proxy, papers, size="5")
    browser.do("document.querySelector('#column-words .why').click()")
    browser.until("document.querySelector('#column-words .why-panel table') !== null")
    nodes = browser.accessible()
    named = {(node["role"], node["name"]) for node in nodes}
    assert {
        ("searchbox", "Question"),
        ("combobox", "Index"),
        ("button", "Search"),
        ("heading", "Search by words and by meaning"),
        ("region", "Words"),
        ("region", "Latent terms"),
        ("region", "Hybrid"),
        ("main", "Results"),
        ("navigation", "Columns"),
        ("table", "What each word and each latent adds to the score"),
        ("button", "Why? hit 2 of hybrid"),
    } - named <= {("navigation", "Columns")}  # shown on narrow screens alone
    for role in ("button", "link", "searchbox", "combobox", "textbox", "heading", "dialog"):
        assert all(node["name"].strip() for node in nodes if node["role"] == role), role
    assert "status" in {node["role"] for node in nodes}
    assert "hybrid are not among those of words" in browser.do(
        "document.querySelector('[aria-live=polite]').textContent"
    )
    browser.open(f"{proxy.url}/_latent/")
    browser.do("document.activeElement.blur(); getSelection().removeAllRanges()")
    browser.call("Page.bringToFront")
    browser.do("document.querySelector('.skip').focus()")
    assert browser.do("document.querySelector('.skip').offsetLeft") >= 0
    browser.press("Enter")
    browser.until("document.activeElement.id === 'results'")
    assert browser.do("document.querySelector('a, button, input').className") == "skip"
