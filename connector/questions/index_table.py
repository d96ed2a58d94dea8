"""The words of an index's documents, and of its model's table → the table of the index."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.questions.building import build_table
from latent_ingest.connector.questions.question_analyzer import rules_of
from latent_ingest.connector.questions.question_table import FILE, STOP_WORDS, QuestionTable
from latent_ingest.connector.questions.stored_table import (
    INDEX,
    INDEX_WORDS,
    Digest,
    StoredTable,
)
from latent_ingest.connector.questions.word_counts import WordCounts
from latent_ingest.connector.questions.words import words_of

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

_letter = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class ChosenWords:
    """The words that a table of an index has, as `words_of` gives them."""

    words: Sequence[str]
    """Most useful first."""
    own: int
    """Number of words that the documents have: the first ones."""
    lacking: Sequence[str]
    """Those that the model's table lacks, which must be encoded."""
    same: bool
    """Whether all own words are in the table that a new index has already: the first words of the
    model's table."""


def model_table(encoder: LatentEncoder, *, strict: bool = False) -> QuestionTable | None:
    """Load the table in the folder of a model; None if there is none.

    One that cannot be used, or is of another model or k, is none, too; with `strict`, it raises
    ModelError.
    """
    if encoder.folder is None or not (encoder.folder / FILE).is_file():
        return None
    try:
        table = QuestionTable.load(encoder.folder)
        if table.fingerprint != encoder.fingerprint:
            raise ModelError(
                f"{encoder.folder / FILE}: made by another model "
                f"({table.fingerprint.digest}, this one is {encoder.fingerprint.digest}); make it "
                f"again with 'latent-ingest questions'"
            )
    except ModelError:
        if strict:
            raise
        return None
    return table


def choose_words(
    counts: WordCounts, general: QuestionTable | None, most: int = INDEX_WORDS
) -> ChosenWords:
    """Choose the words of a table.

    First the words of the documents, by document frequency, also those of a single document: names
    of genes and drugs tell documents apart. Then, while there is room, those of the model's table
    that no document has, since questions use other words than documents. docs/benchmarks.md has
    what each choice is worth.

    Args:
        counts: document frequencies.
        general: the table of the model; None if it has none.
        most: number of words.
    """
    known = [word for word in map(plain, general.words if general else ()) if has_latents(word)]
    in_model = set(known)
    own = [word for word in counts.frequent() if _letter.search(word) and has_latents(word)][:most]
    words = list(dict.fromkeys([*own, *known]))[:most]
    return ChosenWords(
        words,
        own=len(own),
        lacking=[word for word in own if word not in in_model],
        same=set(map(plain, islice(general.words if general else (), most))).issuperset(own),
    )


def has_latents(word: str) -> bool:
    """Whether a word has latents in a table."""
    return word not in STOP_WORDS


def plain(entry: str) -> str:
    """Return a word of a model's table, or a phrase, as `words_of` gives its words."""
    return entry if entry.isascii() else " ".join(words_of(entry))


def build_index_table(
    encoder: LatentEncoder,
    chosen: ChosenWords,
    general: QuestionTable | None,
    on_progress: Callable[[int], object] = lambda done: None,
) -> StoredTable | None:
    """Make the table of an index; None if none of its words has latents.

    Args:
        encoder: the model, which encodes the words that its table lacks: some 160 a second on one
            CPU core.
        chosen: return value of `choose_words`.
        general: the table of this model; None if it has none.
        on_progress: called with the number of words just encoded; what it raises ends the encoding.

    Raises:
        ModelError: the model gives NaN.
    """
    weights: dict[str, dict[int, int]] = {}
    for table in (build_table(encoder, chosen.lacking, on_progress=on_progress), general):
        for word, latents, counts in table.entries() if table else ():
            found = dict(zip(latents.tolist(), counts.tolist(), strict=True))
            weights.setdefault(plain(word), found)
    rules = rules_of((word, weights[word]) for word in chosen.words)
    digest = Digest(encoder.fingerprint.digest)
    return StoredTable(encoder.name, digest, rules, INDEX) if rules else None
