"""The end of a run on pairs: a model folder, with a card that says on what it was tuned."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers

from latent_ingest.connector.diagnosis.models import ABOUT, read_about
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import find_folder
from latent_ingest.connector.encoding.model_folder import write_json, write_modules
from latent_ingest.connector.encoding.projection import projection_paths
from latent_ingest.connector.training.pairs.config import PairConfig
from latent_ingest.connector.training.pairs.measures import PairReport
from latent_ingest.connector.training.pairs.reading import Pairs


@dataclass(frozen=True, slots=True)
class PairRun:
    """Settings and results of a run, for its model card."""

    model: LatentEncoder
    """The model that was tuned."""
    pairs: Pairs
    config: PairConfig
    report: PairReport
    command: str = ""
    licence: str = ""
    """Licence of the pairs, as given by the user."""


def write_tuned(
    folder: Path,
    tuned: TokenAutoencoder,
    frequencies: tuple[torch.Tensor, int],
    run: PairRun,
) -> PairReport:
    """Write a model folder; returns the report with the new fingerprint.

    `frequencies` are document frequencies `[n_latents]`, and the number of these documents.
    """
    backbone = run.model.backbone
    tuned.document_frequency, n_documents = frequencies
    tuned.config = dataclasses.replace(tuned.config, n_documents=n_documents)
    tuned.save(folder, decoder=tuned.W_dec is not None)
    write_modules(
        folder,
        n_latents=tuned.config.n_latents,
        pooling=tuned.config.pooling,
        prompts=backbone.prompts,
        projections=projection_paths(find_folder(backbone.name)),
    )
    written = LatentEncoder(backbone, TokenAutoencoder.load(folder), k=run.model.k)
    report = dataclasses.replace(run.report, fingerprint=written.fingerprint.digest)
    run = dataclasses.replace(run, report=report)
    (folder / "README.md").write_text(card(run), encoding="utf-8")
    about = read_about(run.model.folder) if run.model.folder else {}
    licence = {**about.get("licence", {}), **({"pairs": run.licence} if run.licence else {})}
    write_json(folder / ABOUT, {"licence": licence, "quality": [], "measured_by": ""})
    return report


def card(run: PairRun) -> str:
    """The text of the model card."""
    report, model = run.report, run.model
    # Only names: a card shows no paths of the user's machine.
    name = Path(model.backbone.name).name if Path(model.backbone.name).is_absolute() else ""
    settings = asdict(run.config)
    if run.config.teacher and Path(run.config.teacher).exists():
        settings["teacher"] = Path(run.config.teacher).name
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in report.left_out.items())
    rows = {
        "tuned from": f"{model.name}, fingerprint {model.fingerprint.digest}",
        "fingerprint": f"{report.fingerprint}; an index of another one must be encoded again",
        "backbone": f"{name or model.backbone.name}, weights {model.backbone.fingerprint}, frozen",
        "pairs": f"{report.pairs:,} of {', '.join(Path(file).name for file in run.pairs.names)}; "
        f"{report.held_out:,} further ones held out",
        "left out": left_out or "none",
        "licence of the pairs": run.licence or "not stated",
        "steps": f"{report.steps:,} in {report.seconds:,.0f} s on {model.backbone.device.type}",
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items()),
        "command": f"`{run.command}`" if run.command else "not stated",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    measured = "\n".join(
        f"| {name} | {each.mrr:.4f} | {each.postings:.2f} | {each.terms:.0f} |"
        for name, each in (("before", report.before), ("after", report.after))
    )
    return (
        f"# {model.name}, tuned on pairs\n\n"
        "The encoder of a sparse autoencoder over token embeddings, changed by a matrix of low "
        "rank so that questions find their documents by the engine's own BM25.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "Questions that were held out, among their own documents. Measure on a collection of "
        "another kind, too, before you use the model for one.\n\n"
        "| | mean reciprocal rank | postings a question and document | latents of a question |\n"
        f"|---|---|---|---|\n{measured}\n"
    )
