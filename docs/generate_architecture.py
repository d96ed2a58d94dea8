"""Writes docs/architecture.svg, the picture of the rooms and the two journeys.

    python docs/generate_architecture.py [FILE]

A test fails when the picture lacks a room, or is not what this script writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

TOP, ROW, GAP = 62, 60, 10
LEFT, ROOM_WIDTH, STEP_WIDTH, SPACE = 16, 300, 352, 14

BLACK, GREY, FRAME, PAPER = "#222", "#444", "#8a94a3", "#f2f4f7"


class Journey(NamedTuple):
    """What passes the rooms."""

    title: str
    left: int
    """Left edge of its steps in pixels."""
    line: str
    """Colour of its line."""
    fill: str


class Room(NamedTuple):
    """A row: rooms of one rank, and the step of each journey in them."""

    names: str
    holds: str
    ingest: str | None = None
    """Number of the step and what is done, with a space between."""
    question: str | None = None


INGEST = Journey("A corpus file becomes an index", LEFT + ROOM_WIDTH + SPACE, "#1b5e9e", "#e3effb")
QUESTION = Journey(
    "A question becomes hits", INGEST.left + STEP_WIDTH + SPACE, "#a3470b", "#fdebdd"
)
WIDTH = QUESTION.left + STEP_WIDTH + LEFT

ROOMS = (
    Room(
        "cli",
        "commands: parse, call one object, print",
        "1 parse options, call the job, print the summary",
        "1 parse options, call the rewriter, print hits",
    ),
    Room(
        "frameworks",
        "LangChain, LlamaIndex, Haystack, MCP",
        question="1 or: a framework or an assistant asks",
    ),
    Room("tuning", "chooses settings of scoring"),
    Room("training · sentence_transformers", "autoencoders; encoders tuned on pairs"),
    Room("evaluation", "systems, measures, reports"),
    Room(
        "proxy",
        "searches and writes of applications; page",
        question="1 or: an application sends a request body",
    ),
    Room("inspection · diagnosis", "explain, highlight, labels; doctor"),
    Room(
        "querying",
        "questions and bodies → request bodies",
        question="4 weighted terms → request body",
    ),
    Room(
        "indexing",
        "documents → index, journal, outcomes",
        "5 counts → bulk actions",
    ),
    Room(
        "index",
        "index meta, mapping, guard alias",
        "2 create or check the index; guard alias",
        "2 index meta: which model, which settings",
    ),
    Room(
        "questions",
        "tables of words, without the model",
        question="3 by table: words → latents → weights",
    ),
    Room(
        "encoding",
        "text → latents",
        "4 tokens → latents → counts",
        "3 by model: tokens → latents → weights",
    ),
    Room("collections · corpus", "files of any format, judged collections", "3 files → documents"),
    Room(
        "engine",
        "client, login, retries, local engine",
        "6 bulk requests, retries → outcomes → journal",
        "5 search request → hits",
    ),
    Room("errors · terms · mappings", "what every room uses"),
)


def text(x: float, y: float, content: str, size: int, color: str, **more: str) -> str:
    """A line of text; `more` are further attributes, with _ for -."""
    named = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    place = f'<text x="{x}" y="{y}"{named} font-size="{size}" fill="{color}">'
    return f"{place}{escape(content)}</text>"


def title(left: int, width: int, content: str, color: str) -> str:
    """The title of a column."""
    more = {"text_anchor": "middle", "font_weight": "bold"}
    return text(left + width / 2, 42, content, 16, color, **more)


def room(top: int, row: Room) -> Iterator[str]:
    yield (
        f'<rect x="{LEFT}" y="{top}" width="{ROOM_WIDTH}" height="{ROW - GAP}" rx="6" '
        f'fill="{PAPER}" stroke="{FRAME}"/>'
    )
    yield text(LEFT + 14, top + 21, row.names, 15, BLACK, font_weight="bold")
    yield text(LEFT + 14, top + 40, row.holds, 13, GREY)


def step(top: int, journey: Journey, content: str) -> Iterator[str]:
    number, what = content.split(" ", 1)
    middle, round_at = top + 25, journey.left + 23
    yield (
        f'<rect x="{journey.left}" y="{top + 4}" width="{STEP_WIDTH}" height="42" rx="21" '
        f'fill="{journey.fill}" stroke="{journey.line}"/>'
    )
    yield f'<circle cx="{round_at}" cy="{middle}" r="13" fill="{journey.line}"/>'
    more = {"text_anchor": "middle", "font_weight": "bold"}
    yield text(round_at, middle + 5, number, 14, "#fff", **more)
    yield text(round_at + 23, middle + 5, what, 13, BLACK)


def picture() -> Iterator[str]:
    """The lines of the file."""
    height = TOP + ROW * len(ROOMS) + GAP
    steps = [[row.ingest for row in ROOMS], [row.question for row in ROOMS]]
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="t d" font-family="Helvetica, Arial, sans-serif">'
    )
    yield "<!-- Written by docs/generate_architecture.py. Do not edit; run the script again. -->"
    yield '<title id="t">Rooms of latent-ingest and its two journeys</title>'
    yield (
        '<desc id="d">A room imports only rooms below it. Ingest passes cli, index, corpus, '
        "encoding, indexing and engine; a question passes cli, frameworks or proxy, then index, "
        "questions or encoding, querying and engine.</desc>"
    )
    yield '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>'
    yield title(LEFT, ROOM_WIDTH, "Rooms (imports go down)", "#333")
    for journey, contents in zip((INGEST, QUESTION), steps, strict=True):
        yield title(journey.left, STEP_WIDTH, journey.title, journey.line)
        middle = journey.left + STEP_WIDTH / 2
        last = max(number for number, content in enumerate(contents) if content)
        yield (
            f'<line x1="{middle}" y1="{TOP + 25}" x2="{middle}" y2="{TOP + 25 + ROW * last}" '
            f'stroke="{journey.line}" stroke-width="3" stroke-dasharray="2 6" '
            f'stroke-linecap="round"/>'
        )
    for number, row in enumerate(ROOMS):
        top = TOP + ROW * number
        yield from room(top, row)
        for journey, content in ((INGEST, row.ingest), (QUESTION, row.question)):
            if content:
                yield from step(top, journey, content)
    yield "</svg>"


if __name__ == "__main__":
    beside = Path(__file__).with_name("architecture.svg")
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else beside
    file.write_text("\n".join(picture()) + "\n", encoding="utf-8")
