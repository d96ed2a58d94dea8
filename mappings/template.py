"""Index mappings: repeat.json or delimited.json, filled in → the body that creates an index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LATENT_FIELD = "latent"
WORDS_FIELD = "words"
SIMILARITY = "latent_bm25"

# Search analyzer of the latent field in an index with a question table.
SEARCH_ANALYZER = "latent_questions"

# Greatest count of a term in a text of latent terms, as `f12|99`.
MOST_COUNT = 99

# BM25 of the latent field at scale 1; k1 grows with the scale. Measured on SciFact and NFCorpus:
# nDCG@10 is flat, within .008, from k1 1.2 to 5 and b .5 to .9.
DEFAULT_K1 = 2.0
DEFAULT_B = 0.7

# Fields that every document has in the engine, and that no document can have itself.
METADATA_FIELDS = frozenset({
    "_data_stream_timestamp", "_doc_count", "_feature", "_field_names", "_id", "_ignored", "_index",
    "_nested_path", "_parent_join", "_primary_term", "_routing", "_seq_no", "_source", "_type",
    "_version",
})  # fmt: skip

# How to treat documents longer than the backbone window.
LONG = ("pool", "chunks", "truncate")

# Where `_id` comes from: the document, or the engine, for collections that refuse ids.
IDS = ("document", "engine")

# Fields of each document in an index of chunks; `collapse` needs a keyword.
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
    """Settings that differ from the JSON files."""

    spelling: str = "repeat"
    """ "repeat" or "delimited": how counts are written in the latent field."""
    scale: float = 1.0
    """Factor on weights before they are rounded to counts."""
    latent_field: str = LATENT_FIELD
    """Name of the latent field."""
    text_fields: tuple[str, ...] = ("title", "text")
    """Fields whose text is encoded; searchable by words, each and together as `words`."""
    analyzer: str = "english"
    """Analyzer of the words, any the engine has. Empty if words are searched in fields that the
    index had before it got latent terms."""
    lean: bool = False
    """Exclude the latent field from `_source`: smaller, but the next partial update of a document
    silently deletes its latent terms."""
    long: str = "pool"
    """Documents longer than the backbone window: "pool" adds up the latents of all their windows,
    "chunks" makes a document per window, "truncate" leaves out what is beyond the first window."""
    ids: str = "document"
    """Origin of `_id`: "document", or "engine". Then the document's own id is in a field, and a
    document whose request was never answered may be indexed twice."""

    def __post_init__(self) -> None:
        if self.ids not in IDS:
            raise ValueError(f"ids {self.ids!r}: use one of {', '.join(IDS)}")
        if self.ids == "engine" and self.long == "chunks":
            raise ValueError("ids 'engine': chunks need ids from the document; use --long pool")
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
            raise ValueError(f"field {names!r} is used twice; the index needs this name, rename it")
        if metadata := METADATA_FIELDS.intersection(self.text_fields):
            raise ValueError(f"field {min(metadata)!r} is the engine's own and holds no text")
        if self.scale <= 0:
            raise ValueError(f"scale {self.scale}: must be above 0")

    @property
    def chunk_fields(self) -> dict[str, str]:
        """Fields of each chunk and their types; empty unless documents are chunked."""
        return CHUNK_FIELDS if self.long == "chunks" else {}

    @property
    def hash_field(self) -> str:
        """Name of the hash field."""
        return hash_field(self.latent_field)

    @property
    def id_field(self) -> str | None:
        """Field with the document's own id if the engine makes `_id`, else None."""
        return id_field(self.latent_field) if self.ids == "engine" else None

    @property
    def k1(self) -> float:
        """BM25's k1 of the latent field; scaling counts and k1 together keeps the ranking."""
        return DEFAULT_K1 * self.scale

    @property
    def b(self) -> float:
        """BM25's b of the latent field."""
        return DEFAULT_B


def hash_field(latent_field: str) -> str:
    """Name of the hash field, which tells whether a text has changed since it was encoded."""
    return f"{latent_field}_hash"


def id_field(latent_field: str) -> str:
    """Name of the field with the document's own id."""
    return f"{latent_field}_id"


def question_analysis(letters: str, plain: list[str], table: list[str]) -> dict[str, Any]:
    """Return the parts of `settings.analysis` that make questions into latent terms.

    Args:
        letters: characters of words, as in a class of regular expressions.
        plain: rules `É => e`, of characters that the table writes otherwise.
        table: rules `¦bone¦ => f812×3 f4975`.
    """
    analysis: dict[str, Any] = _read("questions")
    filters = analysis["char_filter"]
    words = filters["latent_words"]
    words["pattern"] = words["pattern"].replace("LETTERS", letters)
    filters["latent_letters"]["mappings"] = plain
    filters["latent_table"]["mappings"] = table
    counts = [f"|{count} => {'×' * (count - 1)}" for count in range(1, MOST_COUNT + 1)]
    filters["latent_weights"]["mappings"] += counts
    return analysis


def index_body(
    config: MappingConfig, meta: dict[str, Any], questions: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the body of `PUT /index`.

    Args:
        config: settings that differ from the JSON file of its spelling.
        meta: index meta, stored as `_meta.latent_ingest`.
        questions: `question_analysis` of the table of the index, if it has one.
    """
    body = _read(config.spelling)
    similarity = body["settings"]["index"]["similarity"][SIMILARITY]
    similarity.update(k1=config.k1, b=config.b)
    mappings = body["mappings"]
    template = mappings["properties"]
    text = {"type": "text", "analyzer": config.analyzer}
    mappings["properties"] = {
        config.latent_field: template[LATENT_FIELD],
        config.hash_field: template[hash_field(LATENT_FIELD)],
        WORDS_FIELD: text,
        **{name: {**text, "copy_to": WORDS_FIELD} for name in config.text_fields},
        **{name: {"type": kind} for name, kind in config.chunk_fields.items()},
    }
    if config.id_field:
        mappings["properties"][config.id_field] = {"type": "keyword"}
    if config.lean:
        mappings["_source"] = {"excludes": [config.latent_field]}
    mappings["_meta"] = {"latent_ingest": meta}
    if questions:
        for kind, parts in questions.items():
            body["settings"]["analysis"].setdefault(kind, {}).update(parts)
        mappings["properties"][config.latent_field]["search_analyzer"] = SEARCH_ANALYZER
    return body


def _read(name: str) -> dict[str, Any]:
    path = Path(__file__).parent / f"{name}.json"
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body
