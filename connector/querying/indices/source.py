"""What a rewriter knows of its indices."""

from __future__ import annotations

from dataclasses import dataclass

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
from latent_ingest.connector.querying.indices.fields import IndexFields, read_fields
from latent_ingest.connector.querying.indices.statistics import IndexStatistics
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.questions.engine_table import EngineTable
from latent_ingest.connector.questions.stored_table import StoredTable

# The engine of a rewriter that has read none.
ASSUMED = EngineInfo("opensearch", (3,))


@dataclass(frozen=True, slots=True)
class Source:
    """The indices of a rewriter, as the engine describes them."""

    index: str | None = None
    indices: tuple[str, ...] = ()
    fields: IndexFields | None = None
    statistics: IndexStatistics | None = None
    unchecked: AskedIndices | None = None
    """The indices, if their model is not loaded yet and so has to be checked later."""
    fingerprint: str | None = None
    """Fingerprint of the model that made the indices."""
    table: StoredTable | EngineTable | None = None
    """The question table of the indices, instead of that of the model folder."""
    n_latents: int = 0
    engine: EngineInfo = ASSUMED

    @classmethod
    def read(
        cls,
        client: OpenSearch,
        asked: AskedIndices,
        encoder: QueryEncoder,
        statistics_seconds: float | None,
    ) -> Source:
        """Read all but the statistics; check the indices against the model if it is loaded.

        Args:
            client: connection to the engine.
            asked: the indices.
            encoder: what encodes questions.
            statistics_seconds: seconds after which the document frequencies are read again; None
                to use those of the model.

        Raises:
            MismatchError: an index was made by another model, or several do not agree.
            EngineError: the engine cannot be reached, or refuses.
        """
        ask = encoder.asks_engine
        table = asked.question_table(client, ask=ask) if encoder.by_table else None
        if ready := encoder.ready and table is None:
            asked.check(encoder.source())
        asked.check_alike()
        meta, indices = asked.meta, tuple(asked.metas)
        engine = EngineInfo.read(client)
        statistics = None
        if statistics_seconds is not None:
            statistics = IndexStatistics(
                client, indices, meta.latent_field, meta.n_latents, statistics_seconds
            )
        return cls(
            index=asked.target,
            indices=indices,
            fields=read_fields(
                client, asked.target, asked.origins, asked.by_meaning, asked.embedded
            ),
            statistics=statistics,
            unchecked=None if ready else asked,
            fingerprint=meta.fingerprint,
            table=table,
            n_latents=meta.n_latents,
            engine=engine,
        )
