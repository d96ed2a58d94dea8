"""Creation of an index, and what index templates of the engine make of it.

The engine mixes each template that matches the name into a new index. So the new index is read back
and compared; one that cannot work is removed again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import (
    NotFoundError,
    OpenSearchException,
    RequestError,
    TransportError,
)

from latent_ingest.connector.engine.blocks import PREPARING
from latent_ingest.connector.engine.client import engine_errors, reason_of
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta, mappings_of, missing_source, stored_meta
from latent_ingest.mappings import WORDS_FIELD, MappingConfig, index_body, question_analysis

# Settings that belong to one index and not to another that is made like it.
ITS_OWN = (
    "index.blocks.",
    "index.creation_date",
    "index.provided_name",
    "index.resize.",
    "index.routing.allocation.initial_recovery.",
    "index.uuid",
    "index.verified_before_close",
    "index.version.",
)

# Settings under which the engine refuses documents with ids, or takes none.
UNUSABLE = ("index.append_only.enabled", *(f"index.blocks.{block}" for block in PREPARING))

# Status code of requests that are larger than the engine takes.
TOO_LARGE = 413

# Type of the error for an index that is there already.
EXISTS = "resource_already_exists_exception"

# Beginnings of the settings of a question table.
QUESTION_SETTINGS = tuple(
    f"index.analysis.{kind}.{name}."
    for kind, parts in question_analysis("", [], []).items()
    for name in parts
)

log = logging.getLogger(__name__)


def create(client: OpenSearch, name: str, body: dict[str, Any], meta: IndexMeta) -> None:
    """Create an index that fits its meta; logs what templates have made of the rest.

    Raises InputError if the engine refuses, or a template makes the index unusable: then there is
    none.
    """
    with engine_errors(client):
        try:
            client.indices.create(index=name, body=body)
        except RequestError as error:
            # A request that was not answered in time may have been carried out.
            if error.error != EXISTS or not has_meta(client, name, meta):
                reason = f"index {name} cannot be created: {refusal(error)}"
                templates = matching(client, name)
                reason = f"{reason} ({templates} applies)" if templates else reason
                raise InputError(reason) from error
        except TransportError as error:
            if error.status_code != TOO_LARGE or not meta.questions:
                raise
            raise InputError(too_large(name, meta)) from error
        try:
            (found,) = client.indices.get(index=name, flat_settings=True).values()
            problem = unusable(found, body, meta)
        except TransportError as error:
            if error.error == "cluster_block_exception":
                problem = "index.blocks.metadata"
            elif error.status_code == 403:
                log.info("index %s cannot be read back: %s", name, reason_of(error))
                return
            else:
                raise
    changed = [] if problem else list(effects(found["mappings"], body, meta))
    alias_given = not problem and meta.alias in found["aliases"]
    if not (problem or changed or alias_given):
        return
    templates = matching(client, name) or "an index template"
    if problem:
        discard(client, name)
        raise InputError(
            f"index {name} cannot hold latent terms, since {templates} gives it {problem}; change "
            f"the template, or choose a name that it does not match"
        )
    for effect in changed:
        log.warning("index %s: %s (from %s)", name, effect, templates)
    if alias_given:
        with engine_errors(client):
            client.indices.delete_alias(index=name, name=meta.alias)
        log.warning(
            "%s gives %s the alias %s at once; it was taken away, since an alias is moved once the "
            "index is complete",
            templates,
            name,
            meta.alias,
        )


def too_large(name: str, meta: IndexMeta) -> str:
    """The line for an engine that takes no request of the size of the question table."""
    words = meta.questions["words"] if meta.questions else 0
    return (
        f"index {name} cannot get its question table of {words:,} words: the engine takes no "
        f"request so large (http.max_content_length); use fewer words (--question-words), or no "
        f"table (--no-questions)"
    )


def has_meta(client: OpenSearch, name: str, meta: IndexMeta) -> bool:
    """Whether an index has exactly this meta; raises EngineError."""
    found = mappings_of(client, name).get(name, {})
    return bool(stored_meta(found) == json.loads(json.dumps(meta.to_json())))


def unusable(found: dict[str, Any], body: dict[str, Any], meta: IndexMeta) -> str | None:
    """What keeps a new index from holding latent terms; None if it can."""
    settings, mapping = found["settings"], found["mappings"]
    for name in UNUSABLE:
        if str(settings.get(name)).lower() == "true":
            return name
    if mapping.get("_routing", {}).get("required"):
        return "a mapping that requires _routing"
    if mapping.get("_source", {}).get("enabled", True) is False:
        return "a mapping that disables _source"
    wanted = latent_settings(meta.mapping)
    groups = tuple({name.rpartition(".")[0] + "." for name in wanted})
    for name in sorted({*wanted, *(name for name in settings if name.startswith(groups))}):
        if str(settings.get(name)) != str(wanted.get(name)):
            return f"{name} {settings.get(name)!r} instead of {wanted.get(name)!r}"
    for name in sorted(meta.own_fields):
        if different := other_parameters(mapping, body, name):
            return f"the field {name} with {different}"
    return None


def effects(mapping: dict[str, Any], body: dict[str, Any], meta: IndexMeta) -> Iterator[str]:
    """What else a new index does otherwise than asked, and what that means."""
    if (gap := missing_source(mapping, meta)) and not missing_source(body["mappings"], meta):
        yield f"{gap}, so 'verify' and 'enrich' refuse it, and hits lack what is left out"
    dynamic = str(mapping.get("dynamic", "true"))
    if dynamic.startswith("strict") and dynamic != body["mappings"].get("dynamic"):
        yield "documents with other fields than its mapping has will be refused (dynamic: strict)"
    for name in (WORDS_FIELD, *meta.text_fields):
        if different := other_parameters(mapping, body, name):
            yield f"the field {name} has {different}, so words may be found otherwise"


def other_parameters(mapping: dict[str, Any], body: dict[str, Any], name: str) -> str | None:
    """Parameters of a field that differ from those asked for; None if none do."""
    wanted = body["mappings"]["properties"].get(name)
    if wanted is None:
        return None
    found = mapping["properties"].get(name, {})
    different = [
        f"{key} {found.get(key)}"
        for key in sorted((found.keys() | wanted.keys()) - {"fields"})
        if found.get(key) != wanted.get(key) and found.get(key) != [wanted.get(key)]
    ]
    return ", ".join(different) or None


def matching(client: OpenSearch, name: str) -> str | None:
    """The templates that the engine applies to a new index of this name; None if unknown."""
    with suppress(OpenSearchException):
        found: dict[str, Any] = {}
        with suppress(NotFoundError, RequestError):  # engines before 7.9
            for one in client.indices.get_index_template()["index_templates"]:
                found[one["name"]] = one["index_template"]
        fitting = [one for one in found if matches(found[one], name)]
        if fitting:
            first = max(fitting, key=lambda one: found[one].get("priority", 0))
            return f"index template {first!r}"
        found = client.indices.get_template()
        if fitting := [repr(one) for one in sorted(found) if matches(found[one], name)]:
            return f"index template {' and '.join(fitting)}"
    return None


def matches(template: dict[str, Any], name: str) -> bool:
    """Whether a template is for an index of this name."""
    return any(fnmatchcase(name, pattern) for pattern in template["index_patterns"])


def discard(client: OpenSearch, name: str) -> None:
    """Delete an index that was just made, also if it is blocked."""
    index = Index(client, name)
    for block in PREPARING:  # each alone: the engine lets a blocked index take no other setting
        with suppress(EngineError):
            index.put_settings({f"index.blocks.{block}": None})
    with engine_errors(client):
        client.indices.delete(index=name, ignore=404)


def latent_settings(mapping: MappingConfig) -> dict[str, Any]:
    """Flat settings that the latent field's mapping refers to: its analyzer and similarity."""
    settings = index_body(mapping, {})["settings"]
    needed = {"similarity": settings["index"]["similarity"], "analysis": settings["analysis"]}
    return dict(flat({"index": needed}))


def question_settings(analysis: dict[str, Any]) -> dict[str, Any]:
    """Flat settings of `StoredTable.analysis`."""
    return dict(flat({"index": {"analysis": analysis}}))


def flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"a": {"b": 1}}` → `("a.b", 1)`."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def refusal(error: RequestError) -> str:
    """The engine's reason for refusing settings or a mapping, with the fix where it is known."""
    reason = reason_of(error)
    hint = "; this engine needs --spelling repeat" if "delimited_term_freq" in reason else ""
    return f"{reason}{hint}"
