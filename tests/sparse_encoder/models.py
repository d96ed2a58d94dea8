"""Vectors to compare with, and backbones to build on."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from latent_ingest.connector.encoding.backbone import DEFAULT_BACKBONE, find_folder
from latent_ingest.connector.encoding.encoder import LatentEncoder


def dense(encoder: LatentEncoder, texts: list[str], kind: str = "document") -> torch.Tensor:
    """Dense result of `LatentEncoder.encode` with truncation, `[n_texts, n_latents]`."""
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
