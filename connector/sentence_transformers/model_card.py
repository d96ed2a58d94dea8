"""Text about latent terms for the model cards of sentence-transformers."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from sentence_transformers.sparse_encoder.model_card import SparseEncoderModelCardData

# The type of model, and the end of the card's sentence "can be used for".
MODEL_TYPE = "Latent Terms Sparse Encoder"
TASK = (
    "semantic search by the BM25 of a search engine, with its dimensions as words (arXiv "
    "2605.29384); serve it with `latent-ingest FILE --model FOLDER`"
)
INSTALL = "pip install 'latent-ingest[sentence-transformers]'"


def describe(card: Any) -> None:
    """Tell a model card what the model is and how to load it."""
    card.model_type, card.task_name = MODEL_TYPE, TASK
    card.add_tags(["latent-terms", "token-sparse-autoencoder", "bm25"])
    card.generate_usage_snippet = partial(usage, card)


def usage(card: SparseEncoderModelCardData) -> str:
    """The library's usage example, adapted to modules that are not the library's."""
    snippet = SparseEncoderModelCardData.generate_usage_snippet(card)
    example = re.sub(r"(SparseEncoder\(.*)\)", r"\1, trust_remote_code=True)", snippet, count=1)
    return f"Its modules come with `{INSTALL}`.\n\n{example}"
