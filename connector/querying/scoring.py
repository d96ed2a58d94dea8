"""Scoring of a query: its form, its matching and its settings.

Four forms:

hybrid            words, and latent terms at a small boost
latent            latent terms in place of words
two_phase         latent; the heaviest terms retrieve, the rest rescore the first hits
hybrid_two_phase  hybrid, with its latent terms in two phases

`auto` is hybrid in one phase or two, whichever costs the engine less.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from latent_ingest.connector.errors import InputError

if TYPE_CHECKING:
    from latent_ingest.connector.engine.client import EngineInfo

MATCHINGS = ("expand", "keep")

# Latent scores are several times word scores, hence a small factor. nDCG@10 at .1, .15 and .2 on
# the training judgements of SciFact: .732, .731, .726; on the dev judgements of NFCorpus: .332,
# .336, .337. It is no better with k1 3 instead of 2, and `latent-ingest tune` finds no boost that
# is better outside noise.
LATENT_BOOST = 0.15

# BM25's k1 of word fields, in every engine unless set otherwise.
WORDS_K1 = 1.2

# nDCG@10 with at most 64, 96, 128, 192 and 512 terms, latent: .702, .706, .712, .714, .714 on the
# training judgements of SciFact (claims of 20 words), .330 for all on the dev judgements of
# NFCorpus (a few words); hybrid on SciFact: .734, .735, .736, .736, .736.
MAX_QUERY_TERMS = 192

AUTO = "auto"

# Microseconds in OpenSearch 3.8, fitted to `benchmarks/scale.py` with 10 thousand to a million
# documents: for a term that retrieves, for each of its postings, and for each where Lucene skips
# none: where words decide what matches, and in engines that do not skip in blocks; for a term that
# rescores, and for each block of 128 of its postings that holds a rescored hit.
TERM = 12.0
POSTING = 0.002
POSTING_NOT_SKIPPED = 0.04
RESCORING_TERM = 14.0
RESCORING_BLOCK = 0.4
BLOCK = 128

# One phase is exact, so two must take at most this part of its time.
WORTH_TWO_PHASES = 0.9

# As good as one phase, on real documents and among a million; a smaller window is hardly cheaper,
# and loses hits among near copies. docs/rewriting.md has the figures of `benchmarks/scale.py`.
HEAD_TERMS = 24
WINDOW = 150

# Rescoring has a price for each term and hit, and light terms seldom move a hit far. So the terms
# beyond the heads and twice as many rescore this part of the window.
WIDE = 3
NARROW = 4

# Words are a poor first phase, so where they retrieve alone, the window is as many times larger.
WORDS_WINDOW = 4


class Form(str, Enum):
    """Form of a query: what scores, in one phase or two. Its values are the public spelling.

    `Form("latent")` reads a spelling and raises InputError for an unknown one.
    """

    HYBRID = "hybrid"
    LATENT = "latent"
    TWO_PHASE = "two_phase"
    HYBRID_TWO_PHASE = "hybrid_two_phase"

    @classmethod
    def _missing_(cls, value: object) -> Form:
        raise InputError(f"form {value!r}: use one of {AUTO}, {', '.join(cls)}")

    def __str__(self) -> str:
        return self.value

    @property
    def words_score(self) -> bool:
        """Whether words score beside latent terms."""
        return self in (Form.HYBRID, Form.HYBRID_TWO_PHASE)

    @property
    def two_phases(self) -> bool:
        """Whether the head terms retrieve and a rescore adds the other latent terms."""
        return self in (Form.TWO_PHASE, Form.HYBRID_TWO_PHASE)

    @property
    def one_phase(self) -> Form:
        """This form in one phase."""
        return Form.HYBRID if self.words_score else Form.LATENT

    @property
    def two_phase(self) -> Form:
        """This form in two phases."""
        return Form.HYBRID_TWO_PHASE if self.words_score else Form.TWO_PHASE

    @property
    def latent_only(self) -> Form:
        """This form without the scores of words."""
        return Form.TWO_PHASE if self.two_phases else Form.LATENT


@dataclass(frozen=True, slots=True)
class Scoring:
    """Settings of a query that `latent-ingest tune` can choose."""

    latent_boost: float = LATENT_BOOST
    """Factor on latent scores beside words."""
    max_query_terms: int = MAX_QUERY_TERMS
    """Maximum number of latent terms per text."""
    head_terms: int = HEAD_TERMS
    """Latent terms that retrieve, in a form of two phases: the heaviest by `w * idf`."""
    window: int = WINDOW
    """Hits per shard that are rescored, in a form of two phases; a quarter of them by light terms,
    and four times as many where words retrieve alone."""
    query_k: int | None = None
    """Latents per token of a question; None for the model's k."""

    def __post_init__(self) -> None:
        for name in ("head_terms", "window"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be at least 1")

    @property
    def wide_terms(self) -> int:
        """Number of the heaviest terms, heads among them, that score the whole window."""
        return WIDE * self.head_terms

    def windows(self, least: int, *, words_retrieve: bool) -> tuple[int, int]:
        """Return the hits per shard that are rescored, and those of them that all terms rescore.

        Args:
            least: the least number of both, as the hits of a page.
            words_retrieve: whether the first phase is of words alone.
        """
        wide = self.window * (WORDS_WINDOW if words_retrieve else 1)
        return max(wide, least), max(self.window // NARROW, least, 1)


def hybrid_boost(engine: EngineInfo, k1: float, boost: float = LATENT_BOOST) -> float:
    """Return the latent boost that gives the same hybrid ranking on every engine.

    An engine that keeps BM25's factor k1 + 1 multiplies latent scores by k1 + 1 and word scores by
    2.2, compared with OpenSearch 3, for which `boost` is meant.

    Args:
        engine: the engine that is searched.
        k1: of BM25 on the latent field.
        boost: latent boost on OpenSearch 3.
    """
    return boost * (WORDS_K1 + 1) / (k1 + 1) if engine.keeps_k1_factor else boost
