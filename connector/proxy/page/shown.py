"""Documents as the page shows them: cut, and as pieces of plain text; nothing in them is markup."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from latent_ingest.connector.document_text import texts_at
from latent_ingest.connector.inspection.highlight import TAGS

# Characters of a text field, of another field, of a passage's field, and other fields of a hit.
LONGEST_TEXT = 1200
LONGEST_VALUE = 200
LONGEST_ENCODED = 6000
MOST_FIELDS = 20

# Characters of an id or of a field's name that are shown.
LONGEST_NAME = 512


def clean(text: str) -> str:
    """A text that can be sent: lone surrogates, which documents may have, are replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cut(text: str, most: int) -> str:
    """The beginning of a text, with an ellipsis if it is longer."""
    return clean(text if len(text) <= most else text[: most - 1] + "…")


def text_of(source: Mapping[str, Any], field: str) -> str:
    """All texts of a field, joined by a space."""
    return " ".join(texts_at(source, field))


def fields_of(source: Mapping[str, Any], text_fields: Sequence[str]) -> list[dict[str, Any]]:
    """The fields of a document: those that are encoded first; all cut.

    Each has its `name`, `text`, `length` in characters, and whether it is `encoded`.
    """
    texts = [(name, text) for name in text_fields if (text := text_of(source, name))]
    shown = [field(name, text, LONGEST_TEXT, encoded=True) for name, text in texts]
    others = [name for name in source if name not in text_fields]
    for name in others[:MOST_FIELDS]:
        value = source[name]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shown.append(field(name, text, LONGEST_VALUE, encoded=False))
    return shown


def field(name: str, text: str, most: int, *, encoded: bool) -> dict[str, Any]:
    """A field of a document."""
    return {
        "name": cut(name, LONGEST_NAME),
        "text": cut(text, most),
        "length": len(text),
        "encoded": encoded,
    }


def shortened(source: Mapping[str, Any], text_fields: Sequence[str]) -> dict[str, str]:
    """The beginnings of a document's text fields, short enough to be encoded at once."""
    found: dict[str, str] = {}
    room = LONGEST_ENCODED
    for name in text_fields:
        if room > 0 and (text := text_of(source, name)):
            found[name] = clean(text[:room])
            room -= len(text)
    return found


def pieces(fragment: str) -> list[tuple[str, bool]]:
    """A fragment with marks in HTML → its parts as plain text, each with whether it is marked."""
    parts = re.split(f"{TAGS[0]}(.*?){TAGS[1]}", fragment, flags=re.DOTALL)
    every = ((html.unescape(part), place % 2 == 1) for place, part in enumerate(parts))
    return [(clean(text), marked) for text, marked in every if text]


def beyond(fragments: Iterable[str], text: str) -> list[str]:
    """Those of the engine's fragments that are not in a text, since it was cut before them."""
    return [
        fragment
        for fragment in fragments
        if html.unescape(fragment.replace(TAGS[0], "").replace(TAGS[1], "")) not in text
    ]
