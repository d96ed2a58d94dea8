"""Training texts: files, folders and standard input, mixed by weight, shuffled, each text once."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, field
from itertools import islice
from pathlib import Path

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.formats import COMPRESSED, ENDINGS, ending
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.corpus_file import CorpusFile, Line
from latent_ingest.connector.document import DEFAULT_TEXT_FIELDS, BadLine, not_utf8, parse_line
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.seen_keys import SeenKeys

log = logging.getLogger(__name__)

# Files with a text per line; all others are read as a corpus is.
PLAIN = ".txt"

# Approximate compression ratio of a compressed file of text.
COMPRESSION = 3

# Texts shuffled together, so that a file sorted by subject is not trained on subject by subject.
SHUFFLED_TEXTS = 10_000


@dataclass(frozen=True, slots=True)
class Source:
    """A file to train on."""

    path: str
    weight: float = 1.0
    """Factor on how often its texts are drawn, relative to their number."""

    @property
    def share(self) -> float:
        """Share of the draws while the file lasts: its size times its weight.

        Sources of equal weight thus end together, and the last texts are from all of them.
        """
        packed = COMPRESSION if self.path.lower().endswith(COMPRESSED) else 1
        return self.weight * packed * max(Path(self.path).stat().st_size, 1)


@dataclass(eq=False)
class TrainingTexts:
    """Rounds of texts, the same for the same files and seed.

    In each round every text of every source is given once, drawn from the sources by their sizes
    and weights; a source that ends drops out. The first invalid line of each file is logged.
    """

    sources: Sequence[Source]
    _: KW_ONLY
    text_fields: Sequence[str] = DEFAULT_TEXT_FIELDS
    """Fields of a JSONL line or Parquet row that are joined to one text."""
    seed: int = 0
    """Seed of the shuffling."""
    skipped: int = field(default=0, init=False)
    """Lines of the first round that are invalid or have no text."""
    duplicates: int = field(default=0, init=False)
    """Texts of the first round that occurred before."""
    _warned: set[str] = field(default_factory=set, init=False)

    @property
    def fingerprint(self) -> str:
        """Hash of the files' names, sizes and weights, the fields and the seed; 16 hex digits."""
        files = [(Path(s.path).name, Path(s.path).stat().st_size, s.weight) for s in self.sources]
        content = json.dumps([files, list(self.text_fields), self.seed])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def round(self, number: int = 0) -> Iterator[str]:
        """Every text once, in an order that depends on the round.

        Raises:
            InputError: there is no text, or a file is broken.
        """
        if number == 0:
            self.skipped = self.duplicates = 0
        text = None
        every = self._each(first=number == 0)
        for text in shuffled(every, random.Random(f"{self.seed} {number}")):
            yield text
        if text is None:
            names = ", ".join(source.path for source in self.sources)
            raise InputError(f"{names}: no texts; fields read: {', '.join(self.text_fields)}")

    def held_out(self, number: int) -> list[str]:
        """The texts to hold out from training: the first `number`, but at most a tenth of all.

        Raises:
            InputError: no text would be left to train on.
        """
        taken = list(islice(self.round(), 10 * number))
        if len(taken) < 2:
            raise InputError("the only text is held out to measure on; name more texts")
        return taken[: min(number, max(1, len(taken) // 10))]

    def _each(self, *, first: bool) -> Iterator[str]:
        """Each text of each source once, by smooth weighted round robin."""
        lanes = [self._read(source, count=first) for source in self.sources]
        shares = [source.share for source in self.sources]
        credit = [0.0] * len(lanes)
        left = set(range(len(lanes)))
        with closing(SeenKeys()) as seen:
            while left:
                for lane in left:
                    credit[lane] += shares[lane]
                chosen = max(left, key=lambda lane: (credit[lane], -lane))
                credit[chosen] -= sum(shares[lane] for lane in left)
                text = next(lanes[chosen], None)
                if text is None:
                    left.remove(chosen)
                elif seen.add([text]):
                    yield text
                else:
                    self.duplicates += first

    def _read(self, source: Source, *, count: bool) -> Iterator[str]:
        for place, text in self._texts(source.path):
            if isinstance(text, str) and text.strip():
                yield text
                continue
            self.skipped += count
            if isinstance(text, BadLine) and source.path not in self._warned:
                self._warned.add(source.path)
                log.warning("%s: %s: %s", source.path, place, text.reason)

    def _texts(self, path: str) -> Iterator[tuple[str, str | BadLine]]:
        """Pairs of a place in the file, and the text there or what is wrong with it."""
        if is_plain(path):
            with CorpusFile(path) as file:
                for line in file:
                    yield f"line {line.number}", plain_text(line)
            return
        with Corpus(path, Reading(columns=tuple(self.text_fields))) as corpus:
            for line in corpus:
                if line.problem or line.content.strip():
                    document = parse_line(line, text_fields=self.text_fields)
                    text = document if isinstance(document, BadLine) else document.text
                    yield corpus.place(line.number).short, text


def shuffled(texts: Iterator[str], chance: random.Random) -> Iterator[str]:
    """The texts, shuffled within a buffer of `SHUFFLED_TEXTS`."""
    held = list(islice(texts, SHUFFLED_TEXTS))
    for text in texts:
        place = chance.randrange(SHUFFLED_TEXTS)
        yield held[place]
        held[place] = text
    chance.shuffle(held)
    yield from held


def plain_text(line: Line) -> str | BadLine:
    """The line as text, or what is wrong with it."""
    try:
        return line.content.decode()
    except UnicodeDecodeError as error:
        return BadLine(line.number, not_utf8(error), line.content)


def find_sources(arguments: Sequence[str], spool: Path) -> list[Source]:
    """Sources from arguments: FILE, FOLDER, PATTERN or -, each optionally with =WEIGHT.

    Standard input, which is JSONL and can be read only once, is copied to the folder `spool`.

    Raises:
        InputError: a path does not exist, a folder has no text files, a format or weight is
            invalid, or one of several processes asks for standard input.
    """
    sources: list[Source] = []
    for argument in arguments:
        path, weight = split_weight(argument)
        if path == "-":
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise InputError("-: several processes cannot share standard input; name a file")
            path = str(spool / "standard-input.jsonl")
            with Path(path).open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
        sources += [Source(file, weight) for file in files_of(path)]
    return sources


def files_of(path: str) -> list[str]:
    """The files that a path stands for: itself, those of a folder or a pattern."""
    if Path(path).is_dir():
        inside = sorted(str(file) for file in Path(path).rglob("*") if file.is_file())
        files = [name for name in inside if is_plain(name) or ending(name)]
        if not files:
            raise InputError(f"{path}: has no file that ends in {', '.join([PLAIN, *ENDINGS])}")
        return files
    if glob.has_magic(path) and not Path(path).exists():
        found = glob.glob(path, recursive=True)  # noqa: PTH207 - of paths that may be absolute
        if not (files := sorted(name for name in found if Path(name).is_file())):
            raise InputError(f"{path}: no file matches; check the pattern and the folder")
        return files
    with CorpusFile(path):  # raises InputError if it cannot be read
        pass
    if not is_plain(path):
        if not ending(path):
            raise InputError(f"{path}: unknown extension; use {', '.join([PLAIN, *ENDINGS])}")
        with Corpus(path):  # and if it is not what its name says
            pass
    return [path]


def is_plain(path: str) -> bool:
    """Whether a file has a text per line, by its name, which one of a compression may follow."""
    name = path.lower()
    return name.endswith((PLAIN, *(PLAIN + packed for packed in COMPRESSED)))


def split_weight(argument: str) -> tuple[str, float]:
    """Split "a.jsonl=2" into ("a.jsonl", 2.0); the weight is 1 if none is given."""
    path, equals, number = argument.rpartition("=")
    if not equals or Path(argument).exists():
        return argument, 1.0
    try:
        weight = float(number)
    except ValueError:
        raise InputError(f"{argument}: {number!r} is not a weight; write FILE=2") from None
    if not 0 < weight < float("inf"):
        raise InputError(f"{argument}: the weight must be above 0")
    return path, weight
