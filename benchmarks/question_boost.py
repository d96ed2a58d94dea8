"""What a boost of its own gains each question, by BM25 in memory.

    python benchmarks/question_boost.py scifact/:train nfcorpus/:dev --out encoded/

Latents score beside words at `base * (value / centre) ** power`, where the value is a property of
the question: its words, its latent terms, how rare its words are (idf, of the mean word and of the
rarest), the share of its words that the question table of the index has, or that documents have,
and the ratio of its best latent score to its best word score. The centre is the geometric mean over
the collections. Printed for each property is what gains most in nDCG@10 on the mean of the
collections; then that of all properties which is chosen without the collection that it is used on;
then the best boost of each question, if one knew it. Words are lower-cased, not stemmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from cached_encodings import encoded
from command import Benchmark, load_judged
from feedback import Judged, index_table
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import best
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.evaluation.rankings import HITS, measured
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS
from latent_ingest.connector.questions.question_table import STOP_WORDS, QuestionTable
from latent_ingest.connector.questions.words import words_of

BOOSTS = np.array([0.06, 0.08, 0.1, 0.125, LATENT_BOOST, 0.18, 0.22, 0.27, 0.33, 0.4, 0.5, 0.7])
BASES = (0.125, LATENT_BOOST, 0.18, 0.22)
POWERS = (-2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Rule:
    """A boost by a property of the question."""

    value: str
    power: float
    base: float

    def __str__(self) -> str:
        return f"{self.base:g}" + (f" x {self.value}^{self.power:g}" if self.power else "")


@dataclass
class Measured:
    """Questions of one collection and kind."""

    ndcg: NDArray[np.float64]
    """nDCG@10 by boost, `[n_questions, n_boosts]`."""
    values: dict[str, NDArray[np.float64]]
    """Properties of the questions, `[n_questions]` each, at least a little above 0."""

    def gain(self, rule: Rule, centres: dict[str, float]) -> float:
        boosts = rule.base * (self.values[rule.value] / centres[rule.value]) ** rule.power
        places = np.interp(np.log(boosts), np.log(BOOSTS), np.arange(len(BOOSTS)))
        chosen = self.ndcg[np.arange(len(self.ndcg)), np.rint(places).astype(int)]
        return float(np.mean(chosen - self.ndcg[:, BOOSTS == LATENT_BOOST][:, 0]))


def measure(judged: Judged, texts: Sequence[str], table: QuestionTable, kind: str) -> Measured:
    queries = judged.collection.queries
    if kind == "table":
        encodings = [table.encode(text) for text in queries.values()]
    else:
        encodings = QueryEncoder(LatentEncoder.shared()).encode(list(queries.values()))
    rankings: list[dict[str, dict[str, float]]] = [{} for _ in BOOSTS]
    rows = []
    frequency = Counter(word for text in texts for word in set(words_of(text)))
    known = set(table.words)
    for (query, text), one in zip(queries.items(), encodings, strict=True):
        used = judged.weighted(*one)[:MAX_QUERY_TERMS]
        latents = np.array([terms.latent_of(item.term) for item in used], dtype=np.int32)
        weights = np.array([item.weight for item in used], dtype=np.float32)
        scores = judged.bm25.scores(latents, weights)
        for ranking, boost in zip(rankings, BOOSTS, strict=True):
            total = judged.words[query] + np.float32(boost) * scores
            ranking[query] = measured(query, best(judged.ids, total, HITS))
        words = [word for word in dict.fromkeys(words_of(text)) if word not in STOP_WORDS]
        idf = [np.log(1 + len(texts) / (frequency[word] + 0.5)) for word in words] or [5.0]
        rows.append(
            {
                "words": max(1, len(text.split())),
                "latent terms": max(1, len(used)),
                "mean idf": np.mean(idf),
                "largest idf": max(idf),
                "in table": 0.1 + np.mean([word in known for word in words] or [1]),
                "in documents": 0.1 + np.mean([frequency[word] > 0 for word in words] or [1]),
                "latents to words": max(0.1, scores.max()) / max(0.1, judged.words[query].max()),
            }
        )
    ndcg = np.stack([judged.values(ranking)[:, 0] for ranking in rankings], axis=1)
    return Measured(ndcg, {name: np.array([row[name] for row in rows], float) for name in rows[0]})


@click.command(cls=Benchmark)
@click.argument("collections", nargs=-1, required=True, metavar="FOLDER:SPLIT...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("encoded"))
def main(collections: tuple[str, ...], out: Path) -> None:
    """Print what a boost of its own gains each question."""
    names = []
    judged = []
    for given in collections:
        collection = load_judged(given)
        documents = list(collection.documents())
        texts = [document.text for document in documents]
        rows = encoded(out / collection.name, [(one.id, one.text) for one in documents])
        names.append(f"{collection.name} {collection.split}")
        table = index_table(texts, collection.queries.values())
        judged.append((Judged(collection, rows, LatentEncoder.shared().n_latents), texts, table))
    click.echo(f"| questions by | boost | {' | '.join(names)} | mean |")
    click.echo(f"|---|---|{'---|' * (len(names) + 1)}")
    for kind in ("model", "table"):
        found = [measure(*one, kind) for one in judged]
        properties = list(found[0].values)
        centres = {
            name: float(np.exp(np.mean([np.log(one.values[name]).mean() for one in found])))
            for name in properties
        }
        rules = [
            Rule(name, power, base) for name in properties for power in POWERS for base in BASES
        ]
        gains = {rule: [one.gain(rule, centres) for one in found] for rule in rules}
        shown: list[tuple[str, list[float]]] = []
        flat = [rule for rule in rules if not rule.power and rule.value == properties[0]]
        shown += [(f"{rule} for all", gains[rule]) for rule in flat if rule.base != LATENT_BOOST]
        for name in properties:
            some = [rule for rule in rules if rule.value == name and rule.power]
            winner = max(some, key=lambda rule: float(np.mean(gains[rule])))
            shown.append((str(winner), gains[winner]))
        held = []
        for place in range(len(found)):
            others = {rule: np.delete(row, place) for rule, row in gains.items()}
            winner = max(rules, key=lambda rule: float(np.mean(others[rule])))
            held.append(gains[winner][place])
        shown.append(("chosen on the other collections", held))
        at = int(np.flatnonzero(BOOSTS == LATENT_BOOST)[0])
        shown.append(
            ("best of all", [float((m.ndcg.max(1) - m.ndcg[:, at]).mean()) for m in found])
        )
        for name, row in shown:
            cells = " | ".join(f"{value:+.4f}" for value in [*row, np.mean(row)])
            click.echo(f"| {kind} | {name} | {cells} |")


if __name__ == "__main__":
    main()
