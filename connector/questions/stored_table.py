"""The table of an index, as the index stores it: made of a model's table, or read back.

Numbers of both sides agree: Python adds up the weights in the rules, as the engine's `match` does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.errors import MismatchError, ModelError
from latent_ingest.connector.questions.question_analyzer import (
    Rules,
    analysis_of,
    as_arrays,
    digest_of,
    named_latents,
    read,
    rules_of,
    table_of,
)
from latent_ingest.connector.questions.question_table import FILE, STOP_WORDS, QuestionTable
from latent_ingest.connector.questions.words import entries_in, words_of

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Words of the table of an index, unless another number is asked for: 7 MB of settings.
INDEX_WORDS = 40_000

# Where the words of the table of an index are from.
MODEL, INDEX = "model", "index"

log = logging.getLogger(__name__)


def described(indices: int, words: int) -> str:
    """Tables of indices in words, for reports."""
    if indices == 1:
        return f"table of the index, {words:,} words"
    return f"tables of {indices} indices, {words:,} words and more"


class Digest(NamedTuple):
    """All that an index keeps of a `ModelFingerprint`."""

    digest: str


@dataclass(frozen=True)
class StoredTable:
    """The table of an index. Read-only, so that any number of threads may encode by it."""

    asks: ClassVar = False
    """Whether a question is a request to the engine."""

    name: str
    """Name of the model that made it."""
    fingerprint: Digest
    """The model that made it, which must be that of the index."""
    rules: Rules
    """Words and their latents with weights; see `question_analyzer`."""
    origin: str
    """"model": the most frequent words of the model's table; "index": those of its documents."""
    indices: int = 1
    """Number of the indices whose tables these are."""

    @classmethod
    def of(
        cls, table: QuestionTable, most: int = INDEX_WORDS, *, origin: str = MODEL
    ) -> StoredTable | None:
        """Make the table of an index of the first `most` words; None if none has latents."""
        entries = (
            (word, dict(zip(latents.tolist(), weights.tolist(), strict=True)))
            for word, latents, weights in islice(table.entries(), most)
        )
        rules = rules_of(entries)
        return cls(table.name, Digest(table.fingerprint.digest), rules, origin) if rules else None

    @classmethod
    def of_model(cls, encoder: LatentEncoder, most: int = INDEX_WORDS) -> StoredTable | None:
        """Make the table that a new index gets: that of the model's folder, if it has one.

        A table that cannot be used is logged, and of another model's only if that is not due to k.
        """
        if encoder.folder is None or not (encoder.folder / FILE).is_file():
            return None
        try:
            table = QuestionTable.load(encoder.folder)
        except ModelError as error:
            log.warning("new indices get no question table: %s", error)
            return None
        if table.fingerprint != encoder.fingerprint:
            log.info("the question table of model %s is of another model or k", encoder.name)
            return None
        return cls.of(table, most)

    @classmethod
    def from_index(
        cls, index: str, note: Mapping[str, Any] | None, model: str, settings: Mapping[str, Any]
    ) -> StoredTable | None:
        """Read the table of an index; None if it has none.

        Args:
            index: name of the index, for messages.
            note: `IndexMeta.questions`.
            model: name of the model that made the index.
            settings: flat settings of the index; `question_analyzer.RULES` of them is enough.

        Raises:
            MismatchError: the rules are not those that the note is about.
        """
        rules = table_of(settings)
        if note is None or rules is None:
            return None
        if (found := digest_of(rules)) != note["digest"]:
            raise MismatchError(
                f"the question table in the settings of index {index} is {found}, but its "
                f"_meta.latent_ingest is about {note['digest']}; make it again with "
                f"'latent-ingest questions --index {index}'"
            )
        return cls(model, Digest(note["fingerprint"]), rules, note["origin"])

    @classmethod
    def joined(cls, tables: Sequence[StoredTable]) -> StoredTable:
        """Return the words of all tables, which are of one model; of equal words, the first."""
        first, *others = tables
        if not others:
            return first
        rules: dict[str, str] = {}
        for table in reversed(tables):
            rules |= table.rules
        return replace(first, rules=rules, indices=len(tables))

    @property
    def described(self) -> str:
        """The table in words."""
        return described(self.indices, len(self.rules))

    def note(self) -> dict[str, Any]:
        """Return what the index meta says of the table."""
        return {
            "digest": digest_of(self.rules),
            "words": len(self.rules),
            "origin": self.origin,
            "fingerprint": self.fingerprint.digest,
        }

    def analysis(self) -> dict[str, Any]:
        """Return the parts of `settings.analysis` that the index needs for the table."""
        return analysis_of(self.rules)

    @cached_property
    def _longest(self) -> int:
        """Most words of a phrase."""
        return 1 + max((word.count(" ") for word in self.rules), default=0)

    def lacking(self, text: str) -> list[str]:
        """Return the words of a text that are in no entry and are no stop words, each once."""
        if named_latents(text) is not None:
            return []
        found = {word for _, words in self._entries(text) for word in words} | STOP_WORDS
        return [word for word in dict.fromkeys(words_of(text)) if word not in found]

    def encode(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the latents of a question, ascending, and their weights, `[n]` each.

        Words that the table lacks add nothing. A text of nothing but latent terms, as "f12 f55",
        has these latents.
        """
        named = named_latents(text)
        if named is None:
            named = read(" ".join(self.rules[entry] for entry, _ in self._entries(text)))
        return as_arrays(named)

    def _entries(self, text: str) -> list[tuple[str, Sequence[str]]]:
        return list(entries_in(text, self.rules, self._longest))
