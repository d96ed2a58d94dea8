"""Pairs from a corpus that has no questions: what stands above a text, and the text.

title          title → text
heading        heading of a section → the section
sentence       first sentence → the rest
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from latent_ingest.connector.document_text import text_in
from latent_ingest.connector.training.pairs.reading import Pair

KINDS = ("title", "heading", "sentence")

# Characters of the shortest document worth a pair, and of a question.
SHORTEST_DOCUMENT = 80
QUESTION_LENGTHS = (8, 300)

# A heading of Markdown or reStructuredText, on lines of its own.
HEADING = re.compile(
    r"^(?:#{1,6}[ \t]+(?P<md>[^\n]+?)[ \t#]*|(?P<rst>\S[^\n]*)\n[=~^-]{3,})$", re.M
)

# The end of a first sentence: a full stop after three letters or more, since initials and titles
# (Dr.) end in one, too.
SENTENCE_END = re.compile(r"(?:(?<=[^\W\d_]{3}[.])|(?<=[?!]))[\"')\]]?\s+(?=[\"'(\[]?[^\W_])")


def pairs_of(
    fields: dict[str, Any],
    kinds: Sequence[str] = KINDS,
    *,
    title_field: str = "title",
    text_fields: Sequence[str] = ("text",),
) -> Iterator[Pair]:
    """The pairs of a document: of its title and its headings, or else of its first sentence.

    A pair whose document is shorter than 80 characters, or whose question has fewer than 8 or more
    than 300, is left out.
    """
    text = text_in(fields, text_fields)
    title = fields.get(title_field)
    found = []
    if "title" in kinds and isinstance(title, str) and title.strip():
        found.append(Pair(title.strip(), text.removeprefix(title).strip()))
    if "heading" in kinds:
        found += sections(text)
    if not found and "sentence" in kinds and (end := SENTENCE_END.search(text)):
        found.append(Pair(text[: end.start()].strip(), text[end.end() :].strip()))
    shortest, longest = QUESTION_LENGTHS
    for pair in found:
        if shortest <= len(pair.question) <= longest and len(pair.document) >= SHORTEST_DOCUMENT:
            yield pair


def sections(text: str) -> list[Pair]:
    """Headings and what stands below each, up to the next."""
    headings = list(HEADING.finditer(text))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    return [
        Pair((heading["md"] or heading["rst"]).strip(), text[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=False)
    ]
