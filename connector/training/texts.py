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
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path

from latent_ingest.connector.corpus import remote
from latent_ingest.connector.corpus.corpus import Corpus, open_file
from latent_ingest.connector.corpus.finding import matched
from latent_ingest.connector.corpus.formats import COMPRESSED, ENDINGS, ending
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.corpus_file import Line
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
        return self.weight * packed * max(self.size, 1)

    @property
    def size(self) -> int:
        """Size of the file in bytes, compressed or not."""
        return size_of(self.path) if remote.is_remote(self.path) else Path(self.path).stat().st_size


size_of = cache(remote.size)


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
    reading: Reading = field(default_factory=Reading)
    """How files that are not plain text are read; what only CSV has is for CSV files alone."""
    seed: int = 0
    """Seed of the shuffling."""
    skipped: int = field(default=0, init=False)
    """Lines of the first round that are invalid or have no text."""
    duplicates: int = field(default=0, init=False)
    """Texts of the first round that occurred before."""
    _warned: set[str] = field(default_factory=set, init=False)

    @property
    def fingerprint(self) -> str:
        """Hash of the files' names, sizes and weights, the fields and the seed; 16 hex digits.

        Also of how the files are read, unless that is as usual.
        """
        files = [(Path(source.path).name, source.size, source.weight) for source in self.sources]
        reading = self.reading.to_json()
        content = json.dumps(
            [files, list(self.text_fields), self.seed, *([reading] if reading else [])]
        )
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
        if is_plain(path, self.reading):
            with open_file(path) as file:
                lines = islice(file, self.reading.sample)
                for line in lines:
                    yield f"line {line.number}", plain_text(line)
            return
        reading = reading_of(path, self.reading)
        # Fields that are renamed are taken from others, which have to be read.
        columns = None if reading.map else tuple(self.text_fields)
        with Corpus(path, replace(reading, columns=columns)) as corpus:
            for line in corpus:
                if line.problem or line.content.strip():
                    document = parse_line(
                        line, text_fields=self.text_fields, change=reading.changes
                    )
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


def find_sources(
    arguments: Sequence[str], spool: Path, reading: Reading | None = None
) -> list[Source]:
    """Sources from arguments: FILE, FOLDER, PATTERN or -, each optionally with =WEIGHT.

    Files, folders and patterns may be of the hub (`hf://datasets/OWNER/NAME/PATH`) or of a bucket
    (`s3://BUCKET/PATH`). Standard input, which is JSONL unless `reading` says otherwise and can be
    read only once, is copied to the folder `spool`.

    Raises:
        InputError: a path does not exist or cannot be downloaded, a folder has no text files, a
            format or weight is invalid, an option of CSV is given and no source is CSV, or one of
            several processes asks for standard input.
    """
    reading = reading or Reading()
    sources: list[Source] = []
    for argument in arguments:
        path, weight = split_weight(argument)
        if path == "-":
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise InputError("-: several processes cannot share standard input; name a file")
            path = str(spool / f"standard-input.{reading.format or 'jsonl'}")
            with Path(path).open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
        sources += [Source(file, weight) for file in files_of(path, reading)]
    if (options := reading.csv_options) and not any(
        is_csv(source.path, reading) for source in sources
    ):
        others = " and the other sources are" if len(sources) > 1 else " is"
        raise InputError(f"{options[0]} is for CSV, and {sources[0].path}{others} not; omit it")
    return sources


def files_of(path: str, reading: Reading) -> list[str]:
    """The files that a path stands for: itself, those of a folder or a pattern."""
    if remote.is_remote(path):
        found = remote.list_files(path)
        if found != [path]:
            found = matched(path, found)
            return found if glob.has_magic(path) else readable(path, found)
    elif Path(path).is_dir():
        return readable(path, sorted(str(file) for file in Path(path).rglob("*") if file.is_file()))
    elif glob.has_magic(path) and not Path(path).exists():
        found = glob.glob(path, recursive=True)  # noqa: PTH207 - of paths that may be absolute
        return matched(path, sorted(name for name in found if Path(name).is_file()))
    with open_file(path):  # raises InputError if it cannot be read
        pass
    if not is_plain(path, reading):
        if not (ending(path) or reading.format):
            raise InputError(
                f"{path}: unknown extension; use {', '.join([PLAIN, *ENDINGS])}, or name the "
                f"format with --input-format"
            )
        with Corpus(path, reading_of(path, reading)):  # and if it is not what its name says
            pass
    return [path]


def readable(folder: str, inside: Sequence[str]) -> list[str]:
    """The files of a folder that hold texts, by their names; raises InputError if none does."""
    files = [name for name in inside if is_plain(name) or ending(name)]
    if not files:
        raise InputError(f"{folder}: has no file that ends in {', '.join([PLAIN, *ENDINGS])}")
    return files


def is_plain(path: str, reading: Reading | None = None) -> bool:
    """Whether a file has a text per line, by its name, which one of a compression may follow.

    With a format that is given, no file is read so.
    """
    name = path.lower()
    plain = name.endswith((PLAIN, *(PLAIN + packed for packed in COMPRESSED)))
    return plain and not (reading and reading.format)


def is_csv(path: str, reading: Reading) -> bool:
    """Whether a file is read as CSV, by the format that is given or its name."""
    return (reading.format or ENDINGS.get(ending(path))) in ("csv", "tsv")


def reading_of(path: str, reading: Reading) -> Reading:
    """How one of several files is read: what only CSV has is left out for others."""
    if is_csv(path, reading):
        return reading
    return replace(reading, delimiter=None, quotes=None, encoding=None, header=None, json_fields=())


def split_weight(argument: str) -> tuple[str, float]:
    """Split "a.jsonl=2" into ("a.jsonl", 2.0); the weight is 1 if none is given."""
    path, equals, number = argument.rpartition("=")
    # A slash after it: the name of a folder, such as year=2024/.
    if not equals or "/" in number or Path(argument).exists():
        return argument, 1.0
    try:
        weight = float(number)
    except ValueError:
        raise InputError(f"{argument}: {number!r} is not a weight; write FILE=2") from None
    if not 0 < weight < float("inf"):
        raise InputError(f"{argument}: the weight must be above 0")
    return path, weight
