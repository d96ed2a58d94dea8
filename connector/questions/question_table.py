"""Words → the latents of each as a question by itself, in one file: questions without a model.

A latent's activation in a question comes mostly from one word, so a question is encoded as the sum
of its words, in whole numbers: an engine's analyzer that repeats terms gives the same weights. Only
numpy is imported: no torch, no tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
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
from latent_ingest.connector.questions.words import entry_for, words_of

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
    """Boundaries of the words' latents, `[n_words + 1]`."""
    latents: NDArray[np.uint16] | NDArray[np.uint32]
    """Latents of each word, heaviest first, `[nnz]`."""
    weights: NDArray[np.uint8]
    """Weight of each latent, 1 to 9, `[nnz]`."""
    inverse_frequencies: NDArray[np.float32]
    """`LatentEncoder.idf` of the model, `[n_latents]`."""

    @classmethod
    def of(
        cls,
        name: str,
        fingerprint: ModelFingerprint,
        entries: Mapping[str, tuple[NDArray[np.int32], NDArray[np.float32]]],
        idf: NDArray[np.float32],
        most: int = MOST_LATENTS,
    ) -> QuestionTable:
        """Make a table.

        The weights are those of documents, `round(sqrt(activation))`, but from 1 to 9.

        Args:
            name: name of the model.
            fingerprint: the model.
            entries: word in lower case → its latents and their pooled activations, `[n]` each.
            idf: `[n_latents]`.
            most: latents to keep for each word, the heaviest, at most 255.
        """
        order = {word: np.argsort(-entries[word][1], kind="stable")[:most] for word in entries}
        none = [np.zeros(0)]
        latents = np.concatenate([entries[word][0][kept] for word, kept in order.items()] or none)
        values = np.concatenate([entries[word][1][kept] for word, kept in order.items()] or none)
        return cls(
            name=name,
            fingerprint=fingerprint,
            words=list(entries),
            offsets=np.cumsum([0, *map(len, order.values())], dtype=np.int64),
            latents=latents.astype(np.uint16 if len(idf) <= 1 << 16 else np.uint32),
            weights=np.clip(terms.counts(values), 1, MOST_WEIGHT).astype(np.uint8),
            inverse_frequencies=idf.astype(np.float32),
        )

    @classmethod
    def load(cls, folder: str | Path | None = None) -> QuestionTable:
        """Load the table of a model folder, by default of the shipped model.

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
            words = tensors["words"].tobytes().decode("utf-8").split("\n")
            table = cls(
                name=folder.resolve().name,
                fingerprint=ModelFingerprint(**json.loads(stored["fingerprint"])),
                words=words if words != [""] else [],
                offsets=np.concatenate([[0], np.cumsum(tensors["sizes"], dtype=np.int64)]),
                latents=tensors["latents"],
                weights=tensors["weights"],
                inverse_frequencies=tensors["idf"],
            )
            whole = len(table.words) + 1 == len(table.offsets)
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

    def _row(self, word: str) -> int | None:
        entry = entry_for(word, self._rows)
        return None if entry is None else self._rows[entry]

    def idf(self) -> NDArray[np.float32]:
        """Return `LatentEncoder.idf` of the model, `[n_latents]`."""
        return self.inverse_frequencies

    def lacking(self, text: str) -> list[str]:
        """Return the words of a text that are not in the table, each once, without stop words."""
        words = [word for word in dict.fromkeys(words_of(text)) if word not in STOP_WORDS]
        return [word for word in words if self._row(word) is None]

    def encode(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the latents of a question, ascending, and their weights, `[n]` each.

        A latent's weight is the sum of its weights in the words, each as often as it occurs. A word
        that the table lacks is taken for the longest one that begins it, of five letters or more;
        else it adds nothing.
        """
        rows = [row for word in words_of(text) if (row := self._row(word)) is not None]
        spans = [slice(self.offsets[row], self.offsets[row + 1]) for row in rows]
        if not spans:
            return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
        every = np.concatenate([self.latents[span] for span in spans])
        latents, places = np.unique(every, return_inverse=True)
        weights = np.bincount(places, np.concatenate([self.weights[span] for span in spans]))
        return latents.astype(np.int32), weights.astype(np.float32)

    def entries(self) -> Iterator[tuple[str, NDArray[np.int32], NDArray[np.uint8]]]:
        """Yield each word, its latents, heaviest first, and their weights."""
        for word, first, last in zip(self.words, self.offsets[:-1], self.offsets[1:], strict=True):
            yield word, self.latents[first:last].astype(np.int32), self.weights[first:last]
