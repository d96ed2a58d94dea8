"""Quality of BM25 compared with the dot product of the same vectors (as a SparseEncoder scores).

    python benchmarks/dot_product.py scifact nfcorpus

Prints nDCG@10 of both on judged collections, in memory, and their ratio.
"""

from __future__ import annotations

from pathlib import Path

import click
from command import Benchmark

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.sentence_transformers import LatentBM25Evaluator, load_sparse_encoder


@click.command(cls=Benchmark)
@click.argument("collections", nargs=-1, required=True)
@click.option("--model", help="Model folder; by default minilm-32k.")
@click.option("--split", default="test")
def main(collections: tuple[str, ...], model: str | None, split: str) -> None:
    """Print a line per collection."""
    encoder = load_sparse_encoder(model)
    for folder in collections:
        collection = Collection.load(Path(folder), split)
        evaluator = LatentBM25Evaluator(
            collection.queries,
            {document.id: document.text for document in collection.documents()},
            collection.qrels,
            measures=["nDCG@10"],
            show_progress_bar=True,
        )
        found = evaluator(encoder)
        bm25, dot = found["bm25_ndcg@10"], found["dot_ndcg@10"]
        click.echo(f"{collection.name}: BM25 {bm25:.4f}, dot product {dot:.4f}: {bm25 / dot:.2f}x")


if __name__ == "__main__":
    main()
