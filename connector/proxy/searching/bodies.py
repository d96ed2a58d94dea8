"""Bodies of searches: JSON, and what the URL says in the place of its parts."""

from __future__ import annotations

import json
from typing import Any

from latent_ingest.connector.proxy.searching.left_alone import LeftAlone
from latent_ingest.connector.querying.request import read_body

# Parameters of a `q=` search → options of the query that engines make of it.
QUERY_STRING = {
    "q": "query",
    "df": "default_field",
    "default_operator": "default_operator",
    "analyzer": "analyzer",
    "analyze_wildcard": "analyze_wildcard",
    "lenient": "lenient",
}

# Parameters that replace numbers of the body, so that the rewriter has to see them.
COUNTS = ("size", "from")


def parsed(content: bytes) -> Any:
    """Return the JSON of a body, as engines read it; raises LeftAlone."""
    try:
        return read_body(content.decode())
    except (ValueError, RecursionError) as error:
        raise LeftAlone("the body is not JSON") from error


def written(body: Any) -> bytes:
    """Return a body as JSON; raises LeftAlone if it holds a number that JSON has not."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise LeftAlone("the body has a number or a depth that JSON cannot hold") from error


def asked_body(body: object, given: dict[str, str]) -> dict[str, Any]:
    """Return a body with what the parameters of the URL say in the place of its parts.

    Raises:
        LeftAlone: the body is no object, or a parameter is not understood.
    """
    if not isinstance(body, dict):
        raise LeftAlone("the body is not an object")
    if "source" in given:
        raise LeftAlone("the body is in the URL")
    made: dict[str, Any] = {**body}
    if "q" in given:
        options = {QUERY_STRING[name]: given[name] for name in QUERY_STRING if name in given}
        made["query"] = {"query_string": options}
    for name in COUNTS:
        if name in given:
            if not (given[name].isascii() and given[name].isdigit()):
                raise LeftAlone(f"parameter {name} is not a number")
            made[name] = int(given[name])
    if "sort" in given:
        made["sort"] = [sorted_by(part) for part in given["sort"].split(",")]
    if "track_total_hits" in given:
        value = given["track_total_hits"]
        made["track_total_hits"] = int(value) if value.isdecimal() else value != "false"
    if "stored_fields" in given:
        made["stored_fields"] = given["stored_fields"].split(",")
    return made


def sorted_by(part: str) -> Any:
    """Return a part of `sort=` as a body has it."""
    field, colon, order = part.rpartition(":")
    return {field: {"order": order}} if colon else part
