"""Comparison of model folders: nDCG@10 of latent BM25 in memory on judged collections.

    python benchmarks/models.py --on scifact:train --on nfcorpus:dev model-a model-b

Each collection is embedded once. To choose between models, use other judgements than those that
are reported afterwards.
"""

from __future__ import annotations

from pathlib import Path

import click
from command import Benchmark, load_judged

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.evaluation.probe import Probe


@click.command(cls=Benchmark)
@click.option("--on", "collections", multiple=True, required=True, help="FOLDER:SPLIT")
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(collections: tuple[str, ...], models: tuple[Path, ...]) -> None:
    """Print a table: a row per model, a column per collection."""
    autoencoders = {model: TokenAutoencoder.load(model) for model in models}
    names = {autoencoder.config.backbone for autoencoder in autoencoders.values()}
    if len(names) != 1:
        raise click.UsageError(f"the models have different backbones: {', '.join(sorted(names))}")
    backbone = Backbone.load(names.pop())
    table: dict[Path, list[float]] = {model: [] for model in models}
    for named in collections:
        probe = Probe(load_judged(named), backbone)
        click.echo(f"{named}: words (not stemmed) {probe.words:.4f}", err=True)
        for model, autoencoder in autoencoders.items():
            table[model].append(probe.ndcg(autoencoder))
            click.echo(f"{named}: {model.name} {table[model][-1]:.4f}", err=True)
    click.echo("model".ljust(24) + "".join(Path(c).name.rjust(20) for c in collections))
    for model, row in table.items():
        click.echo(model.name.ljust(24) + "".join(f"{ndcg:20.4f}" for ndcg in row))


if __name__ == "__main__":
    main()
