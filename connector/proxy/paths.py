"""Paths of requests: what they ask for, and those that could be read in two ways.

A path is forwarded as it came. So what is allowed here is only what the engine reads alike.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

from latent_ingest.connector.document import unique_keys
from latent_ingest.connector.proxy.messages import Exchange, Refused

SEARCH, MULTI_SEARCH, TEMPLATE, MULTI_TEMPLATE, ASYNC_SEARCH = (
    "search",
    "msearch",
    "template",
    "msearch template",
    "async search",
)
DOCUMENT, UPDATE, BULK, OTHER = "document", "update", "bulk", "other"

# What follows the name of an index, or stands without one → kind of the request.
KINDS = {
    ("_search",): SEARCH,
    ("_msearch",): MULTI_SEARCH,
    ("_search", "template"): TEMPLATE,
    ("_msearch", "template"): MULTI_TEMPLATE,
    ("_async_search",): ASYNC_SEARCH,
    ("_plugins", "_asynchronous_search"): ASYNC_SEARCH,
    ("_bulk",): BULK,
}
# What may follow a type in older engines, of which `_doc` is one: `/papers/_doc/_search`.
OF_TYPES = {
    (name,)
    for name in (
        "_bulk",
        "_count",
        "_delete_by_query",
        "_mapping",
        "_mget",
        "_msearch",
        "_mtermvectors",
        "_search",
        "_termvectors",
        "_update_by_query",
        "_validate",
    )
}

SEARCHES = {SEARCH, MULTI_SEARCH, TEMPLATE, MULTI_TEMPLATE, ASYNC_SEARCH}

# Characters of a path; all others are percent-encoded in URLs, or mean something to a gateway.
PLAIN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%<>{}|^\[\]\"`/-]*")

# An encoded percent sign before what a second decoding would make a separator, dot or backslash.
TWICE = re.compile(r"%25(25)*(2e|2f|5c|00)", re.IGNORECASE)
NEVER = re.compile(r"%(5c|0[0-9a-f]|1[0-9a-f]|7f)|%(?![0-9a-f]{2})", re.IGNORECASE)

# Actions of indices that read only, by POST too.
READING = {
    "_async_search",
    "_asynchronous_search",
    "_count",
    "_explain",
    "_field_caps",
    "_mget",
    "_msearch",
    "_mtermvectors",
    "_pit",
    "_rank_eval",
    "_search",
    "_search_shards",
    "_termvectors",
    "_validate",
}
READING_ALONE = READING | {"_analyze", "_render"}

# Requests without an index in their path that may be asked where only some indices are served:
# those that name none, and those whose body does.
NAMED_BY_BODY = {
    ("_bulk",),
    ("_mget",),
    ("_msearch",),
    ("_msearch", "template"),
    ("_search",),
    ("_search", "template"),
}
WITHOUT_INDEX = NAMED_BY_BODY | {(), ("_cluster", "health"), ("_search", "point_in_time")}

# Characters of the names of one request: patterns are compared with each.
LONGEST_NAMES = 4096

# Parts of bodies and paths that hide a body in a text, which is not looked into.
HIDING = {"wrapper", "templates", "template_id"}

# Actions whose path names further indices or aliases.
NAMING = {"_alias", "_aliases", "_clone", "_rollover", "_shrink", "_split"}

# Keys of bodies whose strings are names of indices.
INDEX_KEYS = {"index", "_index", "indices", "new_index", "source_index", "target_index"}

# Actions that change something, or do work, by GET too.
DOING = {"_cache", "_flush", "_forcemerge", "_refresh", "_upgrade"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a path asks for."""

    kind: str
    index: str | None
    """The names of indices as they are written, decoded; None if the path has none."""
    rest: tuple[str, ...]
    """The parts after the index, decoded."""
    raw_rest: str
    """The path after the index, as it came."""


def read_path(path: str, method: str) -> Asked:
    """Return what a raw path asks for.

    Raises:
        Refused: an engine or a gateway could read the path in another way.
    """
    if not PLAIN.fullmatch(path) or NEVER.search(path) or TWICE.search(path):
        raise bad_path()
    raw = path[1:].removesuffix("/").split("/") if path != "/" else []
    parts = tuple(map(unquote, raw))
    for part, written in zip(parts, raw, strict=True):
        if part in ("", ".", "..") or "/../" in f"/{part}/" or "/./" in f"/{part}/":
            raise bad_path()
        if "\ufffd" in part and "%EF%BF%BD" not in written.upper():  # not UTF-8
            raise bad_path()
    if not parts:
        return Asked(OTHER, None, (), "/")
    if parts[0].startswith("_") and parts[0] != "_all":
        return Asked(kind_of(parts, method), None, parts, path)
    index, rest = parts[0], parts[1:]
    return Asked(kind_of(rest, method), index, rest, path[len(raw[0]) + 1 :])


def kind_of(rest: tuple[str, ...], method: str) -> str:
    """Return the kind of a request by what follows the index."""
    if rest in KINDS:
        kind = KINDS[rest]
        writes = kind == BULK
        known = method in (("POST", "PUT") if writes else ("GET", "POST"))
        return kind if known else OTHER
    if method in ("POST", "PUT") and rest:
        if len(rest) > 2 or rest[1:] in OF_TYPES:
            return OTHER
        if rest[0] in ("_doc", "_create"):
            return DOCUMENT
        if rest[0] == "_update" and len(rest) == 2 and method == "POST":
            return UPDATE
    return OTHER


def changes_indices(asked: Asked) -> bool:
    """Return whether a request may make an index or an alias mean something else."""
    return asked.rest[:1] in ((), ("_alias",), ("_aliases",), ("_mapping",), ("_open",))


def bad_path() -> Refused:
    """Return the refusal of a path that is not read in one way only."""
    return Refused(
        400,
        "illegal_argument_exception",
        "the path has parts that engines and gateways read differently ('..', a backslash, an "
        "empty part, or something encoded twice)",
    )


def check_reading(asked: Asked, method: str) -> None:
    """Raise Refused if a request may change something."""
    actions = [part for part in asked.rest if part.startswith("_")]
    first = asked.rest[0] if asked.rest else ""
    reads = (READING if asked.index else READING_ALONE) | (
        {"_plugins"} if "_asynchronous_search" in asked.rest else set()
    )
    if method in ("GET", "HEAD") and not DOING & set(actions):
        return
    if method == "POST" and first in reads and actions:
        return
    if method == "DELETE" and not asked.index and first in ("_search", "_pit", "_async_search"):
        return
    raise Refused(403, "security_exception", "this proxy is read-only (--read-only)")


class Allowed:
    """The indices that may be asked for, by patterns; everything if there are none."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        # A star of a pattern stands for no colon, which ends the name of another cluster.
        each = (re.escape(pattern).replace(r"\*", "[^:]*") for pattern in patterns)
        self._pattern = re.compile("|".join(each)) if patterns else None

    @property
    def all(self) -> bool:
        """Whether every index may be asked for."""
        return self._pattern is None

    def allows(self, names: str, clause: Any = None) -> bool:
        """Return whether these names are allowed, and those in a query clause."""
        try:
            self.check(names)
            self.check_value(clause)
        except Refused:
            return False
        return True

    def check(self, names: str) -> None:
        """Raise Refused unless all names, which may have stars themselves, are allowed."""
        if self._pattern is None:
            return
        if len(names) > LONGEST_NAMES:
            raise not_served("so many names")
        for name in names.split(","):
            # Names by date, `<papers-{now/d}>`, stand for any date.
            date = re.fullmatch(r"<([^<>]*)>", name)
            name = re.sub(r"\{.*\}", "*", date[1]) if date else name.removeprefix("-")
            if not self._pattern.fullmatch(name):
                raise not_served(f"index {name[:100]}")

    def check_path(self, asked: Asked, exchange: Exchange) -> None:
        """Raise Refused unless path and parameters name allowed indices alone."""
        if self._pattern is None:
            return
        given = exchange.parameters()
        if given is None or "source" in given:
            raise not_served("a parameter that is given twice, or a body in the URL")
        named = [name for name in (asked.index, given.get("index")) if name]
        for name in named:
            if "+" in exchange.path:  # a blank for some versions
                raise not_served("a name with a plus sign")
            self.check(name)
        if not named and asked.rest not in WITHOUT_INDEX and not is_scroll(asked):
            raise not_served("a request without the name of an index")
        templates = asked.kind in (TEMPLATE, MULTI_TEMPLATE)
        if "_rank_eval" in asked.rest or ("template" in asked.rest and not templates):
            raise not_served("a request whose template is not looked into")
        if asked.rest and asked.rest[0] in NAMING:
            for other in asked.rest[1:]:
                self.check(other)

    def check_body(self, asked: Asked, exchange: Exchange, content: bytes) -> None:
        """Raise Refused unless a body that searches names allowed indices alone."""
        if self._pattern is None or not content.strip():
            if self._pattern and asked.rest in NAMED_BY_BODY and not asked.index:
                self._check_named(asked, exchange, [{}])
            return
        if not exchange.is_json:
            raise not_served("a body that is not JSON")
        try:
            lines = content.split(b"\n") if b"ndjson" in exchange.raw_type else [content]
            if asked.kind in (MULTI_SEARCH, MULTI_TEMPLATE):
                lines = content.removesuffix(b"\n").split(b"\n")
            read = partial(json.loads, object_pairs_hook=unique_keys)
            values = [read(line) if line.strip() else {} for line in lines]
        except (ValueError, RecursionError) as error:
            raise not_served("a body that is not JSON") from error
        for value in values:
            self.check_value(value)
        if not asked.index:
            self._check_named(asked, exchange, values)

    def _check_named(self, asked: Asked, exchange: Exchange, values: list[Any]) -> None:
        """Raise Refused if a request without an index in its path names none in its body."""
        if (exchange.parameters() or {}).get("index"):
            return
        if asked.kind in (MULTI_SEARCH, MULTI_TEMPLATE):
            heads: list[Any] = values[::2]
            named = all(isinstance(head, dict) and head.get("index") for head in heads)
        elif asked.kind in SEARCHES:
            named = all(isinstance(body, dict) and body.get("pit") for body in values)
        else:
            named = True
        if not named:
            raise not_served("a search without the name of an index")

    def check_value(self, value: Any) -> None:
        """Raise Refused if some part of a body names an index that is not allowed."""
        if self._pattern is None:
            return
        waiting = [value]
        while waiting:
            part = waiting.pop()
            if isinstance(part, list):
                waiting += part
            elif isinstance(part, dict):
                waiting += part.values()
                if hiding := part.keys() & HIDING:
                    raise not_served(f"a body with {min(hiding)}")
                for key in part.keys() & INDEX_KEYS:
                    names = part[key] if isinstance(part[key], list) else [part[key]]
                    for name in names:
                        if isinstance(name, str):
                            self.check(name)

    def refuse_unread(self) -> None:
        """Raise Refused for a body that is too long to be looked at, if it has to be."""
        if self._pattern:
            raise not_served("a body that is too long to be looked at")


def is_scroll(asked: Asked) -> bool:
    """Return whether a request is for the next page of a scroll, or ends it."""
    return asked.rest[:2] == ("_search", "scroll") and "_all" not in asked.rest


def not_served(what: str) -> Refused:
    """Return the refusal of what `--allow-index` does not allow."""
    return Refused(403, "security_exception", f"this proxy does not serve {what} (--allow-index)")
