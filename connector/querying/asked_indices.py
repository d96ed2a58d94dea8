"""The indices that a name stands for now, and whether one model can ask them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, TransportError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.repair import warn_if_left

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# What all indices of one search must have alike, since it is one request, whose scores are
# compared.
ALIKE = ("fingerprint", "spelling", "scale", "k1", "b", "latent_field")

# Longest list of names that goes into the address of a request, which engines limit to 4,096 bytes.
LONGEST_ADDRESS = 3000


@dataclass(frozen=True, slots=True)
class AskedIndices:
    """What a name, an alias, a pattern or a list of them with commas stands for."""

    name: str
    """As it was given."""
    metas: Mapping[str, IndexMeta]
    """By the indices' own names, in their order."""
    limited: bool
    """Whether the name is an alias with a filter or a routing, which the index itself has not."""

    @classmethod
    def read(cls, client: OpenSearch, name: str) -> AskedIndices:
        """Ask the engine.

        Raises:
            MismatchError: no such index; or one is not ours, has lost its latent field, or cannot
                be asked together with the others.
            EngineError: the engine cannot be asked.
        """
        with engine_errors(client):
            try:
                answer = client.indices.get_mapping(index=name)
            except NotFoundError as error:
                raise nothing(missing_in(error) or name) from error
            if not answer:
                raise nothing(name)
            limited = is_limited(client, name)
        mappings = {index: answer[index]["mappings"] for index in sorted(answer)}
        for index, mapping in mappings.items():
            warn_if_left(index, mapping)
        metas = {index: meta_of(index, mapping) for index, mapping in mappings.items()}
        return cls(name, metas, limited)

    @property
    def target(self) -> str:
        """Where a search is sent: the indices by their own names, which no alias moves.

        The name as given where it stands for more than the indices, or for too many.
        """
        names = ",".join(self.metas)
        return self.name if self.limited or len(names) > LONGEST_ADDRESS else names

    @property
    def meta(self) -> IndexMeta:
        """What a request is made by: that of the first, and the text fields of all.

        Query settings count where all have the same.
        """
        first, *others = self.metas.values()
        alike = all(meta.query_settings == first.query_settings for meta in others)
        text_fields = dict.fromkeys(
            [*first.text_fields, *(f for m in others for f in m.text_fields)]
        )
        return replace(
            first,
            text_fields=list(text_fields),
            query_settings=first.query_settings if alike else None,
        )

    @property
    def words_fields(self) -> list[str]:
        """Those of all."""
        return list(dict.fromkeys(f for meta in self.metas.values() for f in meta.words_fields))

    def check(self, encoder: LatentEncoder) -> None:
        """Raise MismatchError, naming the index, if one was made by another model than this."""
        for name, meta in self.metas.items():
            meta.check(encoder, name)

    def check_alike(self) -> None:
        """Raise MismatchError, naming the index, if one cannot be asked together with the first."""
        first, *others = self.metas
        for name in others:
            for what, value, expected in differences(self.metas[name], self.metas[first]):
                raise MismatchError(
                    f"index {name} has {what} {value} and {first} has {expected}, so {self.name} "
                    f"cannot be searched as one; name indices that agree, or ingest one of them "
                    f"anew"
                )

    def same_as(self, other: AskedIndices | None) -> bool:
        """Whether a request for the one is a request for the other."""
        return other is not None and self._key() == other._key()

    def _key(self) -> Any:
        parts = (*ALIKE, "long", "text_fields", "analyzer", "query_settings")
        metas = [[n, *(getattr(m, part) for part in parts)] for n, m in self.metas.items()]
        return self.name, self.limited, metas


def differences(meta: IndexMeta, other: IndexMeta) -> list[tuple[str, object, object]]:
    """What of `ALIKE` is not: what, and the two values."""
    found = [
        (part.replace("fingerprint", "model"), getattr(meta, part), getattr(other, part))
        for part in ALIKE
        if getattr(meta, part) != getattr(other, part)
    ]
    if "chunks" in {meta.long, other.long} and meta.long != other.long:
        found.append(("--long", meta.long, other.long))
    return found


def meta_of(index: str, mapping: dict[str, Any]) -> IndexMeta:
    """Of one index; raises MismatchError where it is not ours, or has lost its latent field."""
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
    """Whether aliases in `name` have a filter or a routing; yes where we cannot know."""
    try:
        answer = client.indices.get_alias(index=name)
    except TransportError as error:
        if not isinstance(error.status_code, int):  # nothing answers
            raise
        return True
    return any(
        bool(settings.keys() & {"filter", "index_routing", "search_routing"})
        for content in answer.values()
        for alias, settings in content["aliases"].items()
        if any(fnmatchcase(alias, part) for part in name.split(","))
    )


def missing_in(error: NotFoundError) -> str | None:
    """The index that the engine did not find."""
    detail = error.info.get("error") if isinstance(error.info, dict) else None
    index = detail.get("index") if isinstance(detail, dict) else None
    return index if isinstance(index, str) else None


def nothing(name: str) -> MismatchError:
    return MismatchError(
        f"no index or alias {name}; make it with 'latent-ingest FILE --index {name}'"
    )
