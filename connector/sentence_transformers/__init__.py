"""Latent terms as modules of sentence-transformers (needs the extra `sentence-transformers`).

build     SparseAutoEncoderTokenEncoder, SparseTokenPooling: modules of a SparseEncoder
load      load_sparse_encoder: a model folder → SparseEncoder; load_transformer: a backbone
train     TokenReconstructionLoss: a loss for SparseEncoderTrainer
measure   LatentBM25Evaluator: quality by an engine's BM25, and by the dot product

The two modules have the names, settings and files of sentence-transformers pull request 3796.
"""

from __future__ import annotations

import importlib.metadata

OLDEST, NEWEST = 6, 6

try:
    _version = importlib.metadata.version("sentence-transformers")
except importlib.metadata.PackageNotFoundError:
    raise ImportError(
        "sentence-transformers is missing; pip install 'latent-ingest[sentence-transformers]' "
        "installs it"
    ) from None
if not OLDEST <= int(_version.split(".")[0]) <= NEWEST:
    raise ImportError(
        f"sentence-transformers {_version} is not supported; "
        f"pip install 'latent-ingest[sentence-transformers]' installs version {NEWEST}"
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
