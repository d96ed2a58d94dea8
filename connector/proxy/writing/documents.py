"""Documents on their way in: where their texts are in a line, and the line with latent terms.

A document stays byte for byte what the client sent; the two fields are put before its last brace.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from latent_ingest.connector.document_text import has_field, text_hash, text_in
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.proxy.indices import Entry
from latent_ingest.connector.proxy.messages import Exchange

ENCODED, ALREADY, STALE = "encoded", "already", "stale"


@dataclass(slots=True)
class Tally:
    """What documents of a request got."""

    counts: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    """Why the first document without latent terms has none."""

    def left(self, reason: str) -> None:
        """Count a document that goes in without latent terms though it has text."""
        self.counts["without"] += 1
        self.reason = self.reason or reason

    def tell(self, exchange: Exchange) -> None:
        """Say in a header of the answer what was done."""
        parts = [f"{name}={number}" for name, number in self.counts.items() if number]
        if not parts:
            return
        what = "encoded" if self.counts[ENCODED] else "passed through"
        exchange.done(what, *parts, *([self.reason] if self.reason else []))


@dataclass(slots=True)
class Source:
    """A document on its way in: where its latent terms go, and its text."""

    line: bytes
    meta: IndexMeta | None = None
    entry: Entry | None = None
    texts: list[tuple[str, int, int]] = field(default_factory=list)
    """Texts to be encoded, each with the span of its object in the line, in bytes."""
    partial: bool = False
    """Whether a part of the text is updated, so that the whole is known to the engine alone."""

    def with_terms(self, strings: list[str | None]) -> bytes:
        """Return the line with the latent terms of its texts."""
        line = self.line
        assert self.meta
        for (text, start, end), string in reversed(list(zip(self.texts, strings, strict=True))):
            if string is not None:
                new = spliced(line[start:end], self.meta, string, text)
                line = line[:start] + new + line[end:]
        return line


def spliced(document: bytes, meta: IndexMeta, string: str, text: str) -> bytes:
    """Return a document's JSON with latent terms and hash."""
    own = {meta.latent_field: string}
    if meta.hash_field:
        own[meta.hash_field] = text_hash(text)
    if own.keys() & (fields := json.loads(document)).keys():  # those of an earlier text
        return json.dumps({**fields, **own}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return document.rstrip()[:-1] + b"," + json.dumps(own)[1:].encode()


def members(text: str) -> Iterator[tuple[str, Any, int, int]]:
    """Yield key, value and span of each member of a JSON object; raises ValueError."""
    decoder = json.JSONDecoder()
    at = blank(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("not an object")
    at = blank(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = decoder.raw_decode(text, at)
        at = blank(text, at)
        if text[at : at + 1] != ":":
            raise ValueError("no colon")
        start = blank(text, at + 1)
        value, at = decoder.raw_decode(text, start)
        yield key, value, start, at
        at = blank(text, at)
        if text[at : at + 1] == ",":
            at = blank(text, at + 1)
        elif text[at : at + 1] != "}":
            raise ValueError("no comma")


def blank(text: str, at: int) -> int:
    """Return the place of the next character that is no blank."""
    while text[at : at + 1] in (" ", "\t", "\r", "\n") and at < len(text):
        at += 1
    return at


def text_of(fields: Mapping[str, Any], meta: IndexMeta) -> str | None:
    """Return the text of a document; None if it has no text field, or has its latent terms."""
    if not any(has_field(fields, path) for path in meta.text_fields):
        return None
    return text_in(fields, meta.text_fields)


def document_texts(source: Source, meta: IndexMeta, tally: Tally) -> None:
    """Note the text of a document; raises ValueError."""
    fields = json.loads(source.line)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    text = text_of(fields, meta)
    if text is None:
        return
    if has_own(fields, meta, text):
        tally.counts[ALREADY] += 1
        return
    end = len(source.line.rstrip())
    source.texts.append((text, 0, end))


def updated_texts(source: Source, meta: IndexMeta, tally: Tally) -> None:
    """Note the texts of an update: those of `doc` and `upsert`; raises ValueError."""
    line = source.line.decode()
    for key, value, start, end in members(line):
        if key not in ("doc", "upsert") or not isinstance(value, dict):
            continue
        text = text_of(value, meta)
        if text is None:
            continue
        if has_own(value, meta, text):
            tally.counts[ALREADY] += 1
        elif key == "doc" and not all(has_field(value, path) for path in meta.text_fields):
            source.partial = True
            tally.counts["partial"] += 1
        else:
            span = len(line[:start].encode()), len(line[:end].encode())
            source.texts.append((text, *span))


def has_own(fields: Mapping[str, Any], meta: IndexMeta, text: str) -> bool:
    """Return whether a document comes with the latent terms of its text."""
    hashed = meta.hash_field and fields.get(meta.hash_field) == text_hash(text)
    return bool(hashed) and meta.latent_field in fields
