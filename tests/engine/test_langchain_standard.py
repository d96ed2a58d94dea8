"""LangChain's own standard tests for retrievers."""

from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector import LatentEncoder
from latent_ingest.connector.frameworks.langchain import LatentTermsRetriever

standard = pytest.importorskip("langchain_tests.integration_tests.retrievers")


@pytest.mark.anyio
class TestLatentTermsRetriever(standard.RetrieversIntegrationTests):  # type: ignore[misc,name-defined]
    @pytest.fixture(autouse=True)
    def _papers(self, client: OpenSearch, index: str, encoder: LatentEncoder) -> None:
        self.arguments = {"index": index, "client": client, "model": encoder}
        LatentTermsRetriever(**self.arguments).add_texts(
            [f"Falls of {n} people." for n in range(4)]
        )

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @property
    def retriever_constructor(self) -> type[LatentTermsRetriever]:
        return LatentTermsRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.arguments

    @property
    def retriever_query_example(self) -> str:
        return "people who fall"
