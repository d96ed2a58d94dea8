"""Generated collections after the recipe of LIMIT (arXiv 2508.21038), of any size.

names and things → people who like things → questions who likes one thing → BEIR folder

Any two documents of a small set may be the answer to a question. A dense vector would have to be
close to every other vector of the set, for a different question each time; a word index is not
affected.
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
from latent_ingest.connector.files import disk_errors

WORDS = json.loads(Path(__file__).with_name("limit_words.json").read_text(encoding="utf-8"))

# A person's name is a first name and a surname, which is a beginning and an ending.
FIRST_NAMES: list[str] = WORDS["first_names"]
SURNAME_BEGINNINGS: list[str] = WORDS["surname_beginnings"]
SURNAME_ENDINGS: list[str] = WORDS["surname_endings"]

# No two things have the same stem, nor do a thing and a name: one word identifies a thing.
THINGS: list[str] = WORDS["things"]

# With more questions than things, a question asks for a kind and a thing: "Posters of Quokkas".
KINDS: list[str] = WORDS["kinds"]

# Things per document unless the number of pairs requires more; 45 in the paper's collections.
LIKES = 45

# Minimum number of things that no question asks for, which fill all documents up to LIKES.
UNASKED = 400

MOST_QUERIES = len(THINGS) * (1 + len(KINDS)) - UNASKED


@dataclass(frozen=True, slots=True)
class Limit:
    """Recipe of one collection; the same numbers give the same bytes.

    Up to about 1,250 questions ask for one word each, as in the paper. With more, some ask for
    "Posters of Quokkas", whose words occur in other documents too.
    """

    documents: int
    """Number of documents."""
    queries: int
    """Number of questions; each has its own pair of relevant documents."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise InputError(f"--queries {self.queries}: must be at least 1")
        if self.queries > MOST_QUERIES:
            raise InputError(
                f"--queries {self.queries}: the word lists allow at most {MOST_QUERIES}"
            )
        if self.documents < self.judged:
            pairs = comb(self.documents, 2) if self.documents > 1 else 0
            raise InputError(
                f"--queries {self.queries}: {self.documents} documents make {pairs} pairs, and "
                f"each question needs its own; use at least --documents {self.judged}"
            )

    @property
    def judged(self) -> int:
        """Number of documents that are relevant to a question: the fewest with enough pairs."""
        number = isqrt(2 * self.queries)
        while comb(number, 2) < self.queries:
            number += 1
        return number

    @property
    def likes(self) -> int:
        """Number of things per document."""
        return max(LIKES, self.judged - 1)

    def write(self, folder: Path, tick: Callable[[int], object] = lambda done: None) -> None:
        """Write corpus.jsonl, queries.jsonl and qrels/test.tsv.

        Args:
            folder: new folder, created under its name once all files are complete.
            tick: called with the number of documents written since the last call.

        Raises:
            InputError: the folder exists already, or cannot be written.
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
        """Return the things that questions ask for, one per question, and all others."""
        kinds = (f"{kind} of {thing}" for kind, thing in product(KINDS, THINGS))
        number = max(len(THINGS), self.queries + UNASKED)
        things = list(islice(chain(THINGS, kinds), number))
        random.shuffle(things)
        return things[: self.queries], things[self.queries :]

    def _pairs(self, random: Random) -> list[tuple[int, int]]:
        """Return the relevant documents of each question, numbered within the judged ones."""
        pairs = list(combinations(range(self.judged), 2))
        random.shuffle(pairs)
        return pairs[: self.queries]

    def _names(self, random: Random) -> Callable[[int], str]:
        """Return a function from a document's position to its unique name, in random order."""
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
    """Open a file for writing, with the same line ends on every system."""
    return path.open("w", encoding="utf-8", newline="\n")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `folder` on success and deleted on failure.

    Raises:
        InputError: the folder exists already, or cannot be written.
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
