"""Searches through an alias that may move, with the model of the index it stands for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.adapter import Blocking, Client, adapted
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.querying.application.point_in_time import indices_at, point_in_time
from latent_ingest.connector.querying.clause_limit import read_clause_limit
from latent_ingest.connector.querying.feedback.asking import Asking, Calls
from latent_ingest.connector.querying.feedback.first_hits import at_once, finished
from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Age at which the indices of an alias are looked up again.
RENEW_SECONDS = 10.0

# Status codes for an index that is deleted or being deleted.
GONE = (404, 503)

# Points in time whose indices are remembered.
MOST_POINTS = 100


class Searcher:
    """Searches the index behind an alias, for as long as an application runs. Thread-safe.

    Every question and every request body is rewritten for one index, by the model that made it,
    and sent to that index by its own name instead of the alias. While the alias moves to an index
    of another model, no search fails, and no latent terms of one model are searched among those of
    the other. `AsyncSearcher` is for event loops.
    """

    def __init__(
        self,
        client: OpenSearch | Client,
        alias: str,
        encoders: Sequence[LatentEncoder | QueryEncoder],
        *,
        renew_seconds: float = RENEW_SECONDS,
        **settings: Any,
    ) -> None:
        """Look up the indices of the alias.

        Args:
            client: client of opensearch-py or `elasticsearch`.
            alias: an alias, an index, a pattern, or several of these with commas.
            encoders: the models that may have made the index. While the alias stands for an index
                of another model, the previous index is searched. Several are all loaded now; a
                single `QueryEncoder` is loaded on first use.
            renew_seconds: seconds after which the alias is looked up again; it also is when its
                index is gone.
            settings: as for `QueryRewriter.from_index`.

        Raises:
            MismatchError: an index does not exist, was not made by latent-ingest, or was made by
                none of the models.
            EngineError: the engine cannot be reached, or refuses.
        """
        self._client = adapted(client)
        self._alias = alias
        self._encoders = [QueryEncoder.of(encoder) for encoder in encoders]
        self._renew_seconds = renew_seconds
        self._settings = settings
        self._lock = threading.Lock()
        self._key: object = None
        self._at = lru_cache(MOST_POINTS)(self._rewriter_at)
        self._look_up()
        if self._rewriter.statistics:
            self._rewriter.statistics.refresh()

    @property
    def index(self) -> str:
        """The index that is searched now."""
        return str(self._rewriter.index)

    @property
    def rewriter(self) -> QueryRewriter:
        """The rewriter for the index that is searched now."""
        return self._rewriter

    def search(
        self,
        asked: str | dict[str, Any] = "",
        *,
        feedback: bool | str = False,
        relevant: Sequence[str] = (),
        not_relevant: Sequence[str] = (),
        **options: Any,
    ) -> dict[str, Any]:
        """Search, and return the engine's answer.

        A body with a point in time (`pit`) is rewritten for the indices of that, and sent without
        the name of an index.

        With `feedback` or `relevant`, the question takes over latent terms of documents. The answer
        has one more part then, `feedback`: their ids (`documents`), the `terms`, `notes` on why
        there are none, and the `token`, with which the next pages keep the terms of the first.

        Args:
            asked: a question, or the request body of an application. It may be left out with
                `relevant`: the hits are documents like these, without these.
            feedback: True to ask for the first hits and take over their latent terms, or the token
                of an earlier answer to take over those.
            relevant: ids of documents whose latent terms are taken over instead.
            not_relevant: ids of documents whose latent terms are taken away from these.
            options: as for `QueryRewriter.rewrite`, or as for `rewrite_body`; without a question,
                `size` and `filter`.

        Raises:
            InputError: the question is empty, or the body or an option is invalid; or there is no
                document of the ids.
            MismatchError: the index is gone, and the alias stands for none that can be searched; or
                none of the models made the indices of the point in time.
            EngineError: the engine cannot be reached, or refuses.
        """
        calls = Calls.blocking(self._client)
        asking = Asking(calls, asked, feedback, relevant, not_relevant, options)
        return finished(self.searched(asking, at_once))

    async def searched(self, asking: Asking, run: Callable[..., Awaitable[Any]]) -> dict[str, Any]:
        """Search with functions that block or wait for an event loop.

        `run` calls a blocking function, as `asyncio.to_thread`.
        """
        if point := point_in_time(asking.asked):
            rewriter = await run(self._at, point)
            with engine_errors(self._client):
                return await asking.answer(rewriter)
        while True:
            if time.monotonic() - self._looked_up >= self._renew_seconds:
                await run(self.renew)
            rewriter = self._rewriter
            with engine_errors(self._client):
                try:
                    answer = await asking.answer(rewriter, index=rewriter.index)
                except TransportError as error:
                    if error.status_code not in GONE or not await run(self.moved_from, rewriter):
                        raise
                    continue
            if not doubtful(answer, rewriter) or not await run(self.moved_from, rewriter):
                return answer

    def renew(self) -> None:
        """Look the alias up again, unless another thread does; the old index serves meanwhile."""
        if self._lock.acquire(blocking=False):
            try:
                with suppress(MismatchError):
                    self._look_up()
            finally:
                self._lock.release()

    def moved_from(self, rewriter: QueryRewriter) -> bool:
        """Return whether another rewriter is to be used now; raises as `search`."""
        with self._lock:
            if self._rewriter is rewriter:
                self._look_up()
            return self._rewriter is not rewriter

    def _rewriter_at(self, point: str) -> QueryRewriter:
        """Return the rewriter for the indices of a point in time; raises as `search`."""
        names = indices_at(self._client, point)
        rewriter = self._rewriter
        if set(names) <= set(rewriter.indices):
            return rewriter
        asked = AskedIndices.read(self._client, ",".join(names))
        encoder = self._encoder_of(asked)
        return QueryRewriter.for_indices(self._client, asked, encoder, **self._settings)

    def _look_up(self) -> None:
        self._looked_up = time.monotonic()
        asked = AskedIndices.read(self._client, self._alias)
        asked.check_alike()
        encoder = self._encoder_of(asked)
        if asked.key != self._key:
            self._rewriter = QueryRewriter.for_indices(
                self._client, asked, encoder, **self._settings
            )
            self._key = asked.key
        elif "max_clauses" not in self._settings:
            before = self._rewriter.max_clauses
            if (limit := read_clause_limit(self._client, otherwise=before)) != before:
                self._rewriter = self._rewriter.with_settings(max_clauses=limit)

    def _encoder_of(self, asked: AskedIndices) -> QueryEncoder:
        if len(self._encoders) == 1 and not self._encoders[0].ready:
            return self._encoders[0]
        for encoder in self._encoders:
            if encoder.source().fingerprint.digest == asked.meta.fingerprint:
                return encoder
        models = [encoder.source() for encoder in self._encoders]
        names = ", ".join(f"{model.name} ({model.fingerprint.digest})" for model in models)
        raise MismatchError(
            f"index {next(iter(asked.metas))} was made by model {asked.meta.model} "
            f"({asked.meta.fingerprint}), which is none of those loaded here: {names}"
        )


class AsyncSearcher:
    """A `Searcher` for an asynchronous client. It never blocks the event loop."""

    def __init__(self, client: AsyncOpenSearch, searcher: Searcher) -> None:
        """Use `open` instead."""
        self._client = client
        self._searcher = searcher

    @classmethod
    async def open(
        cls,
        client: AsyncOpenSearch | Client,
        alias: str,
        encoders: Sequence[LatentEncoder | QueryEncoder],
        **settings: Any,
    ) -> AsyncSearcher:
        """Look up the indices of the alias; arguments and errors are those of `Searcher`."""
        on_loop: Any = adapted(client, asynchronous=True)
        blocking = cast("OpenSearch", Blocking(on_loop, asyncio.get_running_loop()))
        searcher = await asyncio.to_thread(Searcher, blocking, alias, encoders, **settings)
        return cls(on_loop, searcher)

    @property
    def index(self) -> str:
        """The index that is searched now."""
        return self._searcher.index

    @property
    def rewriter(self) -> QueryRewriter:
        """The rewriter for the index that is searched now; `rewrite_async` does not block."""
        return self._searcher.rewriter

    async def search(
        self,
        asked: str | dict[str, Any] = "",
        *,
        feedback: bool | str = False,
        relevant: Sequence[str] = (),
        not_relevant: Sequence[str] = (),
        **options: Any,
    ) -> dict[str, Any]:
        """Search, and return the engine's answer; as `Searcher.search`."""
        calls = Calls.on_loop(self._client)
        asking = Asking(calls, asked, feedback, relevant, not_relevant, options)
        return await self._searcher.searched(asking, asyncio.to_thread)


def doubtful(answer: dict[str, Any], rewriter: QueryRewriter) -> bool:
    """Return whether an answer may be from other indices than the request was made for."""
    hits = answer.get("hits", {}).get("hits", [])
    return bool(answer["_shards"]["failed"]) or any(
        hit["_index"] not in rewriter.indices for hit in hits
    )
