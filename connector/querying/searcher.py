"""Searches through an alias that moves, with the model of the index it points at."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.querying.asked_indices import AskedIndices
from latent_ingest.connector.querying.clause_limit import read_clause_limit
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# How old the knowledge of where an alias points may be.
RENEW_SECONDS = 10.0

# What an engine answers about an index that is deleted, and while it is being deleted.
GONE = (404, 503)


class Searcher:
    """Asks the index behind an alias, for as long as an application runs.

    Every question, and every body, is rewritten for one index, by the model that made it, and sent
    to that index by its own name, not by the alias: while the alias moves to an index of another
    model, no search fails and none has the latent terms of one model looked up among those of the
    other. It may be used by several threads at once; see `AsyncSearcher` for event loops.
    """

    def __init__(
        self,
        client: OpenSearch,
        alias: str,
        encoders: Sequence[LatentEncoder | QueryEncoder],
        *,
        renew_seconds: float = RENEW_SECONDS,
        **settings: Any,
    ) -> None:
        """Look up where the alias points.

        Args:
            client: of the engine.
            alias: or an index, a pattern, or several with commas.
            encoders: the models that the index may have been made by. While the alias points at
                an index of yet another, the index before is asked. Several are all loaded now; one
                alone, if it is a `QueryEncoder`, when the first question comes.
            renew_seconds: the alias is looked up again after so long, and when its index is gone.
            settings: as for `QueryRewriter.from_index`.

        Raises:
            MismatchError: no such index, not one of ours, or made by none of the models.
            EngineError: the engine cannot be asked.
        """
        self._client = client
        self._alias = alias
        self._encoders = [QueryEncoder.of(encoder) for encoder in encoders]
        self._renew_seconds = renew_seconds
        self._settings = settings
        self._lock = threading.Lock()
        self._found: AskedIndices | None = None
        self._look_up()
        if self._rewriter.statistics:
            self._rewriter.statistics.refresh()

    @property
    def index(self) -> str:
        """The index that is asked now."""
        return str(self._rewriter.index)

    def search(self, asked: str | dict[str, Any], **options: Any) -> dict[str, Any]:
        """Search; the engine's answer.

        Args:
            asked: a question, or the body of a request that an application has.
            options: as for `QueryRewriter.rewrite`, or for `rewrite_body`.

        Raises:
            InputError: the question is empty, or the body or an option cannot be.
            MismatchError: the index is gone, and the alias points at none that can be asked.
            EngineError: the engine cannot be asked, or refuses.
        """
        while True:
            if self.is_due():
                self.renew()
            rewriter = self.rewriter
            body, _ = rewriter.rewrite_and_report(asked, **options)
            with engine_errors(self._client):
                try:
                    answer: dict[str, Any] = self._client.search(index=rewriter.index, body=body)
                except TransportError as error:
                    if error.status_code not in GONE or not self.moved_from(rewriter):
                        raise
                    continue
            if not doubtful(answer, rewriter) or not self.moved_from(rewriter):
                return answer

    @property
    def rewriter(self) -> QueryRewriter:
        """For the index that is asked now."""
        return self._rewriter

    def is_due(self) -> bool:
        """Whether it is time to look the alias up again."""
        return time.monotonic() - self._looked_up >= self._renew_seconds

    def renew(self) -> None:
        """Look the alias up; the index before will do while there is no other.

        While one thread does, the others go on with what is known.
        """
        if self._lock.acquire(blocking=False):
            try:
                with suppress(MismatchError):
                    self._look_up()
            finally:
                self._lock.release()

    def moved_from(self, rewriter: QueryRewriter) -> bool:
        """Whether there is now another index to ask; raises as `search`."""
        with self._lock:
            if self._rewriter is rewriter:
                self._look_up()
            return self._rewriter is not rewriter

    def _look_up(self) -> None:
        self._looked_up = time.monotonic()
        asked = AskedIndices.read(self._client, self._alias)
        asked.check_alike()
        encoder = self._encoder_of(asked)
        if not asked.same_as(self._found):
            self._rewriter = QueryRewriter.for_indices(
                self._client, asked, encoder, **self._settings
            )
            self._found = asked
        elif "max_clauses" not in self._settings:
            limit = read_clause_limit(self._client, otherwise=self._rewriter.max_clauses)
            self._rewriter.max_clauses = limit

    def _encoder_of(self, asked: AskedIndices) -> QueryEncoder:
        if len(self._encoders) == 1 and not self._encoders[0].loaded:
            return self._encoders[0]
        for encoder in self._encoders:
            if encoder.load().fingerprint.digest == asked.meta.fingerprint:
                return encoder
        models = [encoder.load() for encoder in self._encoders]
        names = ", ".join(f"{model.name} ({model.fingerprint.digest})" for model in models)
        raise MismatchError(
            f"index {next(iter(asked.metas))} was made by model {asked.meta.model} "
            f"({asked.meta.fingerprint}), which is none of those loaded here: {names}"
        )


def doubtful(answer: dict[str, Any], rewriter: QueryRewriter) -> bool:
    """Whether an answer may be of other indices than the request was made for."""
    hits = answer.get("hits", {}).get("hits", [])
    return bool(answer["_shards"]["failed"]) or any(
        hit["_index"] not in rewriter.indices for hit in hits
    )
