"""Pairs from files: a question and the document that answers it, on a line each.

files → lines → pairs, without those that teach nothing; the first that is wrong is logged
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus_file import Line
from latent_ingest.connector.document import check_surrogates, parse_object
from latent_ingest.connector.errors import InputError

log = logging.getLogger(__name__)

# Fields of the two sides; of each, the first that a line has counts.
QUESTION_FIELDS = ("question", "query", "anchor", "title")
DOCUMENT_FIELDS = ("document", "answer", "positive", "text")

# Pairs of one question that are kept: a question with thousands of answers would outweigh all
# others, and none of its answers is a negative for it.
MOST_ANSWERS = 8

# Share of the questions that is held out to measure on, and their most pairs.
HELD_OUT = 0.1
MOST_HELD_OUT = 1000


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and a document that answers it."""

    question: str
    document: str


@dataclass
class PairCounts:
    """How many pairs the files have, and why some are left out."""

    kept: int = 0
    invalid: int = 0
    """Lines that are no JSON object, or lack a side."""
    empty: int = 0
    """Pairs with an empty side."""
    same: int = 0
    """Pairs with the same text on both sides."""
    repeated: int = 0
    """Pairs that were there before."""
    beyond: int = 0
    """Pairs of questions that have `MOST_ANSWERS` already."""

    @property
    def left_out(self) -> dict[str, int]:
        """What is left out, in words, with its number."""
        reasons = {
            "invalid": self.invalid,
            "with an empty side": self.empty,
            "with the same text on both sides": self.same,
            "repeated": self.repeated,
            f"beyond {MOST_ANSWERS} of a question": self.beyond,
        }
        return {reason: number for reason, number in reasons.items() if number}


@dataclass(eq=False)
class Pairs:
    """The pairs of some files, in memory, shuffled; the last questions are held out."""

    names: Sequence[str]
    """The files, as the user named them."""
    every: list[Pair]
    """All pairs; those of a question stand together."""
    n_training: int
    """The first so many are trained on."""
    counts: PairCounts = field(default_factory=PairCounts)

    @classmethod
    def read(cls, files: Sequence[str], *, batch: int, seed: int = 0) -> Pairs:
        """Read files in any format that `latent-ingest` reads.

        Raises:
            InputError: a file cannot be read, or fewer than a batch of pairs is left to train on.
        """
        counts = PairCounts()
        by_question: dict[str, list[Pair]] = {}
        seen: set[tuple[str, str]] = set()
        for name in files:
            for pair in pairs_in(name, counts):
                question = folded(pair.question)
                some = by_question.setdefault(question, [])
                if (question, folded(pair.document)) in seen:
                    counts.repeated += 1
                elif len(some) == MOST_ANSWERS:
                    counts.beyond += 1
                else:
                    seen.add((question, folded(pair.document)))
                    some.append(pair)
        groups = list(by_question.values())
        random.Random(seed).shuffle(groups)
        every = [pair for group in groups for pair in group]
        counts.kept = len(every)
        most = min(MOST_HELD_OUT, int(HELD_OUT * len(every)))
        held_out = 0
        while groups and held_out + len(groups[-1]) <= most:
            held_out += len(groups.pop())
        if len(every) - held_out < batch or not held_out:
            reasons = "".join(f"; {n:,} {reason}" for reason, n in counts.left_out.items())
            raise InputError(
                f"{', '.join(files)}: {len(every) - held_out:,} pairs to train on, fewer than a "
                f"batch of {batch:,}{reasons}; name more pairs, or use a smaller --batch"
            )
        return cls(files, every, len(every) - held_out, counts)

    @property
    def fingerprint(self) -> str:
        """Hash of all texts, 16 hex digits."""
        digest = hashlib.sha256()
        for pair in self.every:
            digest.update(f"{pair.question}\0{pair.document}\0".encode())
        return digest.hexdigest()[:16]

    def groups(self) -> tuple[list[int], list[int]]:
        """Numbers of the different questions and documents, one of each per pair.

        No document of a pair with the same question, or the same document, is a negative.
        """
        numbers: list[list[int]] = []
        for texts in (
            [pair.question for pair in self.every],
            [pair.document for pair in self.every],
        ):
            known: dict[str, int] = {}
            numbers.append([known.setdefault(folded(text), len(known)) for text in texts])
        return numbers[0], numbers[1]


def pairs_in(name: str, counts: PairCounts) -> Iterator[Pair]:
    """The usable pairs of a file; the others are counted, and the first invalid line is logged."""
    corpus = Corpus(name)
    problems: Counter[str] = Counter()
    for line in corpus:
        try:
            pair = parse_pair(line)
        except ValueError as error:
            counts.invalid += 1
            if not problems:
                log.warning("%s: %s", corpus.place(line.number), error)
            problems[str(error)] += 1
            continue
        if not pair.question or not pair.document:
            counts.empty += 1
        elif folded(pair.question) == folded(pair.document):
            counts.same += 1
        else:
            yield pair


def parse_pair(line: Line) -> Pair:
    """The pair on a line; raises ValueError if it has none."""
    if line.problem:
        raise ValueError(line.problem)
    fields = parse_object(line)
    check_surrogates(line, fields)
    return Pair(side(fields, QUESTION_FIELDS), side(fields, DOCUMENT_FIELDS))


def side(fields: dict[str, Any], names: Sequence[str]) -> str:
    """The text of one side; raises ValueError if there is none."""
    name = next((name for name in names if name in fields), None)
    if name is None:
        raise ValueError(f"no field {', '.join(names[:-1])} or {names[-1]}")
    if not isinstance(fields[name], str):
        raise ValueError(f"{name} is not a text: {fields[name]!r:.60}")
    return str(fields[name]).strip()


def folded(text: str) -> str:
    """A text without case and extra spaces: how questions are told apart."""
    return " ".join(text.casefold().split())
