"""Text of a document: the values at the paths of its text fields, which are encoded.

A path names a field as engines do: a dot may be within a key or lead into an object, and arrays
are looked through.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any


def values_at(value: object, path: str) -> Iterator[Any]:
    """The values at a path, without arrays around them; None where it ends early or is empty.

    Nothing if there is no such field.
    """
    if isinstance(value, list):
        for item in value or [None]:
            yield from values_at(item, path)
    elif not path or value is None:
        yield value
    elif isinstance(value, dict):
        for key, rest in steps(value, path):
            yield from values_at(value[key], rest)


def steps(fields: Mapping[str, Any], path: str) -> list[tuple[str, str]]:
    """The keys of an object that a path leads through, each with the rest of the path."""
    return [
        (key, path[len(key) + 1 :])
        for key in fields
        if key and (key == path or path.startswith(f"{key}."))
    ]


def has_field(fields: Mapping[str, Any], path: str) -> bool:
    """Whether a document has a field, also if it is null."""
    return any(True for _ in values_at(fields, path))


def texts_at(fields: Mapping[str, Any], path: str) -> Iterator[str]:
    """The texts at a path that are not empty; numbers are converted to text, as engines do."""
    for value in values_at(fields, path):
        if value not in (None, "") and not isinstance(value, dict):
            yield value if isinstance(value, str) else json.dumps(value)


def text_in(fields: Mapping[str, Any], text_fields: Sequence[str]) -> str:
    """The text that is encoded: the texts of all text fields, joined by a space."""
    return " ".join(text for path in text_fields for text in texts_at(fields, path))


def text_hash(text: str) -> str:
    """Hash of a text (16 hex digits), stored to recognize texts that changed since encoding."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def replaced(value: Any, path: str, new: Callable[[Any], Any]) -> Any:
    """A copy of a document in which the values at a path are those that `new` returns for them.

    `new` is called in the order of `values_at`.
    """
    if isinstance(value, list):
        return [replaced(item, path, new) for item in value]
    if not path or value is None:
        return new(value)
    if not isinstance(value, dict):
        return value
    changed = {key: replaced(value[key], rest, new) for key, rest in steps(value, path)}
    return {**value, **changed}


def paths_in(fields: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The paths of a document's fields that are no objects, once for each value."""
    for key, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from paths_in(item, f"{before}{key}.")
            else:
                yield before + key


def missing(
    documents: Sequence[Mapping[str, Any]], text_fields: Sequence[str], *, chosen: bool
) -> list[str]:
    """A message for each text field that none of the documents has.

    Fields that the user has not `chosen` are reported only if the documents have one that is named
    much like it.
    """
    names: dict[str, None] | None = None
    messages = []
    for path in text_fields:
        if any(has_field(fields, path) for fields in documents):
            continue
        if names is None:
            names = dict.fromkeys(name for fields in documents for name in paths_in(fields))
        near = nearest(path, [name for name in names if name not in text_fields])
        if chosen or near:
            messages.append(
                f"none of the first {len(documents):,} documents has a field {path!r}{near}"
            )
    return messages


def nearest(name: str, names: Collection[str]) -> str:
    """`; did you mean 'text'?` if one of the names is much like `name`, else nothing."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
