"""Questions → requests of a system, and the time that making each takes.

Questions are encoded in batches, once for all systems. How long one takes is measured on it alone,
as it is asked by people, and counts for each system.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from latent_ingest.connector.evaluation.searches import HITS, Requested, since
from latent_ingest.connector.evaluation.templates import Template
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter


class Requests:
    """Makes the requests of all systems on one index."""

    def __init__(
        self, rewriter: QueryRewriter, encoder: QueryEncoder, query_k: int | None = None
    ) -> None:
        """Nothing is encoded yet.

        Args:
            rewriter: of the index.
            encoder: its model, with room for all questions.
            query_k: the rewriter's.
        """
        self.rewriter = rewriter
        self._encoder = encoder
        self._query_k = query_k
        self._encoding_ms: dict[str, float] = {}

    def of_system(self, system: str, texts: Sequence[str]) -> list[Requested]:
        """Those of a system by its name."""
        if system == "words":
            return [timed(self.rewriter.words_only, text, size=HITS) for text in texts]
        self._encode([text for text in texts if text not in self._encoding_ms])
        made = [timed(self.rewriter.rewrite, text, form=system, size=HITS) for text in texts]
        return [
            (body, self._encoding_ms[text] + ms)
            for text, (body, ms) in zip(texts, made, strict=True)
        ]

    def of_template(self, template: Template, texts: Sequence[str]) -> list[Requested]:
        """Those of a request of the user's own."""
        return [timed(template.body, text, HITS, self.rewriter.collapse) for text in texts]

    def _encode(self, texts: Sequence[str]) -> None:
        """Have the encodings of questions kept, and measure how long each takes."""
        self._encoder.encode(texts, self._query_k)
        for text in texts:
            started = time.perf_counter()
            self._encoder.load().encode([text], kind="query", k=self._query_k)
            # One that is too long to be kept is encoded, and timed, with each request.
            kept = self._encoder.keeps(text, self._query_k)
            self._encoding_ms[text] = since(started) if kept else 0.0


def timed(make: Callable[..., dict[str, Any]], *arguments: Any, **named: Any) -> Requested:
    """What a call makes, without the documents' contents, and how long it takes."""
    started = time.perf_counter()
    body = make(*arguments, **named)
    return {**body, "_source": False}, since(started)
