"""The end of a training run: the model measured on held-out texts, and its folder written."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.diagnosis.models import ABOUT
from latent_ingest.connector.encoding.autoencoder import TOKENS_AT_ONCE, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import find_folder
from latent_ingest.connector.encoding.model_folder import write_json, write_modules
from latent_ingest.connector.encoding.projection import projection_paths
from latent_ingest.connector.inspection.vocabulary import Frequencies, word_frequencies
from latent_ingest.connector.training.card import RunSummary, draw, write_card
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.embeddings import blocks_of, embedded
from latent_ingest.connector.training.metrics import TrainingReport

log = logging.getLogger(__name__)

# Document frequencies of a vocabulary lie near a line over logarithms: the model that ships has R2
# .87, words .98. A lower R2 than this is doubtful; a higher one proves nothing, as random
# directions have .75.
ZIPF_R2 = 0.6

# With more dead latents than this share of all, the vocabulary is smaller than it seems.
MANY_DEAD = 0.1

# From this many rounds over the same texts, more texts would help more than more rounds.
MANY_ROUNDS = 10


@torch.no_grad()
def reconstruction_error(
    model: TokenAutoencoder, backbone: Backbone, texts: list[str]
) -> tuple[float, int]:
    """Normalized MSE over all tokens of the texts, and the number of these tokens."""
    squared_error = variance = 0.0
    n_tokens = 0
    with model.computing_in(backbone.dtype):
        for block in blocks_of(texts):
            for hidden in torch.split(embedded(backbone, block), TOKENS_AT_ONCE):
                x, found = model.normalize(hidden), model.encode(hidden)
                decoded = model.reconstruct(found.top_acts, found.top_indices)
                squared_error += (x - decoded).square().sum().item()
                variance += (x - x.mean(dim=0)).square().sum().item()
                n_tokens += len(hidden)
    return squared_error / max(variance, 1e-9), n_tokens


def write_model(
    folder: Path,
    model: TokenAutoencoder,
    held_out: list[str],
    run: RunSummary,
    metrics: Path,
    *,
    keep_decoder: bool,
    int8: bool,
) -> Frequencies:
    """Write a model folder: weights, modules.json, metrics, figures and model card.

    Document frequencies are counted in the `held_out` texts; those of the latents are returned.
    `metrics` is the folder of metrics.jsonl and `tensorboard/`, which are copied to the model.
    """
    backbone = run.backbone
    latents = Frequencies.of(count_documents(model, backbone, held_out))
    words = word_frequencies(held_out)
    model.save(folder, decoder=keep_decoder, int8=int8)
    write_modules(
        folder,
        n_latents=model.config.n_latents,
        pooling=model.config.pooling,
        prompts=backbone.prompts,
        projections=projection_paths(find_folder(backbone.name)),
    )
    shutil.copy(metrics / "metrics.jsonl", folder)
    if (metrics / "tensorboard").is_dir():
        shutil.copytree(metrics / "tensorboard", folder / "tensorboard")
    figures = draw(folder, run.report, latents, words)
    if not figures:
        log.info("no figures: pip install 'latent-ingest[train]' installs matplotlib")
    card = write_card(run, latents, words, figures)
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_json(folder / ABOUT, about(run))
    return latents


def about(run: RunSummary) -> dict[str, Any]:
    """What a run states of its model: the licence of the texts, and the probe's last figures."""
    report = run.report
    quality = []
    if report.probe_curve:
        figures = {"latent": report.probe_curve[-1][1], "words": report.probe_words}
        quality.append({"collection": report.probe, "measure": "nDCG@10", **figures})
    return {
        "licence": {"texts": run.licence} if run.licence else {},
        "quality": quality,
        "measured_by": run.command if quality else "",
    }


def count_documents(
    model: TokenAutoencoder, backbone: Backbone, texts: list[str]
) -> NDArray[np.int64]:
    """Document frequency of each latent in the texts, `[n_latents]`; stored in the model, too."""
    with model.computing_in(backbone.dtype):
        vectors = LatentEncoder(backbone, model).encode(texts)
    counts = np.bincount(vectors.indices, minlength=vectors.n_latents)
    model.document_frequency = torch.from_numpy(counts.astype(np.float32))
    model.config = dataclasses.replace(model.config, n_documents=len(texts))
    return counts


def doubts(report: TrainingReport, latents: Frequencies, config: TrainingConfig) -> list[str]:
    """Reasons against using the model, a line each."""
    lines = []
    if report.dead > MANY_DEAD * config.n_latents:
        lines.append(
            f"{report.dead:,} of {config.n_latents:,} latents are dead; use more --tokens or fewer "
            f"--latents"
        )
    if latents.r2 < ZIPF_R2:
        lines.append(
            f"document frequencies are far from Zipfian (R2 {latents.r2:.2f}), as with backbones "
            f"that were not trained for retrieval"
        )
    if report.rounds >= MANY_ROUNDS:
        lines.append(
            f"all texts were trained on {report.rounds:,} times; use more texts or fewer --tokens"
        )
    if report.probe_curve and report.probe_curve[-1][1] < (report.probe_words or 0):
        lines.append(
            f"latents reach nDCG@10 {report.probe_curve[-1][1]:.4f} on {report.probe}, its words "
            f"alone {report.probe_words:.4f}; train on more tokens or other texts"
        )
    return lines
