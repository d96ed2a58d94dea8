"""Latent terms as modules of sentence-transformers (the extra of that name).

build     SparseAutoEncoderTokenEncoder, SparseTokenPooling: modules of a SparseEncoder
load      load_sparse_encoder: any model folder → SparseEncoder; load_transformer: a backbone
train     TokenReconstructionLoss: for the library's own trainer
measure   LatentBM25Evaluator: what an engine's BM25 will give, and the dot product beside it

The first two have the names, settings and files that pull request 3796 of sentence-transformers
gave them.
"""

from __future__ import annotations

import importlib.metadata

OLDEST, NEWEST = 6, 6

try:
    _version = importlib.metadata.version("sentence-transformers")
except importlib.metadata.PackageNotFoundError:
    raise ImportError(
        "sentence-transformers is missing; pip install 'latent-ingest[sentence-transformers]' "
        "brings it"
    ) from None
if not OLDEST <= int(_version.split(".")[0]) <= NEWEST:
    raise ImportError(
        f"sentence-transformers {_version} is not one that this package works with; "
        f"pip install 'latent-ingest[sentence-transformers]' brings version {NEWEST}"
    )

from latent_ingest.connector.sentence_transformers.backbone_transformer import (
    load_sparse_encoder,
    load_transformer,
)
from latent_ingest.connector.sentence_transformers.bm25_evaluator import LatentBM25Evaluator
from latent_ingest.connector.sentence_transformers.reconstruction_loss import (
    TokenReconstructionLoss,
)
from latent_ingest.connector.sentence_transformers.token_encoder import (
    SparseAutoEncoderTokenEncoder,
)
from latent_ingest.connector.sentence_transformers.token_pooling import SparseTokenPooling

__all__ = [
    "LatentBM25Evaluator",
    "SparseAutoEncoderTokenEncoder",
    "SparseTokenPooling",
    "TokenReconstructionLoss",
    "load_sparse_encoder",
    "load_transformer",
]
