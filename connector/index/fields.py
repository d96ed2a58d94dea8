"""Fields of an index, by its mapping: which hold text, and which have the text of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from latent_ingest.connector.document_text import nearest
from latent_ingest.connector.errors import InputError

# Types of fields in which engines search for words.
ANALYZED = frozenset({"text", "match_only_text", "search_as_you_type", "annotated_text"})

# Types of fields whose values are texts.
TEXT_TYPES = ANALYZED | {"keyword", "wildcard"}

# Types of fields that engines search with a model of their own.
EMBEDDED = frozenset({"semantic", "semantic_text"})


class Field(NamedTuple):
    """A field of a mapping."""

    path: str
    kind: str
    """Type of the field; "object" if it has fields only."""
    parent: str | None
    """The field from which the engine derives it, if it is a multi-field."""
    nested: bool
    """Whether it is inside nested objects."""
    copy_to: Sequence[str] = ()
    """The fields to which its text is copied."""
    alias_of: str | None = None
    indexed: bool = True
    """Whether it can be searched."""


class ChosenFields(NamedTuple):
    """The fields that a user names to be encoded."""

    text_fields: list[str]
    """The fields of documents that hold their text."""
    words: list[str] | None
    """The fields in which words are searched; None if these are the text fields."""


def fields_of(
    mapping: dict[str, Any], prefix: str = "", nested: bool = False, parent: str | None = None
) -> Iterator[Field]:
    """All fields of a mapping, each before those inside it."""
    for part in ("properties", "fields"):
        for name, found in mapping.get(part, {}).items():
            path, kind = prefix + name, found.get("type", "object")
            origin = (parent or prefix[:-1]) if part == "fields" else None
            copy_to = found.get("copy_to", ())
            yield Field(
                path,
                kind,
                origin,
                nested,
                [copy_to] if isinstance(copy_to, str) else copy_to,
                found.get("path") if kind == "alias" else None,
                found.get("index", True) is not False,
            )
            yield from fields_of(found, f"{path}.", nested or kind == "nested", origin)


def choose_fields(index: str, mapping: dict[str, Any], names: Sequence[str]) -> ChosenFields:
    """Find the text of the fields that a user names.

    The text of an alias, a multi-field or the target of `copy_to` is in other fields of documents.
    Raises InputError if a field does not exist or holds no text that can be searched.
    """
    every = {found.path: found for found in fields_of(mapping)}
    texts: dict[str, None] = {}
    words: dict[str, None] = {}
    for name in names:
        found = text_field(index, every, name)
        origin = found.parent or found.path
        copied = [source.path for source in every.values() if origin in source.copy_to]
        texts |= dict.fromkeys([*copied, origin])
        if found.indexed:
            words[found.path] = None
    if not words:
        raise InputError(
            f"field {names[0]!r} of index {index} is not indexed, so no words are found in it; "
            f"{others(every)}"
        )
    return ChosenFields(list(texts), None if list(texts) == list(words) else list(words))


def text_field(index: str, every: Mapping[str, Field], name: str) -> Field:
    """The field of that name, or of which that is an alias; InputError if it cannot be encoded."""
    found, what = every.get(name), f"field {name!r} of index {index}"
    if found and found.alias_of:
        what = f"{what} is an alias of {found.alias_of!r}, which"
        found = every.get(found.alias_of)
    if found is None:
        flat = [path for path, field in every.items() if field.kind == "flat_object"]
        if around := next((path for path in flat if name.startswith(f"{path}.")), None):
            raise InputError(
                f"{what} is inside {around!r} of type flat_object, where no words are searched; "
                f"{others(every)}"
            )
        raise InputError(
            f"no field {name!r} in index {index}{nearest(name, encodable(every.values()))}; "
            f"{others(every)}"
        )
    parent = every[found.parent] if found.parent else None
    if found.nested:
        raise InputError(
            f"{what} is inside nested objects, where a search for words does not reach; name "
            f"another with --text-fields"
        )
    if found.kind in EMBEDDED:
        raise InputError(
            f"{what} is of type {found.kind}, which the engine searches with a model of its own; "
            f"{others(every)}"
        )
    if parent and parent.kind in TEXT_TYPES and found.kind not in ANALYZED:
        raise InputError(f"{what} is derived from {parent.path!r}; name that with --text-fields")
    if found.kind not in (ANALYZED if parent else TEXT_TYPES):
        raise InputError(f"{what} is of type {found.kind}, not text; {others(every)}")
    return found


def encodable(every: Iterable[Field]) -> list[str]:
    """Paths of the fields of documents that can be encoded."""
    return [
        found.path
        for found in every
        if found.kind in TEXT_TYPES and found.indexed and not found.parent and not found.nested
    ]


def others(every: Mapping[str, Field]) -> str:
    """What to do if a field cannot be encoded."""
    return f"name others with --text-fields (it has {listed(encodable(every.values()))})"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for a message."""
    shown = ", ".join(names[:most]) or "no text fields"
    return f"{shown}, ..." if len(names) > most else shown


def embedded_fields(mapping: dict[str, Any]) -> set[str]:
    """Paths of the fields that the engine searches with a model of its own, and their aliases."""
    every = list(fields_of(mapping))
    found = {one.path for one in every if one.kind in EMBEDDED}
    return found | {one.path for one in every if one.alias_of in found}


def origins_of(mapping: dict[str, Any]) -> dict[str, set[str]]:
    """Aliases and targets of `copy_to`, each with the fields whose text is searched in it.

    Without `embedded_fields`, in which no words are searched.
    """
    found: dict[str, set[str]] = {}
    embedded = embedded_fields(mapping)
    for one in fields_of(mapping):
        if one.alias_of:
            found[one.path] = {one.alias_of}
        if one.kind in TEXT_TYPES:
            for target in one.copy_to:
                found.setdefault(target, set()).add(one.path)
    return {name: sources for name, sources in found.items() if name not in embedded}


def with_same_text(
    fields: Collection[str], analyzed: Collection[str], origins: Mapping[str, Collection[str]]
) -> list[str]:
    """Names of the fields in which nothing but the text of some fields is searched, sorted.

    `analyzed` are all fields of the index in which words are searched, `origins` as `origins_of`.
    """
    found = set(fields)
    for _ in range(2):  # an alias may be one of a multi-field
        found |= {name for name, sources in origins.items() if found.issuperset(sources)}
        # Multi-fields of a field have its text, with other analyzers.
        found |= {name for name in analyzed if not found.isdisjoint(prefixes(name))}
    return sorted(found)


def prefixes(name: str) -> list[str]:
    """The names of the fields that a field may be inside: `a.b.c` → `a`, `a.b`."""
    return [name[:place] for place, sign in enumerate(name) if sign == "."]
