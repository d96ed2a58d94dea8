"""The indices that a name stands for, and the ids of their documents."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException, NotFoundError, TransportError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.index.fields import embedded_fields, origins_of
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.repair import warn_if_left
from latent_ingest.connector.questions.engine_table import EngineTable
from latent_ingest.connector.questions.question_analyzer import RULES
from latent_ingest.connector.questions.stored_table import StoredTable

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.questions.question_table import QuestionTable

# Settings on which all indices of one search must agree: one request is sent to all of them, and
# their scores are compared.
ALIKE = ("fingerprint", "spelling", "scale", "k1", "b", "latent_field")

# Longest list of names to put into the URL of a request, which engines limit to 4,096 bytes.
LONGEST_URL = 3000

# Most question tables of one search, some megabytes each.
MOST_TABLES = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AskedIndices:
    """The indices of a name, an alias, a pattern, or several of these with commas."""

    name: str
    """The name as given."""
    metas: Mapping[str, IndexMeta]
    """Index name → its meta, sorted by name."""
    limited: bool
    """Whether the name is an alias with a filter or routing, which the index itself lacks."""
    origins: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Aliases of fields and targets of `copy_to` → the fields whose text is searched in each."""
    embedded: Collection[str] = ()
    """Fields that the engine searches with a model of its own, such as `semantic_text`."""

    @classmethod
    def read(cls, client: OpenSearch, name: str) -> AskedIndices:
        """Read the mappings of the indices.

        Raises:
            MismatchError: an index does not exist, was not made by latent-ingest, or has lost its
                latent field.
            EngineError: the engine cannot be reached, or refuses.
        """
        with engine_errors(client):
            try:
                answer = client.indices.get_mapping(index=name)
            except NotFoundError as error:
                raise no_index(name, error.info) from error
            if not answer:
                raise no_index(name)
            limited = is_limited(client, name)
        mappings = {index: answer[index]["mappings"] for index in sorted(answer)}
        for index, mapping in mappings.items():
            warn_if_left(index, mapping)
        metas = {index: meta_of(index, mapping) for index, mapping in mappings.items()}
        origins: dict[str, set[str]] = {}
        for mapping in mappings.values():
            for target, sources in origins_of(mapping).items():
                origins.setdefault(target, set()).update(sources)
        embedded = set().union(*map(embedded_fields, mappings.values()))
        return cls(name, metas, limited, origins, embedded)

    @property
    def target(self) -> str:
        """The name to search: the indices by their own names, which do not move as an alias does.

        The name as given if it is limited, or if the names are too long for a URL.
        """
        names = ",".join(self.metas)
        return self.name if self.limited or len(names) > LONGEST_URL else names

    @property
    def meta(self) -> IndexMeta:
        """The meta by which requests are made: that of the first index, with all text fields.

        Its query settings are those of all indices; None if they differ.
        """
        first, *others = self.metas.values()
        alike = all(meta.query_settings == first.query_settings for meta in others)
        text_fields = dict.fromkeys(f for meta in self.metas.values() for f in meta.text_fields)
        settings = first.query_settings if alike else None
        return replace(first, text_fields=list(text_fields), query_settings=settings)

    @property
    def words_fields(self) -> list[str]:
        """The words fields of all indices."""
        return list(dict.fromkeys(f for meta in self.metas.values() for f in meta.words_fields))

    def check(self, encoder: LatentEncoder | QuestionTable) -> None:
        """Raise MismatchError, naming the index, if one was made by another model."""
        for name, meta in self.metas.items():
            meta.check(encoder, name)

    def check_alike(self) -> None:
        """Raise MismatchError, naming the index, if one disagrees with the first."""
        first, *others = self.metas
        for name, part in product(others, (*ALIKE, "long")):
            value, expected = (getattr(self.metas[index], part) for index in (name, first))
            # Indices that pool and that truncate have one document per text alike.
            if value == expected or (part == "long" and "chunks" not in (value, expected)):
                continue
            what = {"fingerprint": "model", "long": "--long"}.get(part, part)
            raise MismatchError(
                f"index {name} has {what} {value} and {first} has {expected}, so {self.name} "
                f"cannot be searched as one; name indices that agree, or ingest one of them again"
            )

    @property
    def by_meaning(self) -> str | None:
        """The latent field, if an index has a question table, by which words find in it."""
        tables = any(meta.questions for meta in self.metas.values())
        return self.meta.latent_field if tables else None

    def question_table(
        self, client: OpenSearch, *, ask: bool = False
    ) -> StoredTable | EngineTable | None:
        """Return the words of the question tables of all indices; None if none has one.

        A login that may not read settings gets none. With `ask`, tables are not read: the engine
        looks words up, if the login may ask it.

        Raises:
            MismatchError: a table was made by another model, or is not the one of which the meta
                tells.
            EngineError: the engine cannot be reached, or refuses.
        """
        notes = self._question_notes()
        if not notes:
            return None
        if ask:
            asking = EngineTable(client, self.meta.model, notes)
            if asking.allowed():
                return asking
        tables = []
        for name, note in notes.items():
            with engine_errors(client):
                try:
                    answer = client.indices.get_settings(index=name, name=RULES, flat_settings=True)
                except AuthorizationException:
                    log.warning(
                        "this login may not read the settings of index %s, so questions are "
                        "encoded by the table of the model folder",
                        name,
                    )
                    return None
            settings = answer[name]["settings"] if name in answer else {}
            tables.append(StoredTable.from_index(name, note, self.metas[name].model, settings))
        found = [table for table in tables if table]
        return StoredTable.joined(found) if found else None

    def _question_notes(self) -> dict[str, dict[str, Any]]:
        """Index → `IndexMeta.questions`, of each table once, and of few of them."""
        notes: dict[str, dict[str, Any]] = {}
        for name, meta in self.metas.items():
            note = meta.questions
            if note and note["fingerprint"] != meta.fingerprint:
                raise MismatchError(
                    f"the question table of index {name} was made by another model "
                    f"({note['fingerprint']}) than the index ({meta.fingerprint}); make it "
                    f"again with 'latent-ingest questions --index {name}'"
                )
            if note and note["digest"] not in {known["digest"] for known in notes.values()}:
                notes[name] = note
        if len(notes) > MOST_TABLES:
            log.warning(
                "%s has %d question tables, of which the first %d are used",
                self.name,
                len(notes),
                MOST_TABLES,
            )
        return dict(islice(notes.items(), MOST_TABLES))

    @property
    def key(self) -> object:
        """A value that is equal for indices for which the same requests are valid."""
        parts = (*ALIKE, "long", "text_fields", "words", "analyzer", "query_settings", "questions")
        metas = {name: [getattr(meta, part) for part in parts] for name, meta in self.metas.items()}
        return self.limited, metas


def meta_of(index: str, mapping: dict[str, Any]) -> IndexMeta:
    """Return the meta in a mapping; raises as `AskedIndices.read`."""
    meta = IndexMeta.from_mapping(index, mapping)
    fields = mapping
    for part in meta.latent_field.split("."):
        fields = fields.get("properties", {}).get(part, {})
    if not fields:
        raise MismatchError(
            f"index {index} has no field {meta.latent_field}, though its _meta.latent_ingest names "
            f"it; ingest into a new index, or copy the documents to one without that _meta and add "
            f"the terms with 'latent-ingest enrich'"
        )
    return meta


def is_limited(client: OpenSearch, name: str) -> bool:
    """Return whether an alias in `name` has a filter or routing; True if it cannot be read."""
    try:
        answer = client.indices.get_alias(index=name)
    except TransportError as error:
        raise_if_unanswered(error)
        return True
    return any(
        settings.keys() & {"filter", "index_routing", "search_routing"}
        for content in answer.values()
        for alias, settings in content["aliases"].items()
        if any(fnmatchcase(alias, part) for part in name.split(","))
    )


def raise_if_unanswered(error: TransportError) -> None:
    """Raise a client's error unless the engine has answered, as when it forbids a request."""
    if not isinstance(error.status_code, int):
        raise error


def no_index(name: str, info: object = None) -> MismatchError:
    """Return the error for a name without an index; `info` is the engine's answer, if any."""
    detail = info.get("error") if isinstance(info, dict) else None
    name = detail.get("index", name) if isinstance(detail, dict) else name
    return MismatchError(
        f"no index or alias {name}; make it with 'latent-ingest FILE --index {name}'"
    )


def show_own_ids(client: OpenSearch, index: str, hits: Sequence[dict[str, Any]]) -> None:
    """Replace `_id` of hits by the document's own id, in indices whose `_id` the engine makes.

    Raises as `AskedIndices.read`.
    """
    metas = AskedIndices.read(client, index).metas
    for hit in hits:
        meta = metas.get(hit["_index"])
        if meta and meta.id_field:
            hit["_id"] = hit["_source"].get(meta.id_field, hit["_id"])


def engine_id(client: OpenSearch, index: str, identifier: str) -> str:
    """Return the `_id` of the document with this own id, or `identifier` if there is none.

    Raises as `AskedIndices.read`.
    """
    for name, meta in AskedIndices.read(client, index).metas.items():
        if meta.id_field:
            query = {"term": {meta.id_field: identifier}}
            with engine_errors(client):
                found = client.search(
                    index=name, body={"query": query, "size": 1, "_source": False}
                )
            for hit in found["hits"]["hits"]:
                return str(hit["_id"])
    return identifier
