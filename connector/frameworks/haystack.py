"""A retriever for Haystack, over its own OpenSearch document store (needs the extra `haystack`)."""

from __future__ import annotations

from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.frameworks.requirement import require
from latent_ingest.connector.frameworks.store import check_size
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.scoring import AUTO
from latent_ingest.connector.querying.searcher import AsyncSearcher, Searcher

require("haystack-ai", "haystack", "2.31", "4")
require("opensearch-haystack", "haystack", "7", "10")

import asyncio

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy
from haystack_integrations.document_stores.opensearch import OpenSearchDocumentStore
from haystack_integrations.document_stores.opensearch.filters import normalize_filters


@component
class LatentTermsRetriever:
    """Finds the documents of a store by meaning.

    The index of the store needs latent terms, which `latent-ingest enrich --text-fields content`
    or an `EnrichJob` adds, and `enrich --watch` keeps up to date.

        store = OpenSearchDocumentStore(hosts="http://localhost:9200", index="papers")
        LatentTermsRetriever(document_store=store).run(query="does vitamin D prevent falls")
    """

    def __init__(
        self,
        *,
        document_store: OpenSearchDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        form: str = AUTO,
        model: str | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        """Ask nothing yet.

        Args:
            document_store: the store, whose clients and filters are used.
            filters: what documents must match, in Haystack's form.
            top_k: number of documents.
            form: what scores, as for `QueryRewriter.rewrite`.
            model: the folder of the model that made the latent terms; by default minilm-32k.
            filter_policy: "replace" or "merge": what filters given to `run` do with those above.

        Raises:
            InputError: it is another store.
        """
        if not isinstance(document_store, OpenSearchDocumentStore):
            raise InputError(
                f"document_store is {type(document_store).__name__}; give an "
                "OpenSearchDocumentStore"
            )
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.form = form
        self.model = model
        self.filter_policy = (
            filter_policy
            if isinstance(filter_policy, FilterPolicy)
            else FilterPolicy.from_str(filter_policy)
        )
        self._queries = QueryEncoder(model)
        self._searcher: Searcher | None = None
        self._async_searcher: tuple[object, AsyncSearcher] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The component as a dictionary, for pipelines in YAML."""
        made: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            form=self.form,
            model=self.model,
            filter_policy=self.filter_policy.value,
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LatentTermsRetriever:
        """The component that `to_dict` described."""
        given = data["init_parameters"]
        store = OpenSearchDocumentStore.from_dict(given["document_store"])
        again = {**data, "init_parameters": {**given, "document_store": store}}
        made: LatentTermsRetriever = default_from_dict(cls, again)
        return made

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Search.

        Args:
            query: in plain words.
            filters: what documents must match.
            top_k: number of documents; by default that of the component.

        Returns:
            `documents`: the best first, with their scores.

        Raises:
            InputError, MismatchError, ModelError, EngineError: as `Searcher` and its `search`.
        """
        store = self.document_store
        if self._searcher is None:
            store._ensure_initialized()
            self._searcher = Searcher(store._client, store._index, [self._queries])
        answer = self._searcher.search(query, **self._asked(filters, top_k))
        return {"documents": [*map(document_of, answer["hits"]["hits"])]}

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As `run`, without blocking the event loop."""
        store, loop = self.document_store, asyncio.get_running_loop()
        if self._async_searcher is None or self._async_searcher[0] is not loop:
            await store._ensure_initialized_async()
            opened = await AsyncSearcher.open(store._async_client, store._index, [self._queries])
            self._async_searcher = loop, opened
        answer = await self._async_searcher[1].search(query, **self._asked(filters, top_k))
        return {"documents": [*map(document_of, answer["hits"]["hits"])]}

    def _asked(self, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        """Options of `Searcher.search`."""
        size = self.top_k if top_k is None else top_k
        check_size(size)
        wanted = apply_filter_policy(self.filter_policy, self.filters, filters)
        clause = normalize_filters(wanted) if wanted else None
        return {"size": size, "form": self.form, "filter": clause}


def document_of(hit: dict[str, Any]) -> Document:
    """A hit as a document of Haystack."""
    return Document.from_dict({"id": hit["_id"], **hit["_source"], "score": hit["_score"]})
