"""An index in memory, for notebooks and tests: the scores of an engine, without one.

texts → counts of latents and of English words → BM25 of both → hits
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import MemoryBM25
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.files import disk_errors, write_atomically
from latent_ingest.connector.frameworks.english import words_of
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.request import check_question
from latent_ingest.connector.querying.scoring import LATENT_BOOST, MAX_QUERY_TERMS, WORDS_K1
from latent_ingest.connector.querying.term_weights import WeightedTerm
from latent_ingest.mappings import DEFAULT_B, DEFAULT_K1

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# BM25's b of word fields, in every engine unless set otherwise.
WORDS_B = 0.75

FORMS = ("words", "latent", "hybrid")

Counts = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]
"""Terms and their frequencies, `[nnz]`, and the boundaries of the documents."""


@dataclass(frozen=True, slots=True)
class LatentHit:
    """A document that was found."""

    id: str
    score: float
    """The score that OpenSearch 3 would give."""
    text: str


class LatentIndex:
    """Texts in memory, searched by words, by latent terms, or by both.

    Scores are those of OpenSearch 3 for an index of one shard with the default mapping. Memory: the
    texts, 24 bytes for each latent of a text, and 12 for each of its words.

        index = LatentIndex(["Cholecalciferol lowers the risk of tumbling.", "Insects dance."])
        index.search("does vitamin D prevent falls")
    """

    def __init__(
        self,
        texts: Sequence[str],
        ids: Sequence[str] | None = None,
        *,
        model: LatentEncoder | QueryEncoder | str | Path | None = None,
        latent_boost: float = LATENT_BOOST,
        max_query_terms: int = MAX_QUERY_TERMS,
    ) -> None:
        """Encode texts.

        Args:
            texts: the documents.
            ids: one per text; by default their positions, "0", "1" and so on.
            model: a model, or its folder; by default minilm-32k.
            latent_boost: factor on latent scores beside words.
            max_query_terms: most latent terms of a question, the heaviest by `w * idf`.

        Raises:
            InputError: a text or an id is no string, or an id is given twice.
            ModelError: the model cannot be loaded, or gives NaN.
        """
        self.texts = checked(texts, "texts")
        self.ids = list(map(str, range(len(texts)))) if ids is None else checked(ids, "ids")
        if len(self.ids) != len(self.texts):
            raise InputError(f"{len(self.texts)} texts and {len(self.ids)} ids; give one per text")
        if len(set(self.ids)) < len(self.ids):
            twice = next(one for one in self.ids if self.ids.count(one) > 1)
            raise InputError(f"id {twice!r} is given twice; give each text its own")
        self._queries = QueryEncoder.of(model)
        encoder = self._queries.load()
        self.fingerprint = encoder.fingerprint.digest
        """Fingerprint of the model."""
        vectors = encoder.encode(self.texts)
        self._set_up(
            (vectors.indices, terms.counts(vectors.values), vectors.offsets),
            encoder.n_latents,
            latent_boost,
            max_query_terms,
        )

    def _set_up(
        self, latents: Counts, n_latents: int, latent_boost: float, max_query_terms: int
    ) -> None:
        self.latent_boost, self.max_query_terms = latent_boost, max_query_terms
        self._latent_counts = latents
        self._latents = MemoryBM25(
            *latents, n_latents, k1=DEFAULT_K1, b=DEFAULT_B, exact_lengths=False
        )
        self._vocabulary: dict[str, int] = {}
        self._words = MemoryBM25(
            *self._count_words(),
            len(self._vocabulary),
            k1=WORDS_K1,
            b=WORDS_B,
            exact_lengths=False,
        )

    def _count_words(self) -> Counts:
        numbers = self._vocabulary
        rows = [
            np.unique(
                [numbers.setdefault(word, len(numbers)) for word in words_of(text)],
                return_counts=True,
            )
            for text in self.texts
        ]
        return (
            np.concatenate([np.zeros(0), *(row[0] for row in rows)]).astype(np.int32),
            np.concatenate([np.zeros(0), *(row[1] for row in rows)]).astype(np.int64),
            np.cumsum([0, *(len(row[0]) for row in rows)]),
        )

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def n_latents(self) -> int:
        """Number of the model's latents."""
        return len(self._latents.idf)

    @property
    def document_frequency(self) -> NDArray[np.int64]:
        """Number of documents that each latent is in, `[n_latents]`."""
        return np.asarray(self._latents.document_frequency)

    @property
    def word_frequency(self) -> Mapping[str, int]:
        """Number of documents that each word is in, stemmed."""
        counts = self._words.document_frequency.tolist()
        return {word: counts[number] for word, number in self._vocabulary.items()}

    def terms(self, question: str) -> list[WeightedTerm]:
        """The latent terms of a question, heaviest by `w * idf` first."""
        check_question(question)
        ((latents, weights),) = self._queries.encode([question])
        # A latent that no document has is not asked for, as in an engine.
        idf = np.where(self._latents.document_frequency > 0, self._latents.idf, 0)[latents]
        order = np.argsort(-weights * idf, kind="stable")[: self.max_query_terms]
        return [
            WeightedTerm(terms.term(int(latents[i])), float(weights[i]), float(idf[i]))
            for i in order
        ]

    def scores(self, question: str, form: str = "hybrid") -> NDArray[np.float32]:
        """The scores of all documents, `[n_documents]`; zero for those that do not match.

        Args:
            question: in plain words.
            form: "words", "latent", or "hybrid" for both.

        Raises:
            InputError: the question is empty, or an unknown form.
        """
        if form not in FORMS:
            raise InputError(f"form {form!r}: use one of {', '.join(FORMS)}")
        check_question(question)
        total = np.zeros(len(self), dtype=np.float32)
        if form != "words":
            found = self.terms(question)
            factor = self.latent_boost if form == "hybrid" else 1.0
            latents = np.array([terms.latent_of(item.term) for item in found], dtype=np.int32)
            weights = np.array([item.weight for item in found], dtype=np.float32)
            total += self._latents.scores(latents, weights * np.float32(factor))
        if form != "latent":
            known = [self._vocabulary[w] for w in words_of(question) if w in self._vocabulary]
            numbers, times = np.unique(np.array(known, dtype=np.int32), return_counts=True)
            total += self._words.scores(numbers, times.astype(np.float32))
        return total

    def search(self, question: str, *, form: str = "hybrid", size: int = 10) -> list[LatentHit]:
        """The documents with the highest scores, best first, at most `size`.

        The other arguments and errors are those of `scores`.
        """
        scores = self.scores(question, form)
        order = np.argsort(-scores, kind="stable")[:size].tolist()
        return [
            LatentHit(self.ids[i], float(scores[i]), self.texts[i]) for i in order if scores[i] > 0
        ]

    def save(self, path: str | Path) -> None:
        """Write the index to a file, without the model; raises InputError if it cannot be written.

        The file is numpy's .npz.
        """
        latents, tf, offsets = self._latent_counts
        about = {
            "texts": self.texts,
            "ids": self.ids,
            "fingerprint": self.fingerprint,
            "n_latents": self.n_latents,
            "latent_boost": self.latent_boost,
            "max_query_terms": self.max_query_terms,
        }
        buffer = BytesIO()
        as_bytes = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        np.savez_compressed(buffer, about=as_bytes, latents=latents, tf=tf, offsets=offsets)
        with disk_errors(path, "name another file"):
            write_atomically(Path(path), buffer.getvalue())

    @classmethod
    def load(
        cls, path: str | Path, *, model: LatentEncoder | QueryEncoder | str | Path | None = None
    ) -> LatentIndex:
        """Read an index that `save` wrote.

        Args:
            path: the file.
            model: the model that made it, or its folder; by default minilm-32k.

        Raises:
            InputError: the file cannot be read, or is not such a file.
            MismatchError: it was made by another model.
            ModelError: the model cannot be loaded.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as file:
                about: dict[str, Any] = json.loads(file["about"].tobytes())
                latents = (file["latents"], file["tf"], file["offsets"])
            index = cls.__new__(cls)
            index.texts, index.ids = about["texts"], about["ids"]
            index.fingerprint = about["fingerprint"]
            settings = [about[name] for name in ("n_latents", "latent_boost", "max_query_terms")]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a file that LatentIndex.save wrote") from error
        index._queries = QueryEncoder.of(model)
        source = index._queries.source()
        if source.fingerprint.digest != index.fingerprint:
            raise MismatchError(
                f"{path} was made by another model ({index.fingerprint}) than {source.name} "
                f"({source.fingerprint.digest}); give that with model=, or make it again"
            )
        index._set_up(latents, *settings)
        return index


def checked(values: Sequence[str], name: str) -> list[str]:
    """A list of strings; raises InputError that names what is none."""
    if isinstance(values, (str, bytes)):
        raise InputError(f"{name} is one string; give a list of strings")
    for at, value in enumerate(values):
        if not isinstance(value, str):
            raise InputError(f"{name}[{at}] is {type(value).__name__}, not a string: {value!r:.60}")
    return list(values)
