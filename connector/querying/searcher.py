"""Searches through an alias that moves, with the model of the index it points at."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.querying.rewriter import QueryRewriter

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# How old the knowledge of where an alias points may be.
RENEW_SECONDS = 10.0

# What an engine answers about an index that is deleted, and while it is being deleted.
GONE = (404, 503)


class Searcher:
    """Asks the index behind an alias, for as long as an application runs.

    Every question is rewritten for one index, by the model that made it, and sent to that index by
    its own name, not by the alias: while the alias moves to an index of another model, no search
    fails and none has the latent terms of one model looked up among those of the other. It may be
    used by several threads at once.
    """

    def __init__(
        self,
        client: OpenSearch,
        alias: str,
        encoders: Sequence[LatentEncoder],
        *,
        renew_seconds: float = RENEW_SECONDS,
        **settings: Any,
    ) -> None:
        """Look up where the alias points.

        Args:
            client: of the engine.
            alias: or an index.
            encoders: the models that the index may have been made by. While the alias points at
                an index of yet another, the index before is asked.
            renew_seconds: the alias is looked up again after so long, and when its index is gone.
            settings: as for `QueryRewriter`.

        Raises:
            MismatchError: no such index, not one of ours, or made by none of the models.
            EngineError: the engine cannot be asked.
        """
        self._client = client
        self._alias = alias
        self._encoders = {encoder.fingerprint.digest: encoder for encoder in encoders}
        self._renew_seconds = renew_seconds
        self._settings = settings
        self._lock = threading.Lock()
        self._found: tuple[str, IndexMeta] | None = None
        self._look_up()
        self._looked_up = time.monotonic()

    @property
    def index(self) -> str:
        """The index that is asked now."""
        return str(self._rewriter.index)

    def search(self, text: str, **options: Any) -> dict[str, Any]:
        """Search; the engine's answer.

        Args:
            text: the question.
            options: as for `QueryRewriter.rewrite`.

        Raises:
            InputError: an option cannot be.
            MismatchError: the index is gone, and the alias points at none that can be asked.
            EngineError: the engine cannot be asked, or refuses.
        """
        while True:
            with self._lock:  # a tokenizer is not for several threads
                self._renew()
                rewriter = self._rewriter
                body = rewriter.rewrite(text, **options)
            with engine_errors(self._client):
                try:
                    answer: dict[str, Any] = self._client.search(index=rewriter.index, body=body)
                except TransportError as error:
                    if error.status_code not in GONE or not self._moved_from(rewriter):
                        raise
                    continue
            if not answer["_shards"]["failed"] or not self._moved_from(rewriter):
                return answer

    def _renew(self) -> None:
        """Look the alias up when that is due; the index before will do while there is no other."""
        if time.monotonic() - self._looked_up >= self._renew_seconds:
            with suppress(MismatchError):
                self._look_up()
            self._looked_up = time.monotonic()

    def _moved_from(self, rewriter: QueryRewriter) -> bool:
        """Whether there is now another index to ask."""
        with self._lock:
            self._look_up()
            return self._rewriter.index != rewriter.index

    def _look_up(self) -> None:
        found = IndexMeta.find(self._client, self._alias)
        if found is None:
            raise MismatchError(
                f"no index or alias {self._alias}; make it with 'latent-ingest FILE --alias "
                f"{self._alias}'"
            )
        index, meta = found
        known = self._encoders.get(meta.fingerprint)
        if known is None:
            names = ", ".join(f"{e.name} ({digest})" for digest, e in self._encoders.items())
            raise MismatchError(
                f"index {index} was made by model {meta.model} ({meta.fingerprint}), which is none "
                f"of those loaded here: {names}"
            )
        if found != self._found:
            self._rewriter = QueryRewriter.from_index(self._client, index, known, **self._settings)
            self._found = found
