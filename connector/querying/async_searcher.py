"""`Searcher` for event loops."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.querying.searcher import GONE, Searcher, doubtful

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.querying.query_encoder import QueryEncoder
    from latent_ingest.connector.querying.rewriter import QueryRewriter


class AsyncSearcher:
    """As `Searcher`, with opensearch-py's AsyncOpenSearch. The loop is never kept waiting."""

    def __init__(self, client: AsyncOpenSearch, searcher: Searcher) -> None:
        """Made by `open`."""
        self._client = client
        self._searcher = searcher

    @classmethod
    async def open(
        cls,
        client: AsyncOpenSearch,
        alias: str,
        encoders: Sequence[LatentEncoder | QueryEncoder],
        **settings: Any,
    ) -> AsyncSearcher:
        """Look up where the alias points; as the constructor of `Searcher`."""
        waiting = cast("OpenSearch", Waiting(client, asyncio.get_running_loop()))
        return cls(client, await asyncio.to_thread(Searcher, waiting, alias, encoders, **settings))

    @property
    def index(self) -> str:
        """The index that is asked now."""
        return self._searcher.index

    @property
    def rewriter(self) -> QueryRewriter:
        """For the index that is asked now; its `rewrite_async` is for requests sent otherwise."""
        return self._searcher.rewriter

    async def search(self, asked: str | dict[str, Any], **options: Any) -> dict[str, Any]:
        """Search; the engine's answer. Parameters and errors are those of `Searcher.search`."""
        searcher = self._searcher
        while True:
            if searcher.is_due():
                await asyncio.to_thread(searcher.renew)
            rewriter = searcher.rewriter
            body = await rewriter.rewrite_async(asked, **options)
            with engine_errors(cast("OpenSearch", self._client)):
                try:
                    answer: dict[str, Any] = await self._client.search(
                        index=rewriter.index, body=body
                    )
                except TransportError as error:
                    if error.status_code not in GONE or not await asyncio.to_thread(
                        searcher.moved_from, rewriter
                    ):
                        raise
                    continue
            if not doubtful(answer, rewriter) or not await asyncio.to_thread(
                searcher.moved_from, rewriter
            ):
                return answer


class Waiting:
    """An async client, or a part of it such as `indices`, as threads beside its loop see it.

    Its methods wait for what the loop gets for them.
    """

    def __init__(self, part: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._part = part
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if not callable(value):
            return Waiting(value, self._loop) if hasattr(value, "transport") else value

        def call(*arguments: Any, **options: Any) -> Any:
            result = value(*arguments, **options)
            if not inspect.iscoroutine(result):
                return result
            try:
                return asyncio.run_coroutine_threadsafe(result, self._loop).result()
            except RuntimeError:  # the loop has ended
                result.close()
                raise

        return call
