"""Fill in a mapping: repeat.json or delimited.json → the body that creates an index."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LATENT_FIELD = "latent"
WORDS_FIELD = "words"
SIMILARITY = "latent_bm25"

# BM25 of the latent field, for scale 1; k1 grows with the scale. Measured on SciFact and NFCorpus:
# flat from k1 1.2 to 5 and b .5 to .9, all within .008 nDCG@10.
DEFAULT_K1 = 2.0
DEFAULT_B = 0.7

# What becomes of documents longer than the backbone's window.
LONG = ("pool", "chunks", "truncate")

# Who makes `_id`: of the document, or the engine, for collections that refuse ids.
IDS = ("document", "engine")

# Fields that each document of an index of chunks has; `collapse` needs a keyword.
PARENT_FIELD = "parent_id"
CHUNK_FIELDS = {
    PARENT_FIELD: "keyword",
    "chunk": "integer",
    "chunks": "integer",
    "start": "integer",
    "end": "integer",
}


@dataclass(frozen=True, slots=True)
class MappingConfig:
    """What may differ from the JSON files."""

    spelling: str = "repeat"
    scale: float = 1.0
    """Factor on the square-rooted activations before they are rounded."""
    latent_field: str = LATENT_FIELD
    text_fields: tuple[str, ...] = ("title", "text")
    """Fields that are encoded, searchable by words too, each and together as `words`."""
    analyzer: str = "english"
    """Of the words; any that the engine knows. Empty where words are searched in fields that the
    index had before it got latent terms."""
    lean: bool = False
    """Leave latents out of `_source`: smaller, but the next partial update of a document deletes
    its latents without a word."""
    long: str = "pool"
    """Of documents longer than the backbone's window: "pool" adds the latents of all their windows,
    "chunks" makes a document of each, "truncate" leaves out what is beyond the first."""
    ids: str = "document"
    """Where `_id` is from: "document", or "engine", and the document's own id is in a field; then
    a document whose request was answered by nobody may be there twice."""

    def __post_init__(self) -> None:
        if self.ids not in IDS:
            raise ValueError(f"ids {self.ids!r}: use one of {', '.join(IDS)}")
        if self.ids == "engine" and self.long == "chunks":
            raise ValueError("ids 'engine': chunks are found by ids of ours; use --long pool")
        if self.long not in LONG:
            raise ValueError(f"long {self.long!r}: use one of {', '.join(LONG)}")
        own = {self.latent_field, self.hash_field, *self.chunk_fields}
        if self.id_field:
            own.add(self.id_field)
        if self.analyzer:
            own.add(WORDS_FIELD)
        taken = own & set(self.text_fields)
        if taken or self.latent_field in (WORDS_FIELD, *self.chunk_fields):
            names = ", ".join(sorted(taken)) or self.latent_field
            raise ValueError(f"field {names!r} is used twice; the index needs it for itself")
        if self.scale <= 0:
            raise ValueError(f"scale {self.scale}: must be above 0")

    @property
    def chunk_fields(self) -> dict[str, str]:
        """Fields of each chunk, and their types; none where documents are whole."""
        return CHUNK_FIELDS if self.long == "chunks" else {}

    @property
    def hash_field(self) -> str:
        """Where the hash of the encoded text goes."""
        return hash_field(self.latent_field)

    @property
    def id_field(self) -> str | None:
        """Where the document's own id goes when the engine makes `_id`; none when it does not."""
        return id_field(self.latent_field) if self.ids == "engine" else None

    @property
    def k1(self) -> float:
        """BM25's k1 of the latent field: scaling counts and k1 alike changes no ranking."""
        return DEFAULT_K1 * self.scale

    @property
    def b(self) -> float:
        """BM25's b of the latent field."""
        return DEFAULT_B


def hash_field(latent_field: str) -> str:
    """The field beside the latent field that tells whether its text has changed since."""
    return f"{latent_field}_hash"


def id_field(latent_field: str) -> str:
    """The field beside the latent field with the document's own id."""
    return f"{latent_field}_id"


def index_body(config: MappingConfig, meta: dict[str, Any]) -> dict[str, Any]:
    """The body of `PUT /index`.

    Args:
        config: what differs from the JSON file of its spelling.
        meta: goes to `_meta.latent_ingest`.
    """
    path = Path(__file__).parent / f"{config.spelling}.json"
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    similarity = body["settings"]["index"]["similarity"][SIMILARITY]
    similarity.update(k1=config.k1, b=config.b)
    mappings = body["mappings"]
    properties = mappings["properties"]
    latent, words = properties.pop(LATENT_FIELD), properties.pop(WORDS_FIELD)
    encoded = properties.pop(hash_field(LATENT_FIELD))
    properties.clear()
    properties[config.latent_field] = latent
    properties[config.hash_field] = encoded
    properties[WORDS_FIELD] = words | {"analyzer": config.analyzer}
    for name in config.text_fields:
        properties[name] = {"type": "text", "analyzer": config.analyzer, "copy_to": WORDS_FIELD}
    if config.id_field:
        properties[config.id_field] = {"type": "keyword"}
    for name, kind in config.chunk_fields.items():
        properties[name] = {"type": kind}
    if config.lean:
        mappings["_source"] = {"excludes": [config.latent_field]}
    mappings["_meta"] = {"latent_ingest": copy.deepcopy(meta)}
    return body
