"""Index mappings: JSON that a person can PUT by hand, and the lines that fill it in."""

from latent_ingest.mappings.template import (
    DEFAULT_B,
    DEFAULT_K1,
    IDS,
    LATENT_FIELD,
    LONG,
    PARENT_FIELD,
    SEARCH_ANALYZER,
    WORDS_FIELD,
    MappingConfig,
    hash_field,
    id_field,
    index_body,
    question_analysis,
)

__all__ = [
    "DEFAULT_B",
    "DEFAULT_K1",
    "IDS",
    "LATENT_FIELD",
    "LONG",
    "PARENT_FIELD",
    "SEARCH_ANALYZER",
    "WORDS_FIELD",
    "MappingConfig",
    "hash_field",
    "id_field",
    "index_body",
    "question_analysis",
]
