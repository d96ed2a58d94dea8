"""Training texts: several files, drawn from in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from latent_ingest.connector.corpus import (
    DEFAULT_TEXT_FIELDS,
    BadLine,
    CorpusFile,
    parse_line,
)
from latent_ingest.connector.errors import InputError


class TrainingTexts:
    """Texts of JSONL files, one from each in turn, so that a small file is not drowned.

    A file that ends drops out; when all have ended they start over.
    """

    def __init__(
        self, paths: Sequence[str | Path], *, text_fields: Sequence[str] = DEFAULT_TEXT_FIELDS
    ) -> None:
        self.paths = list(paths)
        self.text_fields = text_fields
        self.skipped = 0
        """Lines without a text, over all rounds."""
        self.rounds = 0
        """Times that all files were read to their end."""

    def __iter__(self) -> Iterator[str]:
        while True:
            given = 0
            sources = [self._read(path) for path in self.paths]
            while sources:
                for source in list(sources):
                    text = next(source, None)
                    if text is None:
                        sources.remove(source)
                    else:
                        given += 1
                        yield text
            if not given:
                names = ", ".join(map(str, self.paths))
                raise InputError(f"{names}: no texts; fields read: {', '.join(self.text_fields)}")
            self.rounds += 1

    def _read(self, path: str | Path) -> Iterator[str]:
        with CorpusFile(path) as file:
            for line in file:
                document = parse_line(line, text_fields=self.text_fields)
                if isinstance(document, BadLine) or not document.text.strip():
                    self.skipped += 1
                else:
                    yield document.text
