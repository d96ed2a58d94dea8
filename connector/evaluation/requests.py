"""Questions → requests of a system, and the time that each takes to make.

A question is encoded by itself, as when somebody asks it, and once for all systems: its encoding is
kept, and the time it took counts for each of them.
"""

from __future__ import annotations

import time
from typing import Any

from latent_ingest.connector.evaluation.searches import HITS, Request, since
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

    def of_system(self, system: str) -> Request:
        """Those of a system by its name."""

        def request(text: str) -> tuple[dict[str, Any], float]:
            encoding_ms = 0.0 if system == "words" else self._encoded(text)
            started = time.perf_counter()
            if system == "words":
                body = self.rewriter.words_only(text, size=HITS)
            else:
                body = self.rewriter.rewrite(text, form=system, size=HITS)
            return {**body, "_source": False}, encoding_ms + since(started)

        return request

    def of_template(self, template: Template) -> Request:
        """Those of a request of the user's own."""

        def request(text: str) -> tuple[dict[str, Any], float]:
            started = time.perf_counter()
            return template.body(text, HITS, self.rewriter.collapse), since(started)

        return request

    def _encoded(self, text: str) -> float:
        """Milliseconds that it took; 0 for a text too long to be kept, which is encoded again."""
        if not self._encoding_ms:
            # The first encoding of a model takes longer, and counts for no question.
            self._encoder.load().encode([text], kind="query", k=self._query_k)
        if text not in self._encoding_ms:
            started = time.perf_counter()
            self._encoder.encode([text], self._query_k)
            kept = self._encoder.keeps(text, self._query_k)
            self._encoding_ms[text] = since(started) if kept else 0.0
        return self._encoding_ms[text]
