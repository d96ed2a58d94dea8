"""Documents: a line of a corpus file → a document, or what is wrong with the line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from latent_ingest.connector.corpus_file import Line
from latent_ingest.connector.document_text import (
    nearest,
    paths_in,
    text_hash,
    text_in,
    values_at,
)

DEFAULT_ID_FIELDS = ("_id", "id")
DEFAULT_TEXT_FIELDS = ("title", "text")

# Key that lines of a failures file have in addition to the document's keys, and the keys inside;
# see `BadLine.to_json`.
FAILURE_KEY = "_failure"
FAILURE_PARTS = {"file", "line", "reason"}

# Types of MongoDB's extended JSON that are a string or a whole number with a name.
EXTENDED_IDS = {"$oid", "$uuid", "$numberLong", "$numberInt"}

# A line with half of a surrogate pair contains one of these: an escape, or the first byte of bytes
# that Python decodes to one although they are not UTF-8.
SIGNS_OF_SURROGATES = (rb"\ud", rb"\uD", b"\xed")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus."""

    line: int
    """Number of the line in the file, counted from 1."""
    id: str
    generated: bool
    """Whether the id was made of the content, since the line has none."""
    text: str
    """The text that is encoded; see `text_in`."""
    fields: dict[str, Any]
    """The line's object, without `_id`, which the engine refuses inside a document."""
    lost_id: bool = False
    """Whether the line has an `_id` that is not the id, and so is not kept."""

    @property
    def text_hash(self) -> str:
        """Hash of the text."""
        return text_hash(self.text)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no document, or a document that the engine rejected."""

    line: int
    reason: str
    """The problem with the value, and how to fix it."""
    content: bytes | Document
    """The line itself, or its document."""

    def to_json(self, source: str) -> str:
        """A line for the failures file, which can be corrected and ingested."""
        failure: dict[str, Any] = {"file": source, "line": self.line, "reason": self.reason}
        fields: dict[str, Any] = {}
        if isinstance(self.content, bytes):
            # surrogateescape and ASCII output preserve bytes that are not UTF-8.
            failure["original"] = self.content.decode("utf-8", "surrogateescape")
        else:
            fields = {"_id": self.content.id, **self.content.fields}
        if FAILURE_KEY in fields:  # the document has such a key itself
            failure["original"], fields = json.dumps(fields), {}
        return json.dumps({FAILURE_KEY: failure, **fields})


def parse_line(
    line: Line,
    *,
    id_fields: Sequence[str] = DEFAULT_ID_FIELDS,
    text_fields: Sequence[str] = DEFAULT_TEXT_FIELDS,
    strict: bool = True,
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Document | BadLine:
    """Parse the document on a line that is not blank, or say what is wrong with it.

    The first id field that the document has is its id. If `strict`, it must have at least one text
    field, with strings only; else it is read as a document of an index is. `change` makes the
    document of the line's object; documents of a failures file are changed already.
    """
    try:
        if line.problem:
            raise ValueError(line.problem)
        fields = parse_object(line)
        failure = fields.get(FAILURE_KEY)
        if isinstance(failure, dict) and failure.keys() - {"original"} == FAILURE_PARTS:
            if isinstance(failure.get("original"), str):
                original = failure["original"].encode("utf-8", "surrogateescape")
                again = Line(line.number, original)
                return parse_line(
                    again,
                    id_fields=id_fields,
                    text_fields=text_fields,
                    strict=strict,
                    change=change,
                )
            del fields[FAILURE_KEY]
        elif change:
            fields = change(fields)
        check_surrogates(line, fields)
        if strict:
            check_texts(fields, text_fields)
        stated = stated_id(fields, id_fields)
    except ValueError as error:
        return BadLine(line.number, str(error), line.content)
    identifier = generated_id(fields) if stated is None else stated
    own = plain_id(fields.pop("_id", None))
    lost_id = own not in (None, "") and str(own) != identifier
    text = text_in(fields, text_fields)
    return Document(line.number, identifier, stated is None, text, fields, lost_id)


def parse_object(line: Line) -> dict[str, Any]:
    """The JSON object on a line; raises ValueError, as the functions below, if it has none."""
    try:
        fields = json.loads(line.content, object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        raise ValueError(not_utf8(error)) from error
    except json.JSONDecodeError as error:
        what = f"{error.msg} at character {error.pos + 1}"
        raise ValueError(f"not JSON: {what}: {excerpt(line)}; write one object per line") from error
    except DoubleKeyError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}: {excerpt(line)}") from error
    if not isinstance(fields, dict):
        kind = json_kind(fields)
        raise ValueError(f"{kind}, not an object: {excerpt(line)}; write one object per line")
    return fields


class DoubleKeyError(ValueError):
    """An object has a key twice, which engines refuse."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `json.loads`; raises DoubleKeyError."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in fields if keys.count(key) > 1)
        raise DoubleKeyError(f"key {double!r} twice in one object; remove one or rename it")
    return fields


def not_utf8(error: UnicodeDecodeError) -> str:
    """Message for bytes that are not UTF-8."""
    bad = error.object[error.start : error.start + 1].hex()
    return f"not UTF-8: byte 0x{bad} at position {error.start}; convert the file to UTF-8"


def check_surrogates(line: Line, fields: dict[str, Any]) -> None:
    """Refuse keys and values with half of a surrogate pair."""
    if not any(sign in line.content for sign in SIGNS_OF_SURROGATES):
        return
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(
            f"{half} is half of a surrogate pair, which no UTF-8 can hold; write the character"
        ) from error


def plain_id(value: Any) -> Any:
    """The string in an id of MongoDB's extended JSON; any other value as it is."""
    if isinstance(value, dict) and len(value) == 1 and EXTENDED_IDS.issuperset(value):
        (value,) = value.values()
    return value


def stated_id(fields: dict[str, Any], id_fields: Sequence[str]) -> str | None:
    """The first id field that is not empty, as text; None if there is none."""
    stated = next((fields[name] for name in id_fields if fields.get(name) not in (None, "")), None)
    stated = plain_id(stated)
    if isinstance(stated, bool) or not isinstance(stated, str | int | None):
        raise ValueError(
            f"the id is {json_kind(stated)}: {stated!r:.60}; write a string or a whole number, or "
            f"name another field with --id-field"
        )
    return None if stated is None else str(stated)


def check_texts(fields: dict[str, Any], text_fields: Sequence[str]) -> None:
    """Refuse a document without any text field, and one that has another value in one."""
    found = False
    for name in text_fields:
        for value in values_at(fields, name):
            found = True
            if not isinstance(value, str | None):
                inside = f", or name a field in it with --text-fields {name}.FIELD"
                raise ValueError(
                    f"field {name!r} is {json_kind(value)}: {value!r:.60}; write a string"
                    f"{inside if isinstance(value, dict) else ''}"
                )
    if not found:
        names = list(dict.fromkeys(paths_in(fields)))
        has = ", ".join(map(repr, names)) or "none"
        near = next(filter(None, (nearest(name, names) for name in text_fields)), "")
        wanted = " or ".join(map(repr, text_fields))
        raise ValueError(
            f"no text field: no {wanted} (fields: {has:.120}{near}); use --text-fields"
        )


def generated_id(fields: dict[str, Any]) -> str:
    """An id made of the content: the same document always gets the same id."""
    canonical = json.dumps(fields, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(canonical).hexdigest()[:20]


def json_kind(value: object) -> str:
    """JSON's name for the type of a value, with an article."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array"}
    return names.get(type(value), "an object" if isinstance(value, dict) else "a number")


def excerpt(line: Line) -> str:
    """Start of a line, for a message."""
    text = line.content.decode("utf-8", "replace")
    return repr(text if len(text) <= 60 else text[:60] + "...")
