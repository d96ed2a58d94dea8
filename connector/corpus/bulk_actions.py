"""Files for the bulk API: a line with an action, then one with the document."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

from latent_ingest.connector.corpus_file import CorpusFile, Line

# Keys of what is in an action.
ACTIONS = {"index", "create", "update", "delete"}
KEYS = {
    "_id", "_index", "_type", "routing", "_routing", "pipeline", "version", "version_type",
    "if_seq_no", "if_primary_term", "require_alias", "retry_on_conflict", "dynamic_templates",
}  # fmt: skip

# What lines must begin with to be read as an action.
START = re.compile(rb'\s*\{\s*"(?:index|create|update|delete)"\s*:')

REFUSED = {
    "delete": "a delete action, and ingest only adds documents; leave it out, and delete the "
    "document from the index",
    "update": "an update action, which holds only a part of a document; write the whole document "
    "with an index action",
}

log = logging.getLogger(__name__)


def read(file: CorpusFile) -> Iterator[Line]:
    """The documents with the id of their action as `_id`, numbered by their own lines.

    Other parts of an action do not count. Actions that are not kept are lines with a problem.
    """
    action: Line | None = None
    target: dict[str, Any] = {}
    problem: str | None = None
    said_routing = False
    for line in file:
        if not line.content.strip():
            continue
        found = parse_action(line.content)
        if found is not None:
            if action:
                yield without_document(action)
            action, problem = line, REFUSED.get(found[0])
            target = found[1]
            if found[0] == "delete":
                yield Line(line.number, line.content, problem)
                action = None
            if not said_routing and target.keys() & {"routing", "_routing"}:
                said_routing = True
                log.warning(
                    "%s: line %d: the routing of actions is not kept", file.name, line.number
                )
        elif action is None:
            reason = 'no action before it, such as {"index": {"_id": "1"}}; add one'
            yield Line(line.number, line.content, reason)
        else:
            yield Line(line.number, with_id(line.content, target.get("_id")), problem)
            action = None
    if action:
        yield without_document(action)


def parse_action(content: bytes) -> tuple[str, dict[str, Any]] | None:
    """Name of an action, and what is in it; None if a line holds none."""
    if not START.match(content):
        return None
    try:
        fields = json.loads(content)
    except ValueError:
        return None
    if not isinstance(fields, dict) or len(fields) != 1:
        return None
    ((name, target),) = fields.items()
    known = name in ACTIONS and isinstance(target, dict) and KEYS.issuperset(target)
    return (name, target) if known else None


def with_id(content: bytes, identifier: Any) -> bytes:
    """The document with the id at its start; as it is if it has none, or is no object."""
    inside = content.lstrip()
    if identifier is None or not inside.startswith(b"{"):
        return content
    comma = b"" if inside[1:].lstrip().startswith(b"}") else b", "
    return b'{"_id": ' + json.dumps(identifier).encode() + comma + inside[1:]


def without_document(action: Line) -> Line:
    """An action that no document follows."""
    return Line(action.number, action.content, "an action without a document after it; add it")
