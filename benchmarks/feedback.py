"""What questions gain that take over latent terms of their first hits, by BM25 in memory.

    python benchmarks/feedback.py scifact/:train nfcorpus/:dev --out encoded/ --curve

Documents are encoded once and cached in a folder of --out for each collection. Words are
lower-cased, not stemmed, and score beside latents at the boost of hybrid forms; the first hits are
those of the hybrid ranking. Questions by table are encoded by the question table that an index of
the documents has, of their own words first. Each cell is the change of nDCG@10 and of R@100 against
the same questions without feedback. The first line of the table is the setting of the product; with
--curve, one setting changes in each of the others. `±` is the standard error of the mean.

The last columns are means over the collections, each of which counts the same. Their p is that of
the paired randomisation test: the names of the two systems are assigned at random within each
collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from cached_encodings import Row, encoded
from command import Benchmark, load_judged
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
from latent_ingest.connector.questions.building import build_table
from latent_ingest.connector.questions.index_table import choose_words
from latent_ingest.connector.questions.question_table import QuestionTable
from latent_ingest.connector.questions.word_counts import WordCounts
from latent_ingest.connector.questions.words import words_of

MEASURES = parse_measures(["nDCG@10", "R@100"])

NONE = "no feedback"

RESAMPLES = 10_000


@dataclass(frozen=True)
class Setting:
    """How questions take over terms; by default, as in the product."""

    hits: int = feedback.FEEDBACK_HITS
    terms: int = feedback.FEEDBACK_TERMS
    amount: float = feedback.AMOUNT
    fall: float = feedback.FALL_BY_RANK
    full_words: float = feedback.FULL_WORDS
    own_too: bool = False
    """Whether terms that the question has itself get more weight."""
    away: float = 0.0
    """Part of the mean of the low ranks that is taken away from the terms of the first hits."""
    low: tuple[int, int] = (20, 50)
    """The low ranks."""
    sharp: float = 0.0
    """If not 0, the amount falls with the third hit's score: `min(1, sharp * (1 - s3 / s1))`."""
    rounds: int = 1

    def __str__(self) -> str:
        words = "any length" if np.isinf(self.full_words) else f"{self.full_words:g} words"
        parts = [
            f"{self.hits} hits by rank^-{self.fall:g}, {self.terms} terms, "
            f"{self.amount:g} x, {words}"
        ]
        if self.own_too:
            parts.append("of the question, too")
        if self.away:
            parts.append(f"less {self.away:g} of ranks {self.low[0] + 1} to {self.low[1]}")
        if self.sharp:
            parts.append(f"by sharpness x {self.sharp:g}")
        if self.rounds > 1:
            parts.append(f"{self.rounds} rounds")
        return ", ".join(parts)


PRODUCT = Setting()
CURVE = (
    *(replace(PRODUCT, hits=n) for n in (1, 2, 5, 10)),
    *(replace(PRODUCT, fall=by) for by in (0.0, 1.0, 2.0)),
    *(replace(PRODUCT, terms=n) for n in (16, 48, 64)),
    *(replace(PRODUCT, amount=by) for by in (0.2, 0.4, 0.6, 1.0, 1.2, 1.6)),
    *(replace(PRODUCT, full_words=n) for n in (3, 6, 8, float("inf"))),
    *(replace(PRODUCT, own_too=True, amount=by) for by in (0.8, 1.2)),
    *(replace(PRODUCT, away=by) for by in (0.25, 0.5, 1.0)),
    *(replace(PRODUCT, away=0.5, low=low) for low in ((50, 100),)),
    *(replace(PRODUCT, sharp=3.0, amount=1.2, full_words=n) for n in (4, 6)),
    replace(PRODUCT, rounds=2),
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
        feedback.FULL_WORDS = setting.full_words  # type: ignore[misc,assignment]
        feedback.FALL_BY_RANK = setting.fall  # type: ignore[misc]
        feedback.AWAY = setting.away  # type: ignore[misc]
        found = {}
        for query, some in own.items():
            ranked = without_itself(query, first[query])
            ids = list(ranked)
            feedback.AMOUNT = setting.amount  # type: ignore[misc]
            if setting.sharp and len(ids) > 2:
                third = ranked[ids[2]] / ranked[ids[0]]
                feedback.AMOUNT *= min(1.0, setting.sharp * (1 - third))  # type: ignore[misc]
            low = ids[slice(*setting.low)] if setting.away else []
            expansion = Expansion.of(
                self.documents(ids[: setting.hits]),
                self.idf,
                against=self.documents(low),
                most=setting.terms,
            )
            merged = self.added(query, some, expansion, setting)
            found[query] = best(self.ids, self.hybrid(query, merged), HITS)
        if setting.rounds > 1:
            return self.fed_back(own, found, replace(setting, rounds=setting.rounds - 1))
        return found

    def documents(self, ids: Sequence[str]) -> list[Document]:
        return [Document(id, self.counts[id]) for id in ids]

    def added(
        self, query: str, own: list[WeightedTerm], expansion: Expansion, setting: Setting
    ) -> list[WeightedTerm]:
        text = self.collection.queries[query]
        if not setting.own_too:
            return expansion.added_to(own, text, self.idf, MAX_QUERY_TERMS)
        # Added to a single term of the same weight, in place of the question's.
        total = sum(item.weight for item in own[:MAX_QUERY_TERMS])
        alone = [WeightedTerm("", total, 0.0)]
        merged = {item.term: item for item in own}
        for item in expansion.added_to(alone, text, self.idf, 1):
            if item.term:
                before = merged[item.term].weight if item.term in merged else 0.0
                merged[item.term] = replace(item, weight=before + item.weight)
        return sorted(merged.values(), key=lambda item: -item.weight * item.idf)


Changes = dict[tuple[str, str], NDArray[np.float64]]
"""Question kind and setting → changes of nDCG@10 and R@100 by feedback, `[n_questions, 2]`."""


def index_table(texts: Sequence[str], questions: Iterable[str]) -> QuestionTable:
    """The question table that an index of some texts has, as far as some questions need it."""
    counts = WordCounts()
    for text in texts:
        counts.add_document(text)
    chosen = set(choose_words(counts, QuestionTable.load()).words)
    asked = sorted({word for question in questions for word in words_of(question)})
    return build_table(LatentEncoder.shared(), [word for word in asked if word in chosen])


def changes_of(judged: Judged, table: QuestionTable, curve: bool) -> Changes:
    """The values without feedback, and the changes by each setting."""
    queries = judged.collection.queries
    model = QueryEncoder(LatentEncoder.shared())
    kinds = {
        "model": model.encode(list(queries.values())),
        "table": [table.encode(text) for text in queries.values()],
    }
    found = {}
    for kind, encodings in kinds.items():
        own = {q: judged.weighted(*one) for q, one in zip(queries, encodings, strict=True)}
        first = judged.plain(own)
        before = judged.values({q: measured(q, hits) for q, hits in first.items()})
        found[kind, NONE] = before
        for setting in (PRODUCT, *(CURVE if curve else ())):
            after = judged.fed_back(own, first, setting)
            values = judged.values({q: measured(q, hits) for q, hits in after.items()})
            found[kind, str(setting)] = values - before
    return found


def mean_and_p(parts: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """The mean of the collections' mean changes, and its two-sided p."""
    generator = np.random.default_rng(0)
    at_random = np.zeros(RESAMPLES)
    for part in parts:
        signs = generator.integers(0, 2, (RESAMPLES, len(part)), dtype=np.int8) * 2 - 1
        at_random += signs @ part / len(part) / len(parts)
    mean = float(np.mean([part.mean() for part in parts]))
    as_large = np.abs(at_random) >= abs(mean) - 1e-12
    return mean, float((1 + as_large.sum()) / (1 + RESAMPLES))


def cells_of(kind_and_setting: tuple[str, str], parts: Sequence[NDArray[np.float64]]) -> list[str]:
    """The cells of one line, of all collections and of their mean."""
    if kind_and_setting[1] == NONE:
        means = [*(part.mean(0) for part in parts), np.mean([part.mean(0) for part in parts], 0)]
        return [f"{value:.4f}" for two in means for value in two]
    cells = []
    for part in parts:
        error = part.std(0, ddof=1) / len(part) ** 0.5
        cells += [f"{m:+.4f} ± {by:.4f}" for m, by in zip(part.mean(0), error, strict=True)]
    overall = [mean_and_p([part[:, place] for part in parts]) for place in range(len(MEASURES))]
    return [*cells, *(f"{mean:+.4f} (p = {p:.4f})" for mean, p in overall)]


@click.command(cls=Benchmark)
@click.argument("collections", nargs=-1, required=True, metavar="FOLDER:SPLIT...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("encoded"))
@click.option("--curve", is_flag=True, help="Change each setting by itself.")
def main(collections: tuple[str, ...], out: Path, curve: bool) -> None:
    """Print what each setting of feedback changes, on each collection and in the mean."""
    found = []
    titles = []
    for name in collections:
        collection = load_judged(name)
        texts = [(document.id, document.text) for document in collection.documents()]
        rows = encoded(out / collection.name, texts)
        judged = Judged(collection, rows, LatentEncoder.shared().n_latents)
        titles += [f"{collection.name} {collection.split} {measure}" for measure in MEASURES]
        table = index_table([text for _, text in texts], collection.queries.values())
        found.append(changes_of(judged, table, curve))
    titles += [f"mean {measure}" for measure in MEASURES]
    click.echo(f"| questions by | feedback | {' | '.join(titles)} |")
    click.echo(f"|---|---|{'---|' * len(titles)}")
    for row in found[0]:
        cells = cells_of(row, [changes[row] for changes in found])
        click.echo(f"| {row[0]} | {row[1]} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
