"""What an index says of the model it was made with: `_meta.latent_ingest` of its mapping."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.index.repair import put_back_unfinished
from latent_ingest.mappings import WORDS_FIELD, MappingConfig

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """The model and the mapping of an index."""

    model: str
    """What people call the model."""
    fingerprint: str
    """`ModelFingerprint.digest`: what must agree between index and query."""
    n_latents: int
    k: int
    pooling: str
    prompts: dict[str, str]
    scale: float
    spelling: str
    k1: float
    b: float
    latent_field: str
    text_fields: list[str]
    analyzer: str
    lean: bool
    version: str
    """Of this package, when the index was made."""
    long: str = "truncate"
    """What becomes of documents longer than the window; indices that do not say it cut them."""
    ids: str = "document"
    """Who makes `_id`."""
    id_field: str | None = None
    """Where the document's own id is, when the engine makes `_id`."""
    runs: int = 0
    """Ingests so far; see `Loading`."""
    hash_field: str | None = None
    """Where the hash of the encoded text is; none in indices made before there was one."""
    alias: str | None = None
    """The alias it is a version of; none for an index made on its own."""
    number: int | None = None
    """Of the version; later ones have greater numbers."""
    complete: bool | None = None
    """Whether the version has taken its alias."""
    source: str | None = None
    """Of a version that is a copy of an index: the engine's own name of that (`index_uuid`)."""
    source_written: int | None = None
    """How often that had been written to when the copy was begun."""
    source_blocked: bool | None = None
    """Whether the copy keeps writes from it, while the alias is moved."""
    replicas: int | None = None
    """Those it has when it is complete; it is built without."""
    loading: dict[str, Any] | None = None
    """While documents are loaded into it: settings that are put back then."""
    query_settings: dict[str, Any] | None = None
    """Defaults of `QueryRewriter` for this index, as `latent-ingest tune --apply` leaves them."""
    tuning: dict[str, Any] | None = None
    """While it is tuned: what has to be put back; see `index.repair`."""

    @classmethod
    def of(cls, encoder: LatentEncoder, mapping: MappingConfig) -> IndexMeta:
        """The meta of an index about to be made."""
        return cls(
            model=encoder.name,
            fingerprint=encoder.fingerprint.digest,
            n_latents=encoder.n_latents,
            k=encoder.k,
            pooling=encoder.pooling,
            prompts=encoder.backbone.prompts,
            scale=mapping.scale,
            spelling=mapping.spelling,
            k1=mapping.k1,
            b=mapping.b,
            latent_field=mapping.latent_field,
            text_fields=list(mapping.text_fields),
            analyzer=mapping.analyzer,
            lean=mapping.lean,
            version=version("latent-ingest"),
            long=mapping.long,
            hash_field=mapping.hash_field,
            ids=mapping.ids,
            id_field=mapping.id_field,
        )

    @classmethod
    def read(cls, client: OpenSearch, index: str) -> IndexMeta | None:
        """The meta of an index, or none where there is no such index; raises as `find`."""
        found = cls.find(client, index)
        return found[1] if found else None

    @classmethod
    def find(cls, client: OpenSearch, index: str) -> tuple[str, IndexMeta] | None:
        """The index that a name, which may be an alias, stands for now, and its meta.

        Raises:
            MismatchError: the index is not one of ours, or `index` names several.
            EngineError: the engine cannot be asked.
        """
        found = mapping_of(client, index)
        if found is None:
            return None
        name, mapping = found
        answer = put_back_unfinished(client, {name: {"mappings": mapping}})
        return name, cls.from_mapping(name, answer[name]["mappings"])

    @classmethod
    def from_mapping(cls, name: str, mapping: dict[str, Any]) -> IndexMeta:
        """The meta in the mapping of index `name`; raises MismatchError as `from_stored`."""
        return cls.from_stored(name, stored_meta(mapping))

    @classmethod
    def from_stored(cls, name: str, stored: object) -> IndexMeta:
        """Of what the mapping of index `name` holds; raises MismatchError where it is not ours."""
        if not isinstance(stored, dict):
            raise MismatchError(
                f"index {name} has no latent terms (no _meta.latent_ingest in its mapping); "
                f"add them with 'latent-ingest enrich --index {name}', or ingest into another "
                f"with --index"
            )
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if missing := required - stored.keys():
            raise MismatchError(
                f"index {name} was made by another version of latent-ingest: its "
                f"_meta.latent_ingest lacks {', '.join(sorted(missing))}; ingest into a new index, "
                f"or copy the documents to one without that _meta and add the terms with "
                f"'latent-ingest enrich'"
            )
        known = {field.name for field in fields(cls)}
        return cls(**{name: stored[name] for name in known & stored.keys()})

    @property
    def own_fields(self) -> set[str]:
        """Fields of a document that are written here, so that a corpus cannot have them."""
        return {name for name in (self.latent_field, self.hash_field, self.id_field) if name}

    @property
    def words_fields(self) -> list[str]:
        """Where the words are: in the field for them, or in the index's own text fields."""
        return [WORDS_FIELD] if self.analyzer else self.text_fields

    @property
    def mapping(self) -> MappingConfig:
        """The mapping the index was made with."""
        return MappingConfig(
            spelling=self.spelling,
            scale=self.scale,
            latent_field=self.latent_field,
            text_fields=tuple(self.text_fields),
            analyzer=self.analyzer,
            lean=self.lean,
            long=self.long,
            ids=self.ids,
        )

    def check(self, encoder: LatentEncoder, index: str) -> None:
        """Raise MismatchError unless the index was made with this encoder's model."""
        if self.fingerprint != encoder.fingerprint.digest:
            raise MismatchError(
                f"index {index} was made by model {self.model} ({self.fingerprint}), this is "
                f"{encoder.name} ({encoder.fingerprint.digest}); use --model with that one, "
                f"or ingest into another index"
            )

    def to_json(self) -> dict[str, Any]:
        """What is stored."""
        return asdict(self)


def mapping_of(client: OpenSearch, name: str) -> tuple[str, dict[str, Any]] | None:
    """The own name and the mapping of the index that a name or alias stands for; None if none.

    Raises:
        MismatchError: the name stands for several indices.
        EngineError: the engine cannot be asked.
    """
    with engine_errors(client):
        try:
            answer = client.indices.get_mapping(index=name)
        except NotFoundError:
            return None
    if len(answer) != 1:
        raise MismatchError(f"{name}: {len(answer)} indices ({', '.join(answer)}); name one")
    ((own_name, found),) = answer.items()
    return own_name, found["mappings"]


def stored_meta(mapping: dict[str, Any]) -> Any:
    """`_meta.latent_ingest` of a mapping, as it is stored; None if the mapping has none."""
    return mapping.get("_meta", {}).get("latent_ingest")


def with_meta(mapping: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """`_meta` of a mapping with another `latent_ingest`: the engine replaces `_meta` as a whole."""
    return {**mapping.get("_meta", {}), "latent_ingest": stored}
