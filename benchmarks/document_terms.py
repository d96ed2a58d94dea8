"""What an index loses, and what it saves, if each document keeps only its heaviest latents.

    python benchmarks/document_terms.py scifact/:train nfcorpus/:dev --out encoded/

Documents are encoded once and cached in a folder of --out for each collection. BM25 is in memory,
with lengths as engines round them; words are lower-cased, not stemmed, and score beside latents at
the boost of hybrid forms. A question has at most as many latent terms as a request has.

Latents are kept by their weight, their count (of equal counts the lowest latents), their weight
times the idf of the model or its square root, or the score `count / (count + k1) * idf`: a number
in each document, or a part of each document's. Or those that few documents have are kept, in all
documents, or in the questions alone. `terms` are a document's latent terms on average, `postings`
the documents that have a term of a question, summed over its terms, on average over the questions.
`±` is the standard error of the mean difference from the hybrid ranking with all latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from cached_encodings import encoded_vectors
from command import Benchmark, load_judged
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.evaluation.measures import means, parse_measures, per_query
from latent_ingest.connector.evaluation.probe import WordIndex
from latent_ingest.connector.evaluation.rankings import HITS, Ranking, measured
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS
from latent_ingest.mappings import DEFAULT_K1

MEASURES = parse_measures(["nDCG@10", "R@100"])
NUMBERS = (1024, 768, 512, 384, 256, 192, 128, 96, 64)
PARTS = (0.75, 0.5, 0.35, 0.25)
PART_BY = ("weight", "weight * idf", "weight * sqrt(idf)")
SHARES = (0.5, 0.4, 0.3, 0.2, 0.1)

Heaviness = Callable[[NDArray[np.int32], NDArray[np.float32]], NDArray[np.float64]]
"""Latents and activations of all documents, `[nnz]` → by what a document's latents are chosen."""


@dataclass(frozen=True)
class Figures:
    """What one index gives."""

    quality: list[float]
    """nDCG@10 of latents and of hybrid, R@100 of both."""
    hybrid: NDArray[np.float64]
    """nDCG@10 of hybrid, of each question."""
    terms: float
    """Latent terms of a document."""
    postings: float
    """Postings of a question."""

    def row(self, title: str, first: Figures) -> str:
        """A line of the table; `first` is what others are compared with."""
        latent, hybrid, *recalls = self.quality
        change = self.hybrid - first.hybrid
        error = change.std(ddof=1) / len(change) ** 0.5
        cells = [
            title,
            f"{latent:.4f}",
            f"{hybrid:.4f}",
            f"{change.mean():+.4f} ± {error:.4f}",
            *(f"{recall:.4f}" for recall in recalls),
            f"{self.terms:.0f}",
            f"{self.postings:,.0f}",
            f"{self.postings / first.postings - 1:+.0%}",
        ]
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Judged:
    """A collection with its documents and questions encoded."""

    collection: Collection
    ids: list[str]
    latents: NDArray[np.int32]
    """`[nnz]`, of all documents, those with count 0 left out."""
    values: NDArray[np.float32]
    """Their activations."""
    row: NDArray[np.int64]
    """Number of the document of each."""
    questions: list[tuple[NDArray[np.int32], NDArray[np.float32]]]
    """Latents and weights of each question."""
    words: list[NDArray[np.float32]]
    """Scores of all documents by words, for each question."""
    n_latents: int

    @classmethod
    def load(cls, name: str, out: Path, encoder: LatentEncoder) -> Judged:
        collection = load_judged(name)
        documents = list(collection.documents())
        texts = [document.text for document in documents]
        parts = list(encoded_vectors(out / collection.name, texts))
        n_entries = np.concatenate([np.diff(at) for _, _, at in parts])
        latents = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
        row = np.repeat(np.arange(len(texts)), n_entries)
        found = terms.counts(values) > 0
        asked = list(collection.queries.values())
        vectors = encoder.encode(asked, kind="query")
        index = WordIndex(texts)
        return cls(
            collection,
            [document.id for document in documents],
            latents[found],
            values[found],
            row[found],
            [
                (vectors.indices[first:last], terms.weights(vectors.values[first:last]))
                for first, last in pairwise(vectors.offsets)
            ],
            [index.bm25.scores(*index.query(text)) for text in asked],
            encoder.n_latents,
        )

    def places(self, heaviness: Heaviness) -> NDArray[np.int64]:
        """Place of each entry in its document, the heaviest first, from 0; `[nnz]`."""
        order = np.lexsort((self.latents, -heaviness(self.latents, self.values), self.row))
        first = np.cumsum(self.n_entries) - self.n_entries
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order)) - np.repeat(first, self.n_entries)
        return places

    def part(self, places: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
        """Which entries are among the first of their documents, a share of each, `[nnz]`."""
        number = np.ceil(share * self.n_entries)
        kept: NDArray[np.bool_] = places < np.repeat(number, self.n_entries)
        return kept

    @property
    def n_entries(self) -> NDArray[np.int64]:
        """Latents of each document."""
        return np.bincount(self.row, minlength=len(self.ids))

    def rarer(self, share: float) -> NDArray[np.bool_]:
        """Which entries are of latents that at most a share of the documents have, `[nnz]`."""
        frequency = np.bincount(self.latents, minlength=self.n_latents)
        rare: NDArray[np.bool_] = frequency[self.latents] <= share * len(self.ids)
        return rare

    def every(self) -> NDArray[np.bool_]:
        return np.ones(len(self.latents), dtype=np.bool_)

    def measure(self, kept: NDArray[np.bool_], share: float = 1.0) -> Figures:
        """Figures of an index with the entries `kept`.

        Questions have the latents that at most a share of its documents have.
        """
        n_entries = np.bincount(self.row[kept], minlength=len(self.ids))
        bm25 = MemoryBM25(
            self.latents[kept],
            terms.counts(self.values[kept]),
            np.concatenate([[0], np.cumsum(n_entries)]),
            self.n_latents,
            exact_lengths=False,
        )
        frequency = bm25.document_frequency
        rankings: list[Ranking] = [{}, {}]
        postings = 0
        for query, asked, words in zip(
            self.collection.queries, self.questions, self.words, strict=True
        ):
            latents, weights = asked
            there = (frequency[latents] > 0) & (frequency[latents] <= share * len(self.ids))
            latents, weights = latents[there], weights[there]
            used = np.argsort(-weights * bm25.idf[latents], kind="stable")[:MAX_QUERY_TERMS]
            postings += int(frequency[latents[used]].sum())
            scores = bm25.scores(latents[used], weights[used])
            both = scores, words + LATENT_BOOST * scores
            for ranking, total in zip(rankings, both, strict=True):
                ranking[query] = measured(query, best(self.ids, total, HITS))
        of_queries = [per_query(self.collection.qrels, one, MEASURES) for one in rankings]
        found = [means(values, MEASURES) for values in of_queries]
        return Figures(
            quality=[one[str(measure)] for measure in MEASURES for one in found],
            hybrid=np.array([values[str(MEASURES[0])] for values in of_queries[1].values()]),
            terms=float(n_entries.mean()),
            postings=postings / len(self.questions),
        )


def ways(idf: NDArray[np.float32]) -> dict[str, Heaviness]:
    """Ways to choose a document's latents, by name; `idf` is that of the model."""

    def counts(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return terms.counts(values).astype(np.float64)

    return {
        "weight": lambda latents, values: values.astype(np.float64),
        "count": lambda latents, values: counts(values),
        "weight * idf": lambda latents, values: np.sqrt(values.astype(np.float64)) * idf[latents],
        "weight * sqrt(idf)": lambda latents, values: np.sqrt(
            values.astype(np.float64) * idf[latents]
        ),
        "score": lambda latents, values: (
            counts(values) / (counts(values) + DEFAULT_K1) * idf[latents]
        ),
    }


def choices(
    judged: Judged, by: dict[str, Heaviness]
) -> Iterator[tuple[str, NDArray[np.bool_], float]]:
    """Yield names, the entries that are kept, and the share for `measure`."""
    for way, heaviness in by.items():
        places = judged.places(heaviness)
        for number in NUMBERS:
            yield f"{number} by {way}", places < number, 1.0
        for part in PARTS if way in PART_BY else ():
            yield f"{part:.0%} by {way}", judged.part(places, part), 1.0
    for share in SHARES:
        yield f"in at most {share:.0%} of documents", judged.rarer(share), 1.0
        yield f"the same, in questions alone: {share:.0%}", judged.every(), share


@click.command(cls=Benchmark)
@click.argument("collections", nargs=-1, required=True, metavar="FOLDER:SPLIT...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("encoded"))
def main(collections: tuple[str, ...], out: Path) -> None:
    """Print quality and postings of each way to keep fewer latents."""
    encoder = LatentEncoder.shared()
    click.echo(
        "| collection | kept | nDCG@10 latent | hybrid | difference | R@100 latent | hybrid | "
        "terms | postings | |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for name in collections:
        judged = Judged.load(name, out, encoder)
        title = f"{judged.collection.name} {judged.collection.split}"
        first = judged.measure(judged.every())
        click.echo(first.row(f"{title} | all", first))
        for what, kept, most in choices(judged, ways(encoder.idf())):
            click.echo(judged.measure(kept, most).row(f"{title} | {what}", first))


if __name__ == "__main__":
    main()
