"""nDCG@10 of the hybrid form for several boosts of the latent terms, through the engine.

    latent-ingest corpus.jsonl --index scifact
    python benchmarks/boost.py scifact/:train --index scifact --boost .1 --boost .2

For choosing, use judgements that are not those reported afterwards.
"""

from __future__ import annotations

from pathlib import Path

import click

from latent_ingest.connector.client import Connection, default_url
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.systems import rank_by_engine
from latent_ingest.connector.querying.rewriter import QueryRewriter


@click.command()
@click.argument("collection")
@click.option("--index", required=True)
@click.option("--boost", "boosts", type=float, multiple=True, required=True)
def main(collection: str, index: str, boosts: tuple[float, ...]) -> None:
    """Print a line a boost; COLLECTION is FOLDER:SPLIT."""
    folder, _, split = collection.rpartition(":")
    judged = Collection.load(Path(folder), split)
    client = Connection(default_url()).open()
    encoder = LatentEncoder.load()
    for boost in boosts:
        rewriter = QueryRewriter.from_index(client, index, encoder, latent_boost=boost)
        ranking = rank_by_engine("hybrid", judged, rewriter, client, index, lambda done: None)
        click.echo(f"{boost:<6g} {mean_ndcg(judged.qrels, ranking):.4f}")


if __name__ == "__main__":
    main()
