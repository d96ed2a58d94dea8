"""The table of an index, as the index stores it: made of a model's table, or read back.

Numbers of both sides agree: Python adds up the weights in the rules, as the engine's `match` does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector.errors import MismatchError, ModelError
from latent_ingest.connector.questions.question_analyzer import (
    Rules,
    analysis_of,
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

# Words of the table of an index, unless another number is asked for: 5 MB of settings.
INDEX_WORDS = 30_000

# Where the words of the table of an index are from.
MODEL, INDEX = "model", "index"

log = logging.getLogger(__name__)


class Digest(NamedTuple):
    """All that an index keeps of a `ModelFingerprint`."""

    digest: str


@dataclass(frozen=True)
class StoredTable:
    """The table of an index. Read-only, so that any number of threads may encode by it."""

    name: str
    """Name of the model that made it."""
    fingerprint: Digest
    """The model that made it, which must be that of the index."""
    rules: Rules
    """Words and their latents with weights; see `question_analyzer`."""
    origin: str
    """"model": the most frequent words of the model's table; "index": those of its documents."""

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
        found = {word for entry in self._entries(text) for word in entry.split(" ")} | STOP_WORDS
        return [word for word in dict.fromkeys(words_of(text)) if word not in found]

    def encode(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the latents of a question, ascending, and their weights, `[n]` each.

        Words that the table lacks add nothing. A text of nothing but latent terms, as "f12 f55",
        has these latents.
        """
        sums = named_latents(text)
        if sums is None:
            sums = {}
            for entry in self._entries(text):
                for latent, weight in read(self.rules[entry]).items():
                    sums[latent] = sums.get(latent, 0) + weight
        latents = np.array(sorted(sums), dtype=np.int32)
        weights = np.array([sums[latent] for latent in latents.tolist()], dtype=np.float32)
        return latents, weights

    def _entries(self, text: str) -> list[str]:
        return list(entries_in(text, self.rules, self._longest))
