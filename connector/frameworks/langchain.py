"""A retriever for LangChain that also adds and deletes (needs the extra `langchain`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.frameworks.filters import from_dollars
from latent_ingest.connector.frameworks.requirement import require
from latent_ingest.connector.frameworks.store import LatentStore, Passage
from latent_ingest.connector.querying.scoring import AUTO

require("langchain-core", "langchain", "1", "2")

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import PrivateAttr

# Key of the metadata of a found document that holds its score; engines have no field of that name.
SCORE = "_score"


class LatentTermsRetriever(BaseRetriever):  # type: ignore[misc]
    """Finds the documents of an index by meaning; adds and deletes documents, as vector stores do.

    The fields of a document but its text are `metadata`, with the score in `_score`. Errors are
    those of `LatentStore`.

        retriever = LatentTermsRetriever(index="papers", k=3)
        retriever.invoke("does vitamin D prevent falls", filter={"year": {"$gte": 2020}})
    """

    index: str
    """Name of the index, or an alias."""
    client: Any = None
    """Client of opensearch-py or `elasticsearch`, or the URL of an engine; by default the engine of
    OPENSEARCH_URL, else the local one."""
    async_client: Any = None
    """An asynchronous client for `ainvoke`; without one it asks by `client`, in a thread."""
    model: Any = None
    """The model that made the index, or its folder; by default minilm-32k."""
    k: int = 10
    """Number of documents."""
    form: str = AUTO
    """What scores: "auto", "hybrid", "latent", "two_phase" or "hybrid_two_phase"."""
    filter: dict[str, Any] | None = None
    """What documents must match, such as {"year": {"$gte": 2020}, "lang": ["en", "de"]}."""
    engine_filter: dict[str, Any] | list[dict[str, Any]] | None = None
    """Clauses of the engine's query language that documents must match, too."""
    text_field: str | None = None
    """Field that holds `page_content`; by default the last text field of the index."""
    _store: LatentStore = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Prepare the store; raises InputError for a client that cannot be used."""
        super().model_post_init(context)
        self._store = LatentStore(
            self.index, self.client, self.async_client, self.model, self.form, self.text_field
        )

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return [*map(document_of, self._store.search(query, **self._asked(**options)))]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return [*map(document_of, await self._store.search_async(query, **self._asked(**options)))]

    def _asked(
        self, k: int | None = None, filter: dict[str, Any] | None = None, **others: Any
    ) -> dict[str, Any]:
        """Arguments of `LatentStore.search`."""
        if others:
            raise InputError(f"unknown option {next(iter(others))!r}; use k or filter")
        filter = self.filter if filter is None else filter
        clauses = self.engine_filter or []
        return {
            "size": self.k if k is None else k,
            "filters": [clauses] if isinstance(clauses, dict) else clauses,
            "translate": partial(from_dollars, filter) if filter else None,
        }

    def add_documents(
        self, documents: Sequence[Document], *, ids: Sequence[str] | None = None
    ) -> list[str]:
        """Index documents, and return their ids.

        The index is made if there is none. A document replaces the one of the same id; one without
        an id gets one made of its content.

        Args:
            documents: with their metadata, which become fields.
            ids: one per document; by default their own.

        Raises:
            InputError: a document cannot be indexed; the others are.
            MismatchError, ModelError, EngineError: as `LatentStore.add`.
        """
        if ids is None:
            ids = [document.id for document in documents]
        if len(ids) != len(documents):
            raise InputError(f"{len(documents)} documents and {len(ids)} ids; give one for each")
        return self._store.add(
            (identifier, document.page_content, without_score(document.metadata))
            for identifier, document in zip(ids, documents, strict=True)
        )

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str] | None = None,
    ) -> list[str]:
        """Index texts, and return their ids; as `add_documents`."""
        texts = list(texts)
        metadatas = [{} for _ in texts] if metadatas is None else metadatas
        if len(metadatas) != len(texts):
            raise InputError(f"{len(texts)} texts and {len(metadatas)} metadatas; give one each")
        rows = zip(texts, metadatas, strict=True)
        return self.add_documents([Document(text, metadata=data) for text, data in rows], ids=ids)

    async def aadd_documents(
        self, documents: Sequence[Document], *, ids: Sequence[str] | None = None
    ) -> list[str]:
        """As `add_documents`, in a thread."""
        added: list[str] = await run_in_executor(None, self.add_documents, documents, ids=ids)
        return added

    def delete(self, ids: Sequence[str]) -> bool:
        """Delete documents by id; ids that do not exist are ignored. Raises as `LatentStore`."""
        self._store.delete(ids)
        return True

    async def adelete(self, ids: Sequence[str]) -> bool:
        """As `delete`, in a thread."""
        done: bool = await run_in_executor(None, self.delete, ids)
        return done


def document_of(passage: Passage) -> Document:
    """A found passage as a document of LangChain."""
    metadata = {**passage.metadata, SCORE: passage.score}
    return Document(passage.text, id=passage.id, metadata=metadata)


def without_score(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a document that was found, to be added again."""
    return {name: value for name, value in metadata.items() if name != SCORE}
