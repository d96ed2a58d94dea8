"""A retriever for LlamaIndex (needs the extra `llama-index`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.frameworks.filters import Clause, from_llama
from latent_ingest.connector.frameworks.requirement import require
from latent_ingest.connector.frameworks.store import LatentStore, Passage
from latent_ingest.connector.querying.scoring import AUTO

require("llama-index-core", "llama-index", "0.14", "0.15")

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

if TYPE_CHECKING:
    from llama_index.core.vector_stores import MetadataFilters
    from opensearchpy import OpenSearch

    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.engine.adapter import Client
    from latent_ingest.connector.querying.query_encoder import QueryEncoder


class LatentTermsRetriever(BaseRetriever):  # type: ignore[misc]
    """Finds the documents of an index by meaning, as nodes with scores.

    The fields of a document but its text are the metadata of its node.

        retriever = LatentTermsRetriever("papers", similarity_top_k=3)
        retriever.retrieve("does vitamin D prevent falls")
    """

    def __init__(
        self,
        index: str,
        client: OpenSearch | Client | str | None = None,
        *,
        async_client: Any = None,
        model: LatentEncoder | QueryEncoder | str | Path | None = None,
        similarity_top_k: int = 10,
        filters: MetadataFilters | None = None,
        engine_filter: Clause | Sequence[Clause] = (),
        form: str = AUTO,
        text_field: str | None = None,
        **options: Any,
    ) -> None:
        """Ask nothing yet.

        Args:
            index: name of the index, or an alias.
            client: as for `LatentStore`.
            async_client: as for `LatentStore`.
            model: as for `LatentStore`.
            similarity_top_k: number of nodes.
            filters: what documents must match.
            engine_filter: clauses of the engine's query language that they must match, too.
            form: what scores, as for `QueryRewriter.rewrite`.
            text_field: field that holds the text; by default the last text field of the index.
            options: as for LlamaIndex's `BaseRetriever`.

        Raises:
            InputError: the client cannot be used.
        """
        self._store = LatentStore(index, client, async_client, model, form, text_field)
        self._asked: dict[str, Any] = {
            "size": similarity_top_k,
            "filters": [engine_filter] if isinstance(engine_filter, dict) else engine_filter,
            "translate": partial(from_llama, filters) if filters else None,
        }
        super().__init__(**options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [*map(node_of, self._store.search(query_bundle.query_str, **self._asked))]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = await self._store.search_async(query_bundle.query_str, **self._asked)
        return [*map(node_of, found)]


def node_of(passage: Passage) -> NodeWithScore:
    """A found passage as a node."""
    node = TextNode(id_=passage.id, text=passage.text, metadata=passage.metadata)
    return NodeWithScore(node=node, score=passage.score)
