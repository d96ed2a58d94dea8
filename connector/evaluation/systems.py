"""Rankings of a collection's questions: by the engine, or by dense vectors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector.client import engine_errors, reason_in
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.mappings import PARENT_FIELD

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.backbone import Backbone

SYSTEMS = ("words", "dense", "latent", "two_phase", "hybrid")

# Hits asked for; nDCG@10 needs ten, and one may be left out for being the query itself.
DEPTH = 20

# Searches in one `_msearch`, and documents embedded at once for the dense system.
SEARCHES = 50
EMBED_DOCUMENTS = 4096

Ranking = dict[str, dict[str, float]]
"""Query id → document id → score."""

Tick = Callable[[int], None]
"""Called with the number of queries or documents that are done."""


def rank_by_engine(
    system: str,
    collection: Collection,
    rewriter: QueryRewriter,
    client: OpenSearch,
    index: str,
    tick: Tick,
) -> Ranking:
    """Ask the engine all questions; every query has a row, if an empty one.

    Raises:
        EngineError: a search fails.
    """
    ranking: Ranking = {}
    for chunk in chunks(collection.queries, SEARCHES):
        requests: list[dict[str, Any]] = []
        for query in chunk:
            text = collection.queries[query]
            body = (
                rewriter.words_only(text, size=DEPTH)
                if system == "words"
                else rewriter.rewrite(text, form=system, size=DEPTH)
            )
            requests += [{}, {**body, "_source": False}]
        with engine_errors(client):
            answers = client.msearch(body=requests, index=index)["responses"]
        for query, answer in zip(chunk, answers, strict=True):
            if "error" in answer:
                raise EngineError(f"query {query!r} ({system}): {reason_in(answer['error'])}")
            hits = {document_of(hit): hit["_score"] for hit in answer["hits"]["hits"]}
            ranking[query] = without_itself(query, hits)
        tick(len(chunk))
    return ranking


def document_of(hit: dict[str, Any]) -> str:
    """The id of the document that was hit, or of which a chunk was."""
    parents = hit.get("fields", {}).get(PARENT_FIELD)
    return str(parents[0] if parents else hit["_id"])


def rank_by_dense(collection: Collection, backbone: Backbone, tick: Tick) -> Ranking:
    """Exact cosine of the backbone's own mean-pooled vectors."""
    queries = list(collection.queries)
    asked = backbone.mean_pooled([collection.queries[q] for q in queries], kind="query")
    best: list[dict[str, float]] = [{} for _ in queries]
    for chunk in chunks(collection.documents(), EMBED_DOCUMENTS):
        vectors = backbone.mean_pooled([document.text for document in chunk])
        top = (asked @ vectors.T).topk(min(DEPTH, len(chunk)), dim=1)
        for row, (scores, places) in enumerate(zip(top.values, top.indices, strict=True)):
            found = {
                chunk[place].id: score
                for place, score in zip(places.tolist(), scores.tolist(), strict=True)
            }
            both = sorted({**best[row], **found}.items(), key=lambda item: -item[1])
            best[row] = dict(both[:DEPTH])
        tick(len(chunk))
    return {q: without_itself(q, hits) for q, hits in zip(queries, best, strict=True)}


def without_itself(query: str, hits: dict[str, float]) -> dict[str, float]:
    """Hits but for the document that is the query, which BEIR leaves out too."""
    return {document: score for document, score in hits.items() if document != query}


def chunks(items: Any, size: int) -> Iterator[Sequence[Any]]:
    """Lists of `size` items, the last one shorter."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
