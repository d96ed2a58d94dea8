"""Words → the latents of each as a question by itself, in one file: questions without a model.

A latent's activation in a question comes mostly from one word, so a question is encoded as the sum
of its words, in whole numbers: an engine's analyzer that repeats terms gives the same weights. A
word that is not there is the sum of its parts: a word that begins it and the pieces that the
backbone's tokenizer continues words with. Only numpy is imported: no torch, no tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from latent_ingest.connector import terms
from latent_ingest.connector.encoding.fingerprint import ModelFingerprint
from latent_ingest.connector.encoding.model_folder import model_path
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.files import write_atomically
from latent_ingest.connector.questions.words import entry_for, parts_of, words_of

FILE = "questions.safetensors"

FORMAT = 2

# Largest weight of a latent in a word.
MOST_WEIGHT = 9

# Words without latents: what a question asks about is in the others. What they would add is
# noise, except in a context, where each of them takes over latents of the other words.
STOP_WORDS = frozenset(
    words_of(
        "a about also an and any are as at be been being but by can could did do does for from "
        "had has have having he her his how i if in into is it its just may might must my no "
        "not of on only or our s she should so some such than that the their them there these "
        "they this those to too very was we were what when where which who why will with would "
        "you your"
    )
)

Entries = dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]]
"""Word → its latents and their activations, `[n]` each."""

# Most latents of a word; their number is stored in a byte.
MOST_LATENTS = 255


@dataclass(frozen=True)
class QuestionTable:
    """The latents of words. Read-only, so that any number of threads may encode by it."""

    name: str
    """Name of the model that made it."""
    fingerprint: ModelFingerprint
    """The model that made it, which must be that of the index."""
    words: Sequence[str]
    """`[n_words]`, each in lower case."""
    offsets: NDArray[np.int64]
    """Boundaries of the latents of words, then of pieces, `[n_words + n_pieces + 1]`."""
    latents: NDArray[np.uint16] | NDArray[np.uint32]
    """Latents of each, heaviest first, `[nnz]`."""
    weights: NDArray[np.uint8]
    """Weight of each latent, 1 to 9, `[nnz]`."""
    inverse_frequencies: NDArray[np.float32]
    """`LatentEncoder.idf` of the model, `[n_latents]`."""
    pieces: Sequence[str] = ()
    """`[n_pieces]`: what words that the table lacks may go on with, as "ing"."""

    @classmethod
    def of(
        cls,
        name: str,
        fingerprint: ModelFingerprint,
        entries: Entries,
        idf: NDArray[np.float32],
        most: int = MOST_LATENTS,
        pieces: Entries | None = None,
    ) -> QuestionTable:
        """Make a table.

        The weights are those of documents, `round(sqrt(activation))`, but from 1 to 9.

        Args:
            name: name of the model.
            fingerprint: the model.
            entries: word in lower case → its latents and their pooled activations, `[n]` each.
            idf: `[n_latents]`.
            most: latents to keep for each word and piece, the heaviest, at most 255.
            pieces: piece → the same.
        """
        pieces = pieces or {}
        rows = [*entries.values(), *pieces.values()]
        order = [np.argsort(-values, kind="stable")[:most] for _, values in rows]
        none = [np.zeros(0)]
        kept = list(zip(rows, order, strict=True))
        latents = np.concatenate([row[0][some] for row, some in kept] or none)
        values = np.concatenate([row[1][some] for row, some in kept] or none)
        return cls(
            name=name,
            fingerprint=fingerprint,
            words=list(entries),
            offsets=np.cumsum([0, *map(len, order)], dtype=np.int64),
            latents=latents.astype(np.uint16 if len(idf) <= 1 << 16 else np.uint32),
            weights=np.clip(terms.counts(values), 1, MOST_WEIGHT).astype(np.uint8),
            inverse_frequencies=idf.astype(np.float32),
            pieces=list(pieces),
        )

    @classmethod
    def load(cls, folder: str | Path | None = None) -> QuestionTable:
        """Load the table of a model folder, by default of minilm-32k.

        Raises:
            ModelError: there is none, it cannot be read, or it is of a newer format or of another
                model than the folder's.
        """
        folder = model_path(folder)
        path = folder / FILE
        if not path.is_file():
            raise ModelError(
                f"{path}: no such file; make it with 'latent-ingest questions', or use the model"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                stored = file.metadata() or {}
                number = int(stored.get("format", 0))
                if number != FORMAT:
                    raise ModelError(
                        f"{path}: its format is {number}, and this version of latent-ingest reads "
                        f"{FORMAT}; make it again with 'latent-ingest questions'"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            table = cls(
                name=folder.resolve().name,
                fingerprint=ModelFingerprint(**json.loads(stored["fingerprint"])),
                words=lines_of(tensors["words"]),
                offsets=np.concatenate([[0], np.cumsum(tensors["sizes"], dtype=np.int64)]),
                latents=tensors["latents"],
                weights=tensors["weights"],
                inverse_frequencies=tensors["idf"],
                pieces=lines_of(tensors["pieces"]) if "pieces" in tensors else (),
            )
            whole = len(table.words) + len(table.pieces) + 1 == len(table.offsets)
            if not whole or not table.offsets[-1] == len(table.latents) == len(table.weights):
                raise ValueError("its parts do not fit together")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(
                f"{path}: cannot be read: {error}; make it again with 'latent-ingest questions'"
            ) from error
        return table

    def save(self, folder: str | Path) -> Path:
        """Write the table into the model's folder, and return its path; raises OSError."""
        tensors = {
            "words": np.frombuffer("\n".join(self.words).encode(), dtype=np.uint8),
            "pieces": np.frombuffer("\n".join(self.pieces).encode(), dtype=np.uint8),
            "sizes": np.diff(self.offsets).astype(np.uint8),
            "latents": self.latents,
            "weights": self.weights,
            "idf": self.inverse_frequencies,
        }
        stored = {
            "format": str(FORMAT),
            "fingerprint": json.dumps(asdict(self.fingerprint)),
        }
        path = Path(folder) / FILE
        write_atomically(path, save(tensors, stored))
        return path

    @cached_property
    def _rows(self) -> dict[str, int]:
        # Of words that are written alike without accents, the first one is the most frequent.
        rows: dict[str, int] = {}
        for row, word in enumerate(self.words):
            rows.setdefault(word if word.isascii() else " ".join(words_of(word)), row)
        return rows

    @cached_property
    def _rows_of_pieces(self) -> dict[str, int]:
        return {piece: row for row, piece in enumerate(self.pieces, start=len(self.words))}

    def _entry(self, word: str) -> int | None:
        entry = entry_for(word, self._rows)
        return None if entry is None else self._rows[entry]

    def _parts(self, word: str) -> list[int]:
        """Rows of the parts of a word that has no entry; none if they have no latents."""
        if not self.pieces or word in STOP_WORDS:
            return []
        first, pieces = parts_of(word, self._rows, self._rows_of_pieces)
        rows = [self._rows[first]] if first else []
        rows += [self._rows_of_pieces[piece] for piece in pieces]
        return [row for row in rows if self.offsets[row] < self.offsets[row + 1]]

    def _rows_for(self, word: str) -> list[int]:
        row = self._entry(word)
        return self._parts(word) if row is None else [row]

    def idf(self) -> NDArray[np.float32]:
        """Return `LatentEncoder.idf` of the model, `[n_latents]`."""
        return self.inverse_frequencies

    def lacking(self, text: str) -> list[str]:
        """Return the words of a text that add nothing, each once, without stop words."""
        return [word for word in self._without_entry(text) if not self._parts(word)]

    def pieced(self, text: str) -> list[str]:
        """Return the words of a text that are encoded by their parts, each once."""
        return [word for word in self._without_entry(text) if self._parts(word)]

    def _without_entry(self, text: str) -> list[str]:
        words = [word for word in dict.fromkeys(words_of(text)) if word not in STOP_WORDS]
        return [word for word in words if self._entry(word) is None]

    def encode(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the latents of a question, ascending, and their weights, `[n]` each.

        A latent's weight is the sum of its weights in the words, each as often as it occurs. A word
        that the table lacks is taken for the longest one that begins it, of five letters or more;
        else for the sum of its parts; and if it has none, it adds nothing.
        """
        rows = [row for word in words_of(text) for row in self._rows_for(word)]
        spans = [slice(self.offsets[row], self.offsets[row + 1]) for row in rows]
        if not spans:
            return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
        every = np.concatenate([self.latents[span] for span in spans])
        latents, places = np.unique(every, return_inverse=True)
        weights = np.bincount(places, np.concatenate([self.weights[span] for span in spans]))
        return latents.astype(np.int32), weights.astype(np.float32)

    def entries(self) -> Iterator[tuple[str, NDArray[np.int32], NDArray[np.uint8]]]:
        """Yield each word, its latents, heaviest first, and their weights."""
        for word, (first, last) in zip(self.words, pairwise(self.offsets), strict=False):
            yield word, self.latents[first:last].astype(np.int32), self.weights[first:last]


def lines_of(stored: NDArray[np.uint8]) -> list[str]:
    """Return words from the bytes that they are stored as, one a line."""
    text = stored.tobytes().decode("utf-8")
    return text.split("\n") if text else []
