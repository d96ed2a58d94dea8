"""Vectors to compare with, and backbones to build on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import SparseEncoder

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder
from latent_ingest.connector.sentence_transformers import load_sparse_encoder

# The ways to load a folder with sentence-transformers.
LOADERS = [
    partial(load_sparse_encoder, device="cpu"),
    lambda folder, **options: SparseEncoder(
        str(folder), trust_remote_code=True, device="cpu", **options
    ),
]


def dense(encoder: LatentEncoder, texts: list[str], kind: str = "document") -> torch.Tensor:
    """`LatentEncoder.encode` as a dense `[n_texts, n_latents]`, of the first window."""
    vectors = encoder.encode(texts, kind=kind, long="truncate")
    out = torch.zeros(len(texts), encoder.n_latents)
    for row, (indices, values) in enumerate(vectors):
        out[row, torch.from_numpy(indices).long()] = torch.from_numpy(values)
    return out


def backbone_with_prompts(folder: Path) -> Path:
    """The default backbone, with a prompt for questions and one for documents."""
    folder.mkdir()
    for path in find_folder(DEFAULT_BACKBONE).iterdir():
        (folder / path.name).symlink_to(path)
    path = folder / "config_sentence_transformers.json"
    path.unlink()
    path.write_text(json.dumps({"prompts": {"query": "query: ", "document": "passage text: "}}))
    return folder
