"""Collections after the recipe of LIMIT (arXiv 2508.21038), of any size.

names and things → people who like things → questions who likes one thing → BEIR folder

Every two of a few documents are the answer to one question, so a vector of a document would have
to be near to those of all others, each time for another question. A word has no such trouble.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, combinations, islice, product
from math import comb, gcd, isqrt
from pathlib import Path
from random import Random
from string import ascii_uppercase
from typing import IO

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.limit_words import (
    FIRST_NAMES,
    KINDS,
    SURNAME_BEGINNINGS,
    SURNAME_ENDINGS,
    THINGS,
)
from latent_ingest.connector.files import disk_errors

# Things that each document likes, unless it is asked for more; the paper's collections have 45.
LIKES = 45

# Things at least that nobody asks for: what other documents like, and what fills the judged ones.
UNASKED = 400

MOST_QUERIES = len(THINGS) * (1 + len(KINDS)) - UNASKED


@dataclass(frozen=True, slots=True)
class Limit:
    """A collection that can be written: the same numbers give the same bytes.

    Up to some 1,250 questions ask for things of one word, as in the paper; with more, some ask for
    "Posters of Quokkas", whose words occur elsewhere too.
    """

    documents: int
    queries: int
    """Each has two relevant documents, and no other has the same two."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise InputError(f"--queries {self.queries}: must be at least 1")
        if self.queries > MOST_QUERIES:
            raise InputError(
                f"--queries {self.queries}: the word lists are good for {MOST_QUERIES}"
            )
        if self.documents < self.judged:
            pairs = comb(self.documents, 2) if self.documents > 1 else 0
            raise InputError(
                f"--queries {self.queries}: {self.documents} documents make {pairs} pairs, and "
                f"each question has a pair of its own; ask for at least "
                f"--documents {self.judged}"
            )

    @property
    def judged(self) -> int:
        """Documents that are relevant to any question: the fewest that have enough pairs."""
        number = isqrt(2 * self.queries)
        while comb(number, 2) < self.queries:
            number += 1
        return number

    @property
    def likes(self) -> int:
        """Things that each document likes."""
        return max(LIKES, self.judged - 1)

    def write(self, folder: Path, tick: Callable[[int], object] = lambda done: None) -> None:
        """Write corpus.jsonl, queries.jsonl and qrels/test.tsv.

        Args:
            folder: to be made; it appears when all is written.
            tick: called with documents done.

        Raises:
            InputError: the folder exists, or cannot be written.
        """
        random = Random(self.seed)
        asked, unasked = self._things(random)
        pairs = self._pairs(random)
        name = self._names(random)
        places = sorted(random.sample(range(self.documents), self.judged))
        liked: dict[int, list[str]] = {place: [] for place in places}
        for thing, pair in zip(asked, pairs, strict=True):
            for number in pair:
                liked[places[number]].append(thing)
        with new_folder(folder) as part:
            with lines(part / "queries.jsonl") as file:
                for number, thing in enumerate(asked):
                    query = {"_id": f"query_{number}", "text": f"Who likes {thing}?"}
                    file.write(json.dumps(query) + "\n")
            (part / "qrels").mkdir()
            with lines(part / "qrels/test.tsv") as file:
                file.write("query-id\tcorpus-id\tscore\n")
                for query_number, pair in enumerate(pairs):
                    for number in pair:
                        file.write(f"query_{query_number}\t{name(places[number])}\t1\n")
            with lines(part / "corpus.jsonl") as file:
                for place in range(self.documents):
                    things = liked.get(place, [])
                    things += random.sample(unasked, self.likes - len(things))
                    random.shuffle(things)
                    text = f"{name(place)} likes {', '.join(things[:-1])} and {things[-1]}."
                    document = {"_id": name(place), "title": "", "text": text}
                    file.write(json.dumps(document) + "\n")
                    tick(1)

    def _things(self, random: Random) -> tuple[Sequence[str], Sequence[str]]:
        """What is asked for, one thing a question; and what is not."""
        kinds = (f"{kind} of {thing}" for kind, thing in product(KINDS, THINGS))
        number = max(len(THINGS), self.queries + UNASKED)
        things = list(islice(chain(THINGS, kinds), number))
        random.shuffle(things)
        return things[: self.queries], things[self.queries :]

    def _pairs(self, random: Random) -> list[tuple[int, int]]:
        """The relevant documents of each question, as numbers among the judged ones."""
        pairs = list(combinations(range(self.judged), 2))
        random.shuffle(pairs)
        return pairs[: self.queries]

    def _names(self, random: Random) -> Callable[[int], str]:
        """Names of documents by their place, all different, in an order of no meaning."""
        people = len(FIRST_NAMES) * len(SURNAME_BEGINNINGS) * len(SURNAME_ENDINGS)
        initials = 0
        while people * 26**initials < self.documents:
            initials += 1
        total = people * 26**initials
        start = random.randrange(total)
        step = random.randrange(1, total)
        while gcd(step, total) > 1:
            step = random.randrange(1, total)

        def name(place: int) -> str:
            number = (start + place * step) % total
            parts = []
            for words in (FIRST_NAMES, SURNAME_BEGINNINGS, SURNAME_ENDINGS):
                number, which = divmod(number, len(words))
                parts.append(words[which])
            letters = []
            for _ in range(initials):
                number, which = divmod(number, 26)
                letters.append(f"{ascii_uppercase[which]}.")
            return " ".join([parts[0], *letters, parts[1] + parts[2]])

        return name


def lines(path: Path) -> IO[str]:
    """A file to write, of the same bytes on every system."""
    return path.open("w", encoding="utf-8", newline="\n")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its name at the end, and is gone if that does not come.

    Raises:
        InputError: the folder exists, or cannot be written.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; name another folder")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            part = Path(scratch) / folder.name
            part.mkdir()
            yield part
            part.rename(folder)
