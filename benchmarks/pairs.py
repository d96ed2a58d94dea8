"""What tuning on pairs changes: models compared on judged collections, in memory.

    python benchmarks/pairs.py --on scifact:train --on nfcorpus:dev --cache cache/ \\
        minilm-32k my-model/

All models have the same backbone, which embeds each collection once; `--cache` keeps that (1 kB a
token) and what each model encodes, for further models and splits. `--near` computes only the
latents that tuning itself looks at, the 2k of a token that are strongest in the first model: ten
times as fast, for choosing. With `--documents N`, so many are drawn from those that are judged:
nDCG is then higher than on the whole collection. With `--k`, each model is measured with so many
latents a token. `±` is the standard error of the mean difference from the first row.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path

import click
import numpy as np
import torch
from command import Benchmark, load_judged

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder, TokenLatents, boundaries
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.fingerprint import autoencoder_fingerprint
from latent_ingest.connector.encoding.model_folder import model_path
from latent_ingest.connector.encoding.pooling import pool
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.probe import WordIndex, latents_of
from latent_ingest.connector.evaluation.rankings import DEPTH, without_itself
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS
from latent_ingest.connector.training.pairs.cache import Candidates, TextCache

TEXTS_AT_ONCE = 32

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


class Part:
    """A collection, or documents of it, and the questions that one of them answers."""

    def __init__(self, named: str, n_documents: int | None, cache: Cache) -> None:
        collection = load_judged(named)
        documents = list(collection.documents())
        self.drawn = ""
        if n_documents is not None:
            judged = sorted(collection.judged)
            chosen = set(random.Random(0).sample(judged, min(n_documents, len(judged))))
            documents = [each for each in documents if each.id in chosen]
            self.drawn = f"-{collection.split}-{n_documents}"
        self.name = f"{collection.name} {collection.split}"
        self.ids = [document.id for document in documents]
        kept = {query: only(grades, set(self.ids)) for query, grades in collection.qrels.items()}
        self.qrels = {
            query: grades for query, grades in kept.items() if max(grades.values(), default=0) > 0
        }
        self.queries = list(self.qrels)
        texts = [document.text for document in documents]
        asked = [collection.queries[query] for query in self.queries]
        self.cache = cache
        self.documents = cache.tokens(f"{collection.name}{self.drawn}-documents", texts, "document")
        self.questions = cache.tokens(
            f"{collection.name}-{collection.split}{self.drawn}-queries", asked, "query"
        )
        index = WordIndex(texts)
        self.words = [index.bm25.scores(*index.query(text)) for text in asked]

    def judge(self, autoencoder: TokenAutoencoder) -> Judged:
        """Measure a model."""
        rows = self.cache.latents(self.documents, autoencoder)
        indices, values, offsets = self.cache.latents(self.questions, autoencoder)
        n_latents = autoencoder.config.n_latents
        bm25 = MemoryBM25(rows[0], terms.counts(rows[1]), rows[2], n_latents, exact_lengths=False)
        found, postings, asked = [], 0, 0
        for query, words, (start, end) in zip(
            self.queries, self.words, pairwise(offsets), strict=True
        ):
            latents, weights = indices[start:end], terms.weights(values[start:end])
            order = np.argsort(-weights * bm25.idf[latents], kind="stable")[:MAX_QUERY_TERMS]
            scores = bm25.scores(latents[order], weights[order])
            postings += bm25.document_frequency[latents[order]].sum()
            asked += len(order)
            one = {query: self.qrels[query]}
            found.append(
                [
                    mean_ndcg(one, {query: without_itself(query, best(self.ids, each, DEPTH))})
                    for each in (scores, words + LATENT_BOOST * scores)
                ]
            )
        n = len(self.queries)
        return Judged(np.array(found).T, asked / n, postings / n / len(self.ids))


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model reaches on a part, and what a question costs."""

    ndcg: np.ndarray
    """nDCG@10 per question, latent and hybrid, `[2, n]`."""
    terms: float
    """Latents that a question asks for."""
    postings: float
    """Postings that it touches, per document."""


class Cache:
    """Tokens of texts, and their latents by model, in a folder."""

    def __init__(self, folder: Path, encoder: LatentEncoder, *, near: bool) -> None:
        """`encoder` is of the first model; `near`: see above."""
        self.folder = folder
        self.near = near
        self.encoder = encoder
        assert encoder.folder is not None
        self.first = TokenAutoencoder.load(encoder.folder).requires_grad_(False)
        self.first_fingerprint = autoencoder_fingerprint(self.first)

    def tokens(self, name: str, texts: list[str], kind: str) -> TextCache:
        """Embeddings and strongest latents of texts; made if they are missing."""
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
        model = self.encoder.fingerprint.digest + str(self.encoder.backbone.dtype)
        folder = self.folder / f"{name}-{digest}-{model[:12]}"
        made = TextCache(folder, self.encoder, self.first, kind=kind, identity=(model, digest))
        with click.progressbar(length=len(texts), label=name, file=sys.stderr) as bar:
            bar.update(made.state.n_texts)
            made.fill(texts, bar.update)
        return made.open()

    @torch.no_grad()
    def latents(self, tokens: TextCache, autoencoder: TokenAutoencoder) -> Rows:
        """`indices`, `values` and `offsets` of texts."""
        fingerprint, k = autoencoder_fingerprint(autoencoder), autoencoder.config.k
        is_first = fingerprint == self.first_fingerprint and k <= tokens.state.n_candidates
        made = "near" if self.near or is_first else "all"
        saved = tokens.folder / f"{made}-{fingerprint[:12]}-k{k}.npz"
        if not saved.is_file():
            if made == "near":
                rows = near_latents(tokens, autoencoder, is_first=is_first)
            else:
                with autoencoder.computing_in(self.encoder.backbone.dtype):
                    rows = latents_of(autoencoder, tokens.embedded(0, tokens.state.n_texts))
            with saved.with_suffix(".tmp").open("wb") as file:
                np.savez(file, *rows)
            saved.with_suffix(".tmp").rename(saved)
        with np.load(saved) as found:
            return found["arr_0"], found["arr_1"], found["arr_2"]


def near_latents(tokens: TextCache, autoencoder: TokenAutoencoder, *, is_first: bool) -> Rows:
    """Like `latents_of`, of the latents in `tokens` alone."""
    columns = autoencoder.W_enc.T.contiguous()
    indices, values, sizes = [], [], []
    for start in range(0, tokens.state.n_texts, TEXTS_AT_ONCE):
        some = range(start, min(start + TEXTS_AT_ONCE, tokens.state.n_texts))
        taken = tokens.take(some, columns.device)
        pre = taken.pre if is_first else near_pre(taken, autoencoder, columns)
        top = pre.topk(autoencoder.config.k, dim=1)
        lengths = torch.bincount(taken.text_of_token, minlength=len(some))
        packed = TokenLatents(
            top.values.relu(), taken.latents.gather(1, top.indices), boundaries(lengths)
        )
        texts, latent, value = pool(packed, autoencoder.config.n_latents)
        indices.append(latent.numpy().astype(np.int32))
        values.append(value.numpy())
        sizes.append(np.bincount(texts.numpy(), minlength=len(some)))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return np.concatenate(indices), np.concatenate(values), offsets


def near_pre(
    taken: Candidates, autoencoder: TokenAutoencoder, columns: torch.Tensor
) -> torch.Tensor:
    """Pre-activations of each token's candidates by another model, `[n_tokens, n]`."""
    x = autoencoder.normalize(taken.hidden) - autoencoder.b_pre
    parts = [
        torch.bmm(columns[near], each[:, :, None])[:, :, 0]
        for each, near in zip(torch.split(x, 256), torch.split(taken.latents, 256), strict=True)
    ]
    return torch.cat(parts) + autoencoder.b_enc[taken.latents]


def only(grades: dict[str, int], chosen: set[str]) -> dict[str, int]:
    """The grades of the chosen documents."""
    return {document: grade for document, grade in grades.items() if document in chosen}


@click.command(cls=Benchmark)
@click.option("--on", "collections", multiple=True, required=True, help="FOLDER:SPLIT")
@click.option("--documents", type=int, help="Documents of each collection; all without it.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Kept for reuse.")
@click.option("--near", is_flag=True, help="Only latents that are near the first model's.")
@click.option("--k", "ks", multiple=True, type=int, help="Latents a token; the model's k without.")
@click.argument("models", nargs=-1, required=True)
def main(
    collections: tuple[str, ...],
    documents: int | None,
    cache: Path | None,
    near: bool,
    ks: tuple[int, ...],
    models: tuple[str, ...],
) -> None:
    """Print a table: a row per collection, model and k."""
    autoencoders = []
    for name, k in product(models, ks or (None,)):
        autoencoder = TokenAutoencoder.load(model_path(name)).requires_grad_(False)
        if k is not None:
            autoencoder.config = replace(autoencoder.config, k=k)
        autoencoders.append((Path(name).name + (f", k {k}" if k else ""), autoencoder))
    encoder = LatentEncoder.load(models[0])
    click.echo("| collection | questions | model | latent | hybrid | terms | postings |")
    click.echo("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        kept = Cache(cache or Path(folder), encoder, near=near)
        for named in collections:
            part = Part(named, documents, kept)
            first = None
            for name, autoencoder in autoencoders:
                judged = part.judge(autoencoder)
                first = judged if first is None else first
                errors = (judged.ndcg - first.ndcg).std(axis=1) / len(part.queries) ** 0.5
                cells = [
                    f"{mean:.4f}" + (f" ± {error:.4f}" if judged is not first else "")
                    for mean, error in zip(judged.ndcg.mean(axis=1), errors, strict=True)
                ]
                click.echo(
                    f"| {part.name} | {len(part.queries)} | {name} | "
                    f"{' | '.join(cells)} | {judged.terms:.1f} | {judged.postings:.2f} |"
                )


if __name__ == "__main__":
    main()
