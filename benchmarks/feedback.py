"""What questions gain that take over latent terms of their first hits, by BM25 in memory.

    python benchmarks/feedback.py scifact/:train nfcorpus/:dev --out encoded/ --curve

Documents are encoded once and cached in a folder of --out for each collection. Words are
lower-cased, not stemmed, and score beside latents at the boost of hybrid forms; the first hits are
those of the hybrid ranking. Each cell is the change of nDCG@10 and of R@100 against the same
questions without feedback. The first line of the table is the setting of the product; with
--curve, one setting changes in each of the others. `±` is the standard error of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from cached_encodings import Row, encoded
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25, best
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.evaluation.measures import parse_measures, per_query
from latent_ingest.connector.evaluation.probe import WordIndex
from latent_ingest.connector.evaluation.rankings import HITS, Ranking, measured, without_itself
from latent_ingest.connector.querying.feedback import expansion as feedback
from latent_ingest.connector.querying.feedback.expansion import Document, Expansion
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS
from latent_ingest.connector.querying.term_weights import WeightedTerm
from latent_ingest.connector.questions.question_table import QuestionTable

MEASURES = parse_measures(["nDCG@10", "R@100"])


@dataclass(frozen=True)
class Setting:
    """How questions take over terms; by default, as in the product."""

    hits: int = feedback.FEEDBACK_HITS
    terms: int = feedback.FEEDBACK_TERMS
    amount: float = feedback.AMOUNT
    fall: float = feedback.FALL_BY_RANK
    full_words: float = feedback.FULL_WORDS

    def __str__(self) -> str:
        words = "any length" if np.isinf(self.full_words) else f"{self.full_words:g} words"
        return (
            f"{self.hits} hits by rank^-{self.fall:g}, {self.terms} terms, "
            f"{self.amount:g} x, {words}"
        )


PRODUCT = Setting()
CURVE = (
    *(replace(PRODUCT, hits=n) for n in (1, 2, 5, 10)),
    *(replace(PRODUCT, fall=by) for by in (0.0, 1.0, 2.0)),
    *(replace(PRODUCT, terms=n) for n in (16, 48, 64)),
    *(replace(PRODUCT, amount=by) for by in (0.2, 0.4, 0.8, 1.6)),
    *(replace(PRODUCT, full_words=n) for n in (3, 6, 8, float("inf"))),
)


class Judged:
    """A collection in memory: BM25 of its latents and of its words."""

    def __init__(self, collection: Collection, rows: Sequence[Row], n_latents: int) -> None:
        self.collection = collection
        self.ids = [row[0] for row in rows]
        self.counts = {
            row[0]: dict(zip(*map(np.ndarray.tolist, row[2:]), strict=True)) for row in rows
        }
        self.bm25 = MemoryBM25(
            np.concatenate([row[2] for row in rows]),
            np.concatenate([row[3] for row in rows]),
            np.cumsum([0, *(len(row[2]) for row in rows)]),
            n_latents,
            exact_lengths=False,
        )
        self.idf = np.where(self.bm25.document_frequency > 0, self.bm25.idf, 0).astype(np.float32)
        words = WordIndex([row[1] for row in rows])
        self.words = {
            q: words.bm25.scores(*words.query(text)) for q, text in collection.queries.items()
        }

    def weighted(
        self, latents: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> list[WeightedTerm]:
        """Terms of a question, heaviest by `w * idf` first."""
        order = np.argsort(-weights * self.idf[latents], kind="stable")
        rows = zip(latents[order].tolist(), weights[order].tolist(), strict=True)
        return [WeightedTerm(terms.term(i), w, float(self.idf[i])) for i, w in rows]

    def hybrid(self, query: str, own: Sequence[WeightedTerm]) -> NDArray[np.float32]:
        used = own[:MAX_QUERY_TERMS]
        latents = np.array([terms.latent_of(item.term) for item in used], dtype=np.int32)
        weights = np.array([item.weight for item in used], dtype=np.float32)
        scores: NDArray[np.float32] = self.words[query] + LATENT_BOOST * self.bm25.scores(
            latents, weights
        )
        return scores

    def values(self, rankings: Ranking) -> NDArray[np.float64]:
        """nDCG@10 and R@100 of each question, `[n_questions, 2]`."""
        found = per_query(self.collection.qrels, rankings, MEASURES)
        return np.array([[row[str(m)] for m in MEASURES] for row in found.values()])

    def plain(self, own: dict[str, list[WeightedTerm]]) -> Ranking:
        return {q: best(self.ids, self.hybrid(q, own[q]), HITS) for q in own}

    def fed_back(
        self, own: dict[str, list[WeightedTerm]], first: Ranking, setting: Setting
    ) -> Ranking:
        """The rankings of questions that take over terms of the first hits of others."""
        feedback.AMOUNT, feedback.FULL_WORDS = setting.amount, setting.full_words  # type: ignore[misc,assignment]
        feedback.FALL_BY_RANK = setting.fall  # type: ignore[misc]
        found = {}
        for query, some in own.items():
            hits = list(without_itself(query, first[query]))[: setting.hits]
            documents = [Document(id, self.counts[id]) for id in hits]
            expansion = Expansion.of(documents, self.idf, most=setting.terms)
            text = self.collection.queries[query]
            merged = expansion.added_to(some, text, self.idf, MAX_QUERY_TERMS)
            found[query] = best(self.ids, self.hybrid(query, merged), HITS)
        return found


def rows_of(judged: Judged, curve: bool) -> Iterator[tuple[str, str, list[str]]]:
    """Question kind, setting, and cells of the table, for one collection."""
    queries = judged.collection.queries
    table = QuestionTable.load()
    model = QueryEncoder(LatentEncoder.shared())
    kinds = {
        "model": model.encode(list(queries.values())),
        "table": [table.encode(text) for text in queries.values()],
    }
    for kind, encodings in kinds.items():
        own = {q: judged.weighted(*one) for q, one in zip(queries, encodings, strict=True)}
        first = judged.plain(own)
        before = judged.values({q: measured(q, hits) for q, hits in first.items()})
        yield kind, "no feedback", [f"{value:.4f}" for value in before.mean(0)]
        for setting in (PRODUCT, *(CURVE if curve else ())):
            found = judged.fed_back(own, first, setting)
            change = judged.values({q: measured(q, hits) for q, hits in found.items()}) - before
            error = change.std(0, ddof=1) / len(change) ** 0.5
            pairs = zip(change.mean(0), error, strict=True)
            yield kind, str(setting), [f"{mean:+.4f} ± {by:.4f}" for mean, by in pairs]


@click.command()
@click.argument("collections", nargs=-1, required=True, metavar="FOLDER:SPLIT...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("encoded"))
@click.option("--curve", is_flag=True, help="Change each setting by itself.")
def main(collections: tuple[str, ...], out: Path, curve: bool) -> None:
    cells: dict[tuple[str, str], list[str]] = {}
    titles = []
    for name in collections:
        folder, _, split = name.rpartition(":")
        collection = Collection.load(Path(folder), split)
        texts = [(document.id, document.text) for document in collection.documents()]
        rows = encoded(out / collection.name, texts)
        judged = Judged(collection, rows, LatentEncoder.shared().n_latents)
        titles += [f"{collection.name} {split} {measure}" for measure in MEASURES]
        for kind, setting, some in rows_of(judged, curve):
            cells.setdefault((kind, setting), []).extend(some)
    click.echo(f"| questions by | feedback | {' | '.join(titles)} |")
    click.echo(f"|---|---|{'---|' * len(titles)}")
    for (kind, setting), some in cells.items():
        click.echo(f"| {kind} | {setting} | {' | '.join(some)} |")


if __name__ == "__main__":
    main()
