"""Lines of a corpus file → batches of documents."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from latent_ingest.connector.corpus import BadLine, CorpusFile, Document, Line, parse_line
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.actions import Action

# A batch ends with the first line that fills it: lines may hold much that is not encoded. Some ten
# batches are under way at once; those of plain text stay below this on a GPU too.
MAX_BATCH_LINES = 4096
MAX_BATCH_BYTES = 10_000_000

# A document in chunks has one for so many characters, or fewer.
CHARACTERS_A_CHUNK = 500

# That the engine takes; it refuses the whole request that a longer one is in. Ids of chunks end
# with `#` and a number.
MAX_ID_BYTES = 512
CHUNK_ID_BYTES = 8


@dataclass(slots=True)
class Batch:
    """Some lines of the file, and what they hold."""

    documents: list[Document] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    blank: int = 0
    position: int = 0
    """Bytes of the file consumed at its end."""
    digest: str = ""
    """BLAKE2b of all lines of the file up to its end, which tells whether they have changed."""
    actions: list[Action] = field(default_factory=list)
    """Filled in by the encoding stage."""
    tokens: int = 0

    @property
    def lines(self) -> int:
        return len(self.documents) + len(self.bad) + self.blank


class Batches:
    """Reads a corpus file once, from its beginning."""

    def __init__(
        self, file: CorpusFile, id_fields: Sequence[str], meta: IndexMeta, characters: int
    ) -> None:
        """Nothing is read yet.

        Args:
            file: opened.
            id_fields: where a document's id is; the first that is there counts.
            meta: of the index the documents are for.
            characters: of text that make a batch.
        """
        self.id_fields = id_fields
        self._file = file
        self._meta = meta
        self._characters = characters
        self._lines = iter(file)
        self._digest = hashlib.blake2b(digest_size=16)

    def skip(self, lines: int, digest: str) -> Iterator[Document | BadLine | None]:
        """Go past the first lines; gives what they hold, none for a blank one.

        Raises:
            InputError: at the end, when there are fewer, or they are not those of `digest`.
        """
        for line in islice(self._lines, lines):
            yield self._read_line(line)
        if self._file.lines_read < lines or self._digest.hexdigest() != digest:
            raise InputError(
                f"{self._file.name}: its first {lines:,} lines are not those that were ingested "
                f"before; give the same file, or begin again with --restart"
            )

    def read(self) -> Generator[Batch]:
        """The lines that are left."""
        batch, characters, size = Batch(), 0, 0
        try:
            for line in self._lines:
                document = self._read_line(line)
                size += self._size(line, document)
                if document is None:
                    batch.blank += 1
                elif isinstance(document, BadLine):
                    batch.bad.append(document)
                else:
                    batch.documents.append(document)
                    characters += len(document.text)
                if (
                    characters >= self._characters
                    or size >= MAX_BATCH_BYTES
                    or batch.lines >= MAX_BATCH_LINES
                ):
                    yield self._ended(batch)
                    batch, characters, size = Batch(), 0, 0
        except InputError:
            yield self._ended(batch)
            raise
        yield self._ended(batch)

    def _size(self, line: Line, document: Document | BadLine | None) -> int:
        """Bytes that become of it, about; all other fields are in each of its chunks."""
        size = len(line.content)
        if self._meta.long == "chunks" and isinstance(document, Document):
            chunks = len(document.text) // CHARACTERS_A_CHUNK
            size += chunks * max(0, size - len(document.text))
        return size

    def _read_line(self, line: Line) -> Document | BadLine | None:
        self._digest.update(line.content + b"\n")
        if not line.content.strip():
            return None
        document = parse_line(line, id_fields=self.id_fields, text_fields=self._meta.text_fields)
        if isinstance(document, Document) and (reason := self._unfit(document)):
            return BadLine(line.number, reason, document)
        return document

    def _unfit(self, document: Document) -> str | None:
        """Why a document cannot go into this index, or none."""
        most = MAX_ID_BYTES - (CHUNK_ID_BYTES if self._meta.long == "chunks" else 0)
        if (size := len(document.id.encode("utf-8", "replace"))) > most:
            return f"the id is {size} bytes long, the engine takes {most}; give a shorter one"
        if taken := self._meta.own_fields & document.fields.keys():
            return (
                f"field {min(taken)!r} is where latent terms go; rename it in the document, or "
                f"ingest into a new index with --latent-field"
            )
        if taken := self._meta.mapping.chunk_fields.keys() & document.fields.keys():
            return (
                f"field {min(taken)!r} is where chunks say what they are of; rename it in the "
                f"document, or ingest into a new index with --long pool"
            )
        return None

    def _ended(self, batch: Batch) -> Batch:
        batch.position = self._file.position
        batch.digest = self._digest.hexdigest()
        return batch
