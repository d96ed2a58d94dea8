"""The fields of indices: which hold words, and the text of which is in the latent field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.document_text import nearest
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.fields import ANALYZED, with_same_text
from latent_ingest.connector.querying.indices.asked_indices import raise_if_unanswered
from latent_ingest.mappings.template import METADATA_FIELDS

# The setting for clauses without fields, and its default.
DEFAULT_FIELD = "index.query.default_field"
EVERY_FIELD = ("*",)

# Types in which engines search for words; "prefix" is that of a part of `search_as_you_type`.
ANALYZED_PARTS = ANALYZED | {"prefix"}

NO_ORIGINS: Mapping[str, Collection[str]] = {}

# Most patterns whose fields are cached; an application uses a few.
MOST_PATTERNS = 1000


class IndexFields(dict[str, bool]):
    """The fields of an index: name → whether words are searched in it. Does not change."""

    def __init__(
        self,
        fields: Mapping[str, bool],
        default: Sequence[str] = EVERY_FIELD,
        origins: Mapping[str, Collection[str]] = NO_ORIGINS,
        by_meaning: str | None = None,
    ) -> None:
        super().__init__(fields)
        self.origins = origins
        """Aliases and targets of `copy_to` → the fields whose text is searched in each."""
        self.default = tuple(default)
        """Fields or patterns that a clause without fields searches."""
        self.by_meaning = by_meaning
        """The latent field, if an index has a question table; else None."""
        # Cached, since an index may have thousands of fields.
        self.matching = lru_cache(MOST_PATTERNS)(self._matching)

    def _matching(self, pattern: str) -> Sequence[str]:
        """Return the names that match a pattern."""
        return [name for name in self if fnmatchcase(name, pattern)]


def read_fields(
    client: OpenSearch,
    index: str,
    origins: Mapping[str, Collection[str]] = NO_ORIGINS,
    by_meaning: str | None = None,
    embedded: Collection[str] = (),
) -> IndexFields | None:
    """Return the fields of an index; None if the engine forbids it. Raises EngineError.

    Elasticsearch says that its `embedded` fields are text; no words are searched in them.
    """
    with engine_errors(client):
        try:
            found = client.field_caps(index=index, fields="*")["fields"]
        except TransportError as error:
            raise_if_unanswered(error)
            return None
    fields = {
        name: not ANALYZED_PARTS.isdisjoint(types) and name not in embedded
        for name, types in found.items()
        if name not in METADATA_FIELDS
    }
    return IndexFields(fields, read_default_fields(client, index), origins, by_meaning)


def read_default_fields(client: OpenSearch, index: str) -> Sequence[str]:
    """Return the fields that a clause without fields searches in all of the indices.

    It is the setting `index.query.default_field`; all fields if the engine forbids to read it.
    """
    with engine_errors(client):
        try:
            answer = client.indices.get_settings(
                index=index, name=DEFAULT_FIELD, flat_settings=True, include_defaults=True
            )
        except TransportError as error:
            raise_if_unanswered(error)
            return EVERY_FIELD
    common: list[str] | None = None
    for settings in answer.values():
        given = {**settings.get("defaults", {}), **settings["settings"]}.get(DEFAULT_FIELD, "*")
        fields = [given] if isinstance(given, str) else given
        common = fields if common is None else [name for name in common if name in fields]
    return EVERY_FIELD if common is None else common


def fed_fields(
    latent_field: str,
    fed: Sequence[str],
    known: IndexFields | None,
    wanted: Sequence[str] | Mapping[str, str] | None = None,
) -> Collection[str]:
    """Return the fields on which text clauses are rewritten: those that are wanted, or all.

    Raises:
        InputError: a wanted field is not in the index, or is mapped to another latent field.
    """
    if wanted is None:
        if known is None:
            return fed
        analyzed = [name for name, text in known.items() if text]
        same = with_same_text(fed, analyzed, known.origins)
        return dict.fromkeys([*fed, *(name for name in same if name in known)])
    if isinstance(wanted, str) or not wanted:
        raise InputError(f"fields {wanted!r}: give a list of names, or leave it out for all fields")
    for name in wanted:
        if known is not None and not known.get(name) and name not in fed:
            what = (
                "it is of another type than text"
                if name in known
                else "the index has no such field"
            )
            near = "" if name in known else nearest(name, known)
            raise InputError(
                f"field {name}: {what}{near}; the text of these is in {latent_field}: "
                f"{', '.join(dict.fromkeys(fed))}"
            )
        if isinstance(wanted, Mapping) and wanted[name] != latent_field:
            raise InputError(
                f"field {name}: no latent field {wanted[name]}; this index has {latent_field}"
            )
    return dict.fromkeys(wanted)
