"""Lines of a corpus file → batches of documents → their index actions."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus_file import Line
from latent_ingest.connector.document import BadLine, Document, parse_line
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.actions import (
    IndexAction,
    index_action,
    length_flags,
    term_strings,
)
from latent_ingest.connector.indexing.chunks import chunks_action
from latent_ingest.connector.indexing.sharding.shard import Shard

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# A batch ends with the first line that reaches a limit: lines may hold much that is not encoded.
# About ten batches are in memory at once; batches of plain text stay below these limits on a GPU
# too.
MAX_BATCH_LINES = 4096
MAX_BATCH_BYTES = 10_000_000

# Characters of text encoded together, for each token of the backbone's budget: about 16 forward
# passes of English, so that sorting by length leaves little padding. 262,144 characters on a CPU.
CHARACTERS_PER_BUDGET_TOKEN = 64

# Least characters of a chunk, to estimate how many chunks a document has.
CHARACTERS_PER_CHUNK = 500

# Longest id that the engine accepts; it refuses the whole request with a longer one. Ids of chunks
# end with `#` and a number.
MAX_ID_BYTES = 512
CHUNK_ID_BYTES = 8


class Left(Enum):
    """Why a line is left out."""

    BLANK = "blank"
    OTHER = "of another shard"


@dataclass(slots=True)
class Batch:
    """Consecutive lines of the file, and their documents."""

    documents: list[Document] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    blank: int = 0
    others: int = 0
    """Lines of other shards."""
    position: int = 0
    """Bytes of the file that were read by the end of the batch."""
    digest: str = ""
    """BLAKE2b of all lines of the file up to the end of the batch."""
    actions: list[IndexAction] = field(default_factory=list)
    """One per document; added by `fill`."""
    tokens: int = 0
    """Tokens encoded; added by `fill`."""

    @property
    def lines(self) -> int:
        return self.own + self.others

    @property
    def own(self) -> int:
        """Lines that are not of other shards."""
        return len(self.documents) + len(self.bad) + self.blank


class Batches:
    """Reads a corpus once, from its start."""

    def __init__(
        self,
        file: Corpus,
        id_fields: Sequence[str],
        meta: IndexMeta,
        characters: int,
        shard: Shard | None = None,
        lines: Iterator[Line] | None = None,
    ) -> None:
        """Prepare to read documents for the index of `meta`, `characters` of text per batch.

        With a `shard`, lines of others are read and left out. `lines` are those to read, by default
        all of the file.
        """
        self.id_fields = id_fields
        self._shard = shard
        self._file = file
        self._meta = meta
        self._characters = characters
        self._lines = iter(file) if lines is None else lines
        self._change = file.reading.changes
        self._digest = hashlib.blake2b(digest_size=16)

    def skip(self, lines: int, digest: str) -> Iterator[Document | BadLine | Left]:
        """Read the first lines, which are done; gives what each holds, or why it is left out.

        Raises InputError at the end if the file has fewer lines, or they do not match `digest`.
        """
        for line in islice(self._lines, lines):
            yield self._read_line(line)
        if self._file.lines_read < lines or self._digest.hexdigest() != digest:
            first = f"the first {lines:,} {self._file.unit}s"
            raise InputError(
                f"{self._file.name}: {first} are not those that were ingested before; "
                f"give the same file, or start again with --restart"
            )

    def documents(self) -> Iterator[Document | BadLine | Left]:
        """What each of the remaining lines holds, or why it is left out."""
        return map(self._read_line, self._lines)

    def read(self) -> Generator[Batch]:
        """Batches of the remaining lines."""
        batch, characters, size = Batch(), 0, 0
        try:
            for line in self._lines:
                document = self._read_line(line)
                if document is Left.OTHER:
                    batch.others += 1
                    continue
                size += self._size(line, document)
                if isinstance(document, Left):
                    batch.blank += 1
                elif isinstance(document, BadLine):
                    batch.bad.append(document)
                else:
                    batch.documents.append(document)
                    characters += len(document.text)
                if (
                    characters >= self._characters
                    or size >= MAX_BATCH_BYTES
                    or batch.own >= MAX_BATCH_LINES
                ):
                    yield self._ended(batch)
                    batch, characters, size = Batch(), 0, 0
        except InputError:
            yield self._ended(batch)
            raise
        yield self._ended(batch)

    def _size(self, line: Line, document: Document | BadLine | Left) -> int:
        """Estimated bytes to index for a line; each chunk repeats all fields but the text."""
        size = len(line.content)
        if self._meta.long == "chunks" and isinstance(document, Document):
            chunks = len(document.text) // CHARACTERS_PER_CHUNK
            size += chunks * max(0, size - len(document.text))
        return size

    def _read_line(self, line: Line) -> Document | BadLine | Left:
        self._digest.update(line.content + b"\n")
        document = self._parse(line) if line.content.strip() else None
        if self._shard and not self._shard.has(line.number, document):
            return Left.OTHER
        return document or Left.BLANK

    def _parse(self, line: Line) -> Document | BadLine:
        document = parse_line(
            line,
            id_fields=self.id_fields,
            text_fields=self._meta.text_fields,
            change=self._change,
        )
        if isinstance(document, Document) and (reason := self._unfit(document)):
            return BadLine(line.number, reason, document)
        return document

    def _unfit(self, document: Document) -> str | None:
        """Why a document cannot be in this index, or None."""
        most = MAX_ID_BYTES - (CHUNK_ID_BYTES if self._meta.long == "chunks" else 0)
        if (size := len(document.id.encode("utf-8", "replace"))) > most:
            return f"the id is {size} bytes long, the engine accepts {most}; give a shorter one"
        if taken := self._meta.own_fields & document.fields.keys():
            return (
                f"field {min(taken)!r} is reserved for latent terms; rename it in the document, "
                f"or ingest into a new index with --latent-field"
            )
        if taken := self._meta.mapping.chunk_fields.keys() & document.fields.keys():
            return (
                f"field {min(taken)!r} is reserved for chunks; rename it in the document, or "
                f"ingest into a new index with --long pool"
            )
        return None

    def _ended(self, batch: Batch) -> Batch:
        batch.position = self._file.position
        batch.digest = self._digest.hexdigest()
        return batch


def first_actions(
    corpus: Corpus,
    id_fields: Sequence[str],
    meta: IndexMeta,
    encoder: LatentEncoder,
    number: int,
    shard: Shard | None = None,
) -> list[IndexAction | BadLine]:
    """The actions of the first documents for a new index, and the bad lines among them."""
    batch = Batch()
    for document in Batches(corpus, id_fields, meta, 0, shard).documents():
        if isinstance(document, BadLine):
            batch.bad.append(document)
        elif isinstance(document, Document):
            batch.documents.append(document)
        if len(batch.documents) == number or len(batch.bad) == MAX_BATCH_LINES:
            break
    fill(batch, encoder, meta, run=1)
    return [*batch.bad, *batch.actions]


def fill(batch: Batch, encoder: LatentEncoder, meta: IndexMeta, run: int) -> None:
    """Encode a batch: add actions and tokens; documents that cannot be encoded become bad lines."""
    texts = [document.text for document in batch.documents]
    if meta.long == "chunks":
        chunks = encoder.encode_chunks(texts, allow_nan=True)
        vectors, spans = chunks.vectors, chunks.spans
        # Row of each text's first chunk, and the end.
        first = np.searchsorted(chunks.texts, np.arange(len(texts) + 1)).tolist()
    else:
        vectors, spans = encoder.encode(texts, allow_nan=True, long=meta.long), None
        first = list(range(len(texts) + 1))
    strings = term_strings(vectors, meta)
    for document, start, end in zip(batch.documents, first, first[1:], strict=False):
        if not vectors.finite[start:end].all():
            reason = encoder.nan_message(document.text)
            batch.bad.append(BadLine(document.line, reason, document))
        elif spans is None:
            flags = length_flags(vectors, start)
            batch.actions.append(index_action(document, run, meta, strings[start], **flags))
        else:
            places = spans[start:end].tolist()
            batch.actions.append(chunks_action(document, run, meta, strings[start:end], places))
    batch.documents = [action.document for action in batch.actions]
    batch.tokens = int(vectors.n_tokens.sum())
