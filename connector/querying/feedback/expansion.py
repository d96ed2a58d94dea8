"""Expansions: latent terms that a question takes over from documents, such as its first hits.

latent terms of documents → shares of the heaviest terms → a question's own terms and these
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.clause_limit import WORD
from latent_ingest.connector.querying.term_weights import WeightedTerm

# Chosen by `benchmarks/feedback.py`; docs/feedback.md has its figures. Of the heaviest
# `FEEDBACK_TERMS` of its hits, a question takes over those that it has not itself: the others found
# the hits, so they say nothing new. `AMOUNT` is the weight that all added terms have, in multiples
# of that of the question's own terms. It shrinks with the square of the number of words from
# `FULL_WORDS` on: long questions say enough themselves.
FEEDBACK_HITS = 3
FEEDBACK_TERMS = 32
AMOUNT = 0.8
FULL_WORDS = 4
FALL_BY_RANK = 1.5

# Part of the terms of documents that are not relevant that is taken away.
AWAY = 0.5

# Longest token that is read, in characters; one with `FEEDBACK_TERMS` has a few hundred.
LONGEST_TOKEN = 20_000
UNREADABLE = (
    zlib.error, ValueError, TypeError, KeyError, IndexError, RecursionError, InputError,
)  # fmt: skip

Counts = Mapping[int, int]
"""Latent → its count in a document."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document whose latent terms a question takes over."""

    id: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Expansion:
    """Latent terms that questions may take over from documents. Empty if they have none."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """Latent term → its share of the weight of all, heaviest first."""
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Latent term → ids of the documents it came from."""
    documents: tuple[str, ...] = ()
    """Ids of the documents."""
    fingerprint: str | None = None
    """Fingerprint of the model that made the latent terms, if known."""
    notes: tuple[str, ...] = ()
    """Documents without latent terms, or why there is no expansion."""

    @classmethod
    def of(
        cls,
        documents: Sequence[Document],
        idf: NDArray[np.float32],
        *,
        fingerprint: str | None = None,
        against: Sequence[Document] = (),
        by_rank: bool = True,
        most: int = FEEDBACK_TERMS,
        notes: Sequence[str] = (),
    ) -> Expansion:
        """Take over the heaviest terms of documents by `sqrt(count) * idf`.

        Args:
            documents: those whose terms are taken, the best first.
            idf: inverse document frequencies, `[n_latents]`. Other latents are left out.
            fingerprint: that of the model, for the token.
            against: documents whose terms are taken away.
            by_rank: whether later documents count for less.
            most: number of terms.
            notes: notes of the expansion.
        """
        sums = summed(documents, idf, by_rank=by_rank) - AWAY * summed(against, idf)
        chosen = np.flatnonzero(sums > 0)
        chosen = chosen[np.argsort(-sums[chosen], kind="stable")[:most]]
        shares = sums[chosen] / sums[chosen].sum() if len(chosen) else sums[chosen]
        names = [terms.term(latent) for latent in chosen.tolist()]
        return cls(
            shares={
                name: round(float(share), 6) for name, share in zip(names, shares, strict=True)
            },
            sources={
                name: tuple(one.id for one in documents if latent in one.counts)
                for name, latent in zip(names, chosen.tolist(), strict=True)
            },
            documents=tuple(one.id for one in documents),
            fingerprint=fingerprint,
            notes=tuple(notes),
        )

    def added_to(
        self, own: Sequence[WeightedTerm], text: str, idf: NDArray[np.float32], most: int
    ) -> list[WeightedTerm]:
        """Return a question's terms with new ones of the expansion, heaviest by `w * idf` first.

        Args:
            own: the terms of the question, heaviest first.
            text: the question, whose number of words decides how much is added.
            idf: inverse document frequencies, `[n_latents]`.
            most: terms of the question that count for the weight of the new ones.
        """
        words = len(WORD.findall(text))
        amount = AMOUNT * sum(item.weight for item in own[:most])
        amount *= min(1.0, FULL_WORDS / max(1, words)) ** 2
        known = {item.term for item in own}
        new = [item for item in self.weighted(idf) if item.term not in known]
        total = sum(item.weight for item in new)
        if not (total and amount):
            return list(own)
        taken = [replace(item, weight=amount * item.weight / total) for item in new]
        return sorted([*own, *taken], key=lambda item: -item.weight * item.idf)

    def weighted(self, idf: NDArray[np.float32]) -> list[WeightedTerm]:
        """Return the terms of the expansion alone, heaviest first, with their shares as weights."""
        found = [(term, share, terms.latent_of(term)) for term, share in self.shares.items()]
        return [
            WeightedTerm(term, share, float(idf[latent]))
            for term, share, latent in found
            if latent < len(idf) and idf[latent] > 0
        ]

    @property
    def token(self) -> str:
        """The expansion as a string of letters, digits, `-` and `_`, for the next pages."""
        numbers = {name: place for place, name in enumerate(self.documents)}
        rows = [
            [term, share, [numbers[id] for id in self.sources.get(term, ())]]
            for term, share in self.shares.items()
        ]
        content = {"v": 1, "model": self.fingerprint, "from": self.documents, "terms": rows}
        packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def read(cls, token: str) -> Expansion:
        """Return the expansion of a token; raises InputError if it is none."""
        try:
            if len(token) > LONGEST_TOKEN:
                raise ValueError
            packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            unpacked = zlib.decompressobj().decompress(packed, 10 * LONGEST_TOKEN)
            return cls._of_content(json.loads(unpacked))
        except UNREADABLE as error:
            raise InputError(
                f"feedback {token[:20]!r}: not a token; give that of an earlier answer, or True"
            ) from error

    @classmethod
    def _of_content(cls, content: Any) -> Expansion:
        if content["v"] != 1:
            raise ValueError
        ids = tuple(map(str, content["from"]))
        rows = [(str(row[0]), float(row[1]), row[2]) for row in content["terms"]]
        if not all(terms.latent_of(term) >= 0 and 0 < share <= 1 for term, share, _ in rows):
            raise ValueError
        return cls(
            shares={term: share for term, share, _ in rows},
            sources={term: tuple(ids[place] for place in places) for term, _, places in rows},
            documents=ids,
            fingerprint=content["model"],
        )

    def lines(self) -> list[str]:
        """Return the expansion in lines to read."""
        if not self.shares:
            return [f"feedback: {note}" for note in self.notes or ("no latent terms",)]
        line = f"feedback: latent terms of {', '.join(self.documents)}"
        return [line, *(f"feedback: {note}" for note in self.notes)]

    def to_json(self) -> dict[str, Any]:
        """Return what an answer says of the expansion."""
        return {
            "token": self.token,
            "documents": list(self.documents),
            "terms": dict(self.shares),
            "notes": list(self.notes),
        }


def summed(
    documents: Sequence[Document], idf: NDArray[np.float32], *, by_rank: bool = False
) -> NDArray[np.float64]:
    """Return the mean of `sqrt(count) * idf` over documents, `[n_latents]`."""
    sums = np.zeros(len(idf), dtype=np.float64)
    parts = [(place + 1) ** -FALL_BY_RANK if by_rank else 1.0 for place in range(len(documents))]
    for document, part in zip(documents, parts, strict=True):
        latents = np.fromiter(document.counts.keys(), dtype=np.int64, count=len(document.counts))
        counts = np.fromiter(document.counts.values(), dtype=np.float64, count=len(latents))
        known = latents < len(idf)
        latents, counts = latents[known], counts[known]
        sums[latents] += part / sum(parts) * np.sqrt(counts) * idf[latents]
    return sums
