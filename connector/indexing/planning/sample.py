"""A sample of a corpus: some of its documents, and how many there are about."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.finding import Sources, find_files, piped
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.corpus_file import Line
from latent_ingest.connector.document import BadLine, Document, parse_line
from latent_ingest.connector.errors import InputError

# Files that are read, spread evenly, and seconds of reading.
FILES = 20
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CorpusSample:
    """Documents of a corpus, chosen at random among those that were read."""

    documents: list[Document]
    bytes_a_document: float
    """Bytes of a document's line, on average."""
    total: int
    """Number of documents in the corpus, estimated unless `whole`."""
    whole: bool
    """Whether every document was read."""


def sample_corpus(
    corpus: Sources,
    number: int,
    *,
    reading: Reading | None = None,
    id_fields: Sequence[str],
    text_fields: Sequence[str],
) -> CorpusSample:
    """Read the beginnings of some files, for 10 s at most, and keep `number` lines of them.

    Raises InputError if a file cannot be read, the corpus is a pipe, or it has no documents.
    """
    if piped(corpus):
        raise InputError("a pipe can be read only once; plan needs a file")
    reading = reading or Reading()
    paths = find_files(corpus)
    step = max(1, len(paths) / FILES)
    chosen = [paths[int(place * step)] for place in range(min(FILES, len(paths)))]
    whole, read_bytes = len(chosen) == len(paths), 0
    kept: list[Line] = []
    lines, chance = 0, random.Random(0)
    for path in chosen:
        with Corpus(path, reading) as file:
            ends, exhausted = time.monotonic() + SECONDS / len(chosen), True
            for line in file:
                if not line.content.strip():
                    continue
                lines += 1
                if len(kept) < number:
                    kept.append(line)
                elif (place := chance.randrange(lines)) < number:
                    kept[place] = line
                if time.monotonic() > ends:
                    exhausted = False
                    break
            whole = whole and exhausted
            read_bytes += (file.size or 0) if exhausted else file.position
    parsed = [
        parse_line(
            replace(line, number=place),
            id_fields=id_fields,
            text_fields=text_fields,
            change=reading.changes,
        )
        for place, line in enumerate(kept, start=1)
    ]
    documents = [one for one in parsed if isinstance(one, Document)]
    if not documents:
        bad = [one for one in parsed if isinstance(one, BadLine)]
        reason = bad[0].reason if bad else "the files that were read are empty"
        raise InputError(f"{paths[0]}: no documents to plan for: {reason}")
    share = len(documents) / len(parsed)
    size = lines if whole else lines * (Corpus(corpus, reading).size or 0) / max(read_bytes, 1)
    mean = sum(len(line.content) for line in kept) / len(kept)
    return CorpusSample(documents, mean, max(1, round(size * share)), whole)
