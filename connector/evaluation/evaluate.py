"""A collection's nDCG@10, system by system, through the engine.

collection → index (made when it is not complete) → rankings → measures
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opensearchpy import OpenSearch

from latent_ingest.connector.client import engine_errors
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.evaluation.measures import mean_ndcg
from latent_ingest.connector.evaluation.systems import Tick, rank_by_dense, rank_by_engine
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.indexing.index import index_size
from latent_ingest.connector.querying.rewriter import QueryRewriter

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder


def is_complete(client: OpenSearch, index: str, collection: Collection) -> bool:
    """Whether the index holds as many documents as the collection has ids.

    Raises:
        MismatchError: the engine makes the index's ids.
        EngineError: the engine cannot be asked.
    """
    meta = IndexMeta.read(client, index)
    if meta is None:
        return False
    if meta.ids == "engine":
        raise MismatchError(
            f"the engine makes the ids of {index}, and judgements are of the collection's own; "
            f"name another with --index"
        )
    ids = {document.id for document in collection.documents()}
    if meta.long == "chunks":
        with engine_errors(client):
            first = {"query": {"term": {"chunk": 0}}}
            return bool(client.count(index=index, body=first)["count"] == len(ids))
    return index_size(client, index).documents == len(ids)


def evaluate(
    client: OpenSearch,
    index: str,
    encoder: LatentEncoder,
    collection: Collection,
    systems: Sequence[str],
    tick: Tick = lambda done: None,
) -> dict[str, float]:
    """nDCG@10 of each system.

    Args:
        client: of the engine.
        index: holds the collection.
        encoder: the model it was made with.
        collection: questions and judgements.
        systems: of `SYSTEMS`.
        tick: called with queries done, and documents done for the dense system.

    Raises:
        MismatchError: the index was made by another model.
        EngineError: a search fails.
    """
    rewriter = QueryRewriter.from_index(client, index, encoder)
    results: dict[str, float] = {}
    for system in systems:
        if system == "dense":
            ranking = rank_by_dense(collection, encoder.backbone, tick)
        else:
            ranking = rank_by_engine(system, collection, rewriter, client, index, tick)
        results[system] = mean_ndcg(collection.qrels, ranking)
    return results
