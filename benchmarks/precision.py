"""Quality that bfloat16 costs in encoding and training, compared with float32, by nDCG@10.

    python benchmarks/precision.py scifact:train texts.jsonl.gz

For each dtype, the collection is embedded once; then minilm-32k, and a model trained on the
texts in that dtype, are measured by latent BM25 in memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from command import Benchmark, load_judged

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.evaluation.probe import Probe
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.texts import TrainingTexts, find_sources
from latent_ingest.connector.training.trainer import Trainer


@click.command(cls=Benchmark)
@click.argument("collection")
@click.argument("sources", nargs=-1, required=True)
@click.option("--tokens", default=1_000_000)
@click.option("--latents", default=8192)
def main(collection: str, sources: tuple[str, ...], tokens: int, latents: int) -> None:
    """Print a line per dtype; COLLECTION is FOLDER:SPLIT."""
    judged = load_judged(collection)
    config = TrainingConfig(n_latents=latents, tokens=tokens)
    for dtype in ("float32", "bfloat16"):
        backbone = Backbone.load(dtype=dtype)
        probe = Probe(judged, backbone)
        shipped = probe.ndcg(TokenAutoencoder.load(SHIPPED_MODEL))
        with tempfile.TemporaryDirectory() as work:
            texts = TrainingTexts(find_sources(sources, Path(work)))
            trainer = Trainer(backbone, texts, Path(work) / "model", config)
            report = trainer.run()
            trainer.write(report)
            trained = probe.ndcg(TokenAutoencoder.load(Path(work) / "model"))
        click.echo(
            f"{dtype:9} shipped model {shipped:.4f}; trained on {report.tokens:,} tokens: "
            f"{trained:.4f}, normalized MSE {report.normalized_mse:.4f}"
        )


if __name__ == "__main__":
    main()
