"""The table of an index, asked question by question: the engine's analyzer looks the words up.

For commands and scripts that ask a few questions: the table itself, megabytes of settings, is not
read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.questions.question_analyzer import (
    TABLE_FILTER,
    as_arrays,
    named_latents,
    read,
)
from latent_ingest.connector.questions.question_table import STOP_WORDS
from latent_ingest.connector.questions.stored_table import Digest, described
from latent_ingest.connector.questions.words import words_of
from latent_ingest.mappings import SEARCH_ANALYZER

# Words of one request. Each has up to 24 latents of weight 9, and engines show 10,000 terms.
WORDS_AT_ONCE = 40

# What is left of words that have no rule.
WITHOUT_RULE = re.compile("¦[^¦]*¦")

# What is asked for: the text behind each char filter of the analyzer.
FILTERED = "detail.charfilters"


class EngineTable:
    """The tables of one or more indices of a model, which their engine looks words up in.

    Like `StoredTable`, but words that were not asked before are a request, so do not use it on an
    event loop.
    """

    asks = True

    def __init__(
        self, client: OpenSearch, name: str, notes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Ask nothing yet.

        Args:
            client: client of the engine.
            name: name of the model.
            notes: index → `IndexMeta.questions`; each index has another table. Words that the
                first one lacks are looked up in the next one.
        """
        self._client = client
        self._indices = list(notes)
        self._rules: dict[str, str] = {}
        self._words: int = max(note["words"] for note in notes.values())
        self.name = name
        self.fingerprint = Digest(next(iter(notes.values()))["fingerprint"])

    def allowed(self) -> bool:
        """Return whether this login may ask the engine for words; raises EngineError."""
        body = {"analyzer": SEARCH_ANALYZER, "text": "."}
        with engine_errors(self._client):
            try:
                for index in self._indices:
                    self._client.indices.analyze(index=index, body=body)
            except AuthorizationException:
                return False
        return True

    @property
    def described(self) -> str:
        """The table in words."""
        return described(len(self._indices), self._words)

    def lacking(self, text: str) -> list[str]:
        """Return the words of a text that are in no table and are no stop words, each once.

        Raises EngineError.
        """
        if named_latents(text) is not None:
            return []
        rules = self._rules_of(text)
        return [word for word, rule in rules.items() if not rule and word not in STOP_WORDS]

    def encode(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return what `StoredTable.encode` returns; raises EngineError."""
        if (named := named_latents(text)) is not None:
            return as_arrays(named)
        rules = self._rules_of(text)
        return as_arrays(read(" ".join(rules[word] for word in words_of(text))))

    def _rules_of(self, text: str) -> dict[str, str]:
        """The right side of the rule of each word; empty if no table has it."""
        words = list(dict.fromkeys(words_of(text)))
        unknown = [word for word in words if word not in self._rules]
        for index in self._indices:
            for start in range(0, len(unknown), WORDS_AT_ONCE):
                some = unknown[start : start + WORDS_AT_ONCE]
                self._rules.update(zip(some, self._asked(index, some), strict=True))
            unknown = [word for word in unknown if not self._rules[word]]
        return {word: self._rules[word] for word in words}

    def _asked(self, index: str, words: Iterable[str]) -> Iterable[str]:
        """What the analyzer has in place of each word."""
        # With a full stop, a word that looks like a latent term is still a word.
        texts = [f"{word} ." for word in words]
        body = {"analyzer": SEARCH_ANALYZER, "text": texts, "explain": True}
        with engine_errors(self._client):
            answer = self._client.indices.analyze(
                index=index, body=body, params={"filter_path": FILTERED}
            )
        filters = answer["detail"]["charfilters"]
        (found,) = (one["filtered_text"] for one in filters if one["name"] == TABLE_FILTER)
        return (WITHOUT_RULE.sub("", text).strip() for text in found)
