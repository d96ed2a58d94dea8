"""Index meta: the model and the mapping an index was made with, in its `_meta.latent_ingest`."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError

from latent_ingest.connector.engine.adapter import Client, adapted
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.questions.stored_table import INDEX
from latent_ingest.mappings import WORDS_FIELD, MappingConfig

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.questions.question_table import QuestionTable
    from latent_ingest.connector.questions.stored_table import StoredTable


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """The index meta: model, mapping, and the state of runs, versions and tuning."""

    model: str
    """Name of the model, for people."""
    fingerprint: str
    """`ModelFingerprint.digest`; index and query must have the same."""
    n_latents: int
    """Number of the autoencoder's latents."""
    k: int
    """Active latents per token."""
    pooling: str
    """How activations of a text's tokens are pooled."""
    prompts: dict[str, str]
    """Prompts of the backbone, by kind of text."""
    scale: float
    """Factor of weights before they are rounded to counts."""
    spelling: str
    """"repeat" or "delimited"."""
    k1: float
    """BM25's k1 of the latent field."""
    b: float
    """BM25's b of the latent field."""
    latent_field: str
    """Name of the field of latent terms."""
    text_fields: list[str]
    """Names of the fields that are encoded."""
    analyzer: str
    """Analyzer of the words field; empty if words are searched in the text fields."""
    lean: bool
    """Whether `_source` leaves out the latent field."""
    version: str
    """Version of this package that made the index."""
    long: str = "truncate"
    """"pool", "chunks" or "truncate": how documents longer than the backbone window are indexed.
    Indices that do not say it truncate."""
    ids: str = "document"
    """"document" or "engine": who makes `_id`."""
    id_field: str | None = None
    """Name of the field with the document's own id, if the engine makes `_id`."""
    sample: int | None = None
    """Number of documents that the latest ingest read at most; None if it read all."""
    runs: int = 0
    """Number of the latest ingest; see `Loading`."""
    words: list[str] | None = None
    """Names of the fields that are searched by words, if they are not the text fields: in an index
    that was enriched by names of sub-fields or of targets of `copy_to`."""
    hash_field: str | None = None
    """Name of the hash field; None in indices made before hashes were stored."""
    alias: str | None = None
    """The alias this index is a version of; None for an index made without --alias."""
    number: int | None = None
    """Number of the version; later versions have greater numbers."""
    complete: bool | None = None
    """Whether the version has taken its alias."""
    source: str | None = None
    """If the version is a copy: UUID of the index it was copied from."""
    source_written: int | None = None
    """Write counter (`Index.writes`) of the source index when the copy started."""
    source_blocked: bool | None = None
    """Whether writes to the source index are blocked while the alias moves to this copy."""
    shards: dict[str, Any] | None = None
    """While shards of a corpus load the index, and in a version that they have completed: `of`, the
    number of shards, `files`, a digest of the files, and `done`, the number of documents of each
    shard that is in, by its number; see `ShardedLoad`."""
    replicas: int | None = None
    """Number of replicas once the version is complete; it is built without."""
    final_pipeline: str | None = None
    """If the version is a copy: the final pipeline it gets once it is complete; until then it has
    none."""
    loading: dict[str, Any] | None = None
    """While documents are loaded: settings to restore afterwards."""
    query_settings: dict[str, Any] | None = None
    """Defaults of `QueryRewriter` for this index, set by `latent-ingest tune --apply`."""
    questions: dict[str, Any] | None = None
    """The question table in the settings, `StoredTable.note`: its digest, number of words, origin,
    and the fingerprint of its model; None if the index has none."""
    own_words: bool | None = None
    """Until a new index is loaded: whether the words of its documents will replace its table."""
    tuning: dict[str, Any] | None = None
    """While the index is tuned, or closed to change its table: the note of what to restore; see
    `index.repair`."""

    @classmethod
    def of(
        cls, encoder: LatentEncoder, mapping: MappingConfig, questions: StoredTable | None = None
    ) -> IndexMeta:
        """The meta of a new index, with a question table or without.

        Raises MismatchError if the table was made by another model.
        """
        digest = encoder.fingerprint.digest
        if questions and questions.fingerprint.digest != digest:
            raise MismatchError(
                f"the question table was made by model {questions.name} "
                f"({questions.fingerprint.digest}), this is {encoder.name} ({digest}); make it "
                f"again with 'latent-ingest questions'"
            )
        return cls(
            model=encoder.name,
            fingerprint=encoder.fingerprint.digest,
            n_latents=encoder.n_latents,
            k=encoder.k,
            pooling=encoder.pooling,
            prompts=encoder.backbone.prompts,
            version=version("latent-ingest"),
            k1=mapping.k1,
            b=mapping.b,
            hash_field=mapping.hash_field,
            id_field=mapping.id_field,
            questions=questions.note() if questions else None,
            **{**asdict(mapping), "text_fields": list(mapping.text_fields)},
        )

    @classmethod
    def read(cls, client: OpenSearch | Client, index: str) -> IndexMeta | None:
        """The meta of the index that a name or alias stands for; None if there is no such index.

        Nothing is changed: an index that an interrupted tuning run left stays as it is.

        Raises:
            MismatchError: the index has no latent terms, or the name stands for several indices.
            EngineError: the engine cannot be asked.
        """
        found = mapping_of(adapted(client), index)
        return cls.from_mapping(*found) if found else None

    @classmethod
    def from_mapping(cls, name: str, mapping: dict[str, Any]) -> IndexMeta:
        """The meta in the mapping of index `name`; raises MismatchError as `from_stored`."""
        return cls.from_stored(name, stored_meta(mapping))

    @classmethod
    def from_stored(cls, name: str, stored: object) -> IndexMeta:
        """The meta from its stored value; raises MismatchError if it is None or lacks fields."""
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
        return cls(**{f.name: stored[f.name] for f in fields(cls) if f.name in stored})

    @property
    def own_fields(self) -> set[str]:
        """Names of the fields that this package writes, so that a corpus cannot have them."""
        return {name for name in (self.latent_field, self.hash_field, self.id_field) if name}

    @property
    def words_fields(self) -> list[str]:
        """Names of the fields that are searched by words: the words field or the index's own."""
        return [WORDS_FIELD] if self.analyzer else self.words or self.text_fields

    @property
    def mapping(self) -> MappingConfig:
        """The mapping configuration the index was made with."""
        values = {field.name: getattr(self, field.name) for field in fields(MappingConfig)}
        return MappingConfig(**{**values, "text_fields": tuple(self.text_fields)})

    def check(self, encoder: LatentEncoder | QuestionTable | StoredTable, index: str) -> None:
        """Raise MismatchError unless the index was made with this encoder's model."""
        if self.fingerprint != encoder.fingerprint.digest:
            raise MismatchError(
                f"index {index} was made by model {self.model} ({self.fingerprint}), this is "
                f"{encoder.name} ({encoder.fingerprint.digest}); use --model with that one, "
                f"or ingest into another index"
            )

    def to_json(self) -> dict[str, Any]:
        """The value stored in `_meta.latent_ingest`."""
        return asdict(self)


def mappings_of(client: OpenSearch, names: str) -> dict[str, dict[str, Any]]:
    """The mappings of all indices that names, aliases or patterns stand for; raises EngineError."""
    with engine_errors(client):
        try:
            answer = client.indices.get_mapping(index=names)
        except NotFoundError:
            return {}
    return {name: content["mappings"] for name, content in answer.items()}


def have_own_words(client: OpenSearch, names: str) -> bool:
    """Whether all indices that names stand for have a question table of their documents' words."""
    metas = [stored_meta(mapping) for mapping in mappings_of(client, names).values()]
    tables = [meta.get("questions") if isinstance(meta, dict) else None for meta in metas]
    return bool(tables) and all(table and table["origin"] == INDEX for table in tables)


def mapping_of(client: OpenSearch, name: str) -> tuple[str, dict[str, Any]] | None:
    """The own name and the mapping of the index that a name or alias stands for; None if none.

    Raises MismatchError if the name stands for several indices, and EngineError.
    """
    found = mappings_of(client, name)
    if len(found) > 1:
        raise MismatchError(f"{name}: {len(found)} indices ({', '.join(found)}); name one")
    return next(iter(found.items()), None)


def stored_meta(mapping: dict[str, Any]) -> Any:
    """`_meta.latent_ingest` of a mapping, as it is stored; None if the mapping has none."""
    return mapping.get("_meta", {}).get("latent_ingest")


def missing_source(mapping: dict[str, Any], meta: IndexMeta) -> str | None:
    """What the engine does not keep of documents; None if it keeps them whole.

    Latent terms that are left out (`lean`) do not count.
    """
    source = mapping.get("_source", {})
    if source.get("enabled", True) is False:
        return "keeps no documents (_source is disabled)"
    if source.get("mode", "stored") != "stored":
        return f"keeps no documents as they were sent (_source is {source['mode']})"
    left_out = {*source.get("excludes", ())} - {meta.latent_field}
    if left_out or source.get("includes"):
        return "keeps only a part of its documents (_source has includes or excludes)"
    return None


def with_meta(mapping: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """`_meta` of a mapping with another `latent_ingest`: the engine replaces `_meta` as a whole."""
    return {**mapping.get("_meta", {}), "latent_ingest": stored}
