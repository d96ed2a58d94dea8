"""What tuning on pairs changes: models compared on parts of judged collections, in memory.

    python benchmarks/pairs.py --on scifact:train --on nfcorpus:dev --documents 400 \\
        minilm-32k my-model/

A part is so many documents drawn from those that are judged, so that one core does it in minutes;
nDCG is higher than on the whole collection. All models have the same backbone, which embeds each
part once. `±` is the standard error of the mean difference from the first model.
"""

from __future__ import annotations

import random
import tempfile
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import torch

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.model_folder import model_path
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.probe import WordIndex, embed, latents_of
from latent_ingest.connector.evaluation.rankings import DEPTH, without_itself
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS


class Part:
    """Documents of a collection, and the questions that one of them answers."""

    def __init__(self, named: str, n_documents: int, backbone: Backbone, folder: Path) -> None:
        place, _, split = named.rpartition(":")
        collection = Collection.load(Path(place), split)
        chance = random.Random(0)
        judged = sorted(collection.judged)
        chosen = set(chance.sample(judged, min(n_documents, len(judged))))
        self.name = f"{collection.name} {split}"
        documents = [each for each in collection.documents() if each.id in chosen]
        self.ids = [document.id for document in documents]
        kept = {query: only(grades, chosen) for query, grades in collection.qrels.items()}
        self.qrels = {
            query: grades for query, grades in kept.items() if max(grades.values(), default=0) > 0
        }
        self.queries = list(self.qrels)
        texts = [document.text for document in documents]
        asked = [collection.queries[query] for query in self.queries]
        self.documents = embed(backbone, texts, "document", folder / "d", lambda _: None)
        self.questions = embed(backbone, asked, "query", folder / "q", lambda _: None)
        index = WordIndex(texts)
        self.words = [index.bm25.scores(*index.query(text)) for text in asked]

    @torch.no_grad()
    def judge(self, autoencoder: TokenAutoencoder, dtype: torch.dtype) -> tuple[np.ndarray, float]:
        """nDCG@10 per question, latent and hybrid, `[2, n]`; postings a question and document."""
        with autoencoder.computing_in(dtype):
            rows = latents_of(autoencoder, self.documents)
            indices, values, offsets = latents_of(autoencoder, self.questions)
        n_latents = autoencoder.config.n_latents
        bm25 = MemoryBM25(rows[0], terms.counts(rows[1]), rows[2], n_latents, exact_lengths=False)
        found, postings = [], 0
        for query, words, (start, end) in zip(
            self.queries, self.words, pairwise(offsets), strict=True
        ):
            latents, weights = indices[start:end], terms.weights(values[start:end])
            order = np.argsort(-weights * bm25.idf[latents], kind="stable")[:MAX_QUERY_TERMS]
            scores = bm25.scores(latents[order], weights[order])
            postings += bm25.document_frequency[latents[order]].sum()
            one = {query: self.qrels[query]}
            found.append(
                [
                    mean_ndcg(one, {query: without_itself(query, best(self.ids, each, DEPTH))})
                    for each in (scores, words + LATENT_BOOST * scores)
                ]
            )
        return np.array(found).T, postings / len(self.queries) / len(self.ids)


def only(grades: dict[str, int], chosen: set[str]) -> dict[str, int]:
    """The grades of the chosen documents."""
    return {document: grade for document, grade in grades.items() if document in chosen}


@click.command()
@click.option("--on", "collections", multiple=True, required=True, help="FOLDER:SPLIT")
@click.option("--documents", default=400, help="Documents of each collection.")
@click.argument("models", nargs=-1, required=True)
def main(collections: tuple[str, ...], documents: int, models: tuple[str, ...]) -> None:
    """Print a table: a row per collection and model."""
    autoencoders = {name: TokenAutoencoder.load(model_path(name)) for name in models}
    backbone = Backbone.load(next(iter(autoencoders.values())).config.backbone)
    click.echo("| collection | questions | model | latent | hybrid | postings |")
    click.echo("|---|---|---|---|---|---|")
    for named in collections:
        with tempfile.TemporaryDirectory() as folder:
            part = Part(named, documents, backbone, Path(folder))
            first = None
            for name, autoencoder in autoencoders.items():
                each, postings = part.judge(autoencoder, backbone.dtype)
                first = each if first is None else first
                errors = (each - first).std(axis=1) / len(part.queries) ** 0.5
                cells = [
                    f"{mean:.4f}" + (f" ± {error:.4f}" if each is not first else "")
                    for mean, error in zip(each.mean(axis=1), errors, strict=True)
                ]
                click.echo(
                    f"| {part.name} | {len(part.queries)} | {Path(name).name} | "
                    f"{' | '.join(cells)} | {postings:.2f} |"
                )


if __name__ == "__main__":
    main()
