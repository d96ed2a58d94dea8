"""A collection's measures, system by system, through the engine.

collection → index (made when it is not complete) → rankings → measures → comparisons → report

Documents that an index lacks.

What an index takes on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.evaluation.collection import Collection
from latent_ingest.connector.evaluation.dense import rank_by_dense
from latent_ingest.connector.evaluation.measures import compare, means, per_query
from latent_ingest.connector.evaluation.overlap import by_overlap, word_overlap
from latent_ingest.connector.evaluation.report import published
from latent_ingest.connector.evaluation.runs import Requests, Run, ask, reciprocal_rank_fusion
from latent_ingest.connector.evaluation.systems import SYSTEMS, Template, Tick, chunks
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.querying.fields import read_fields
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder


# What systems are compared with.
REFERENCES = ("words", "dense")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, of each collection alike."""

    systems: tuple[str, ...] | None
    """Of `SYSTEMS`; none for all that the index can be asked for."""
    templates: tuple[Template, ...]
    measures: tuple[Any, ...]
    """Of ir-measures; the first one is compared."""
    cache: Path
    """Folder for dense vectors."""


def is_complete(client: OpenSearch, index: str, collection: Collection) -> bool:
    """Whether the index holds as many documents as the collection has ids.

    Raises:
        MismatchError: the engine makes the index's ids, or it has none of the judged documents.
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
    if collection.corpus is None:
        return True
    n_documents = len(set(collection.contents.ids))
    return count_documents(client, index, meta) == n_documents


def count_documents(client: OpenSearch, index: str, meta: IndexMeta) -> int:
    """Documents of an index, of which each may be in chunks."""
    if meta.long == "chunks":
        with engine_errors(client):
            first = {"query": {"term": {"chunk": 0}}}
            return int(client.count(index=index, body=first)["count"])
    return Index(client, index).size().documents


def check_judged(client: OpenSearch, index: str, collection: Collection) -> str | None:
    """A line on judged documents that the index lacks; none where it has them all.

    Raises:
        MismatchError: it has none of them, or lacks one that is in the corpus.
    """
    judged = {document for grades in collection.qrels.values() for document in grades}
    if collection.corpus is not None:
        judged &= set(collection.contents.ids)
    missing = missing_documents(client, index, judged)
    if not missing:
        return None
    line = (
        f"index {index} lacks {len(missing):,} of the {len(judged):,} documents that "
        f"{collection.name} judges, such as {missing[0]!r}"
    )
    if collection.corpus is not None or len(missing) == len(judged):
        raise MismatchError(
            f"{line}; it is of other documents, or has other ids; name another with --index"
        )
    return line


def work(collection: Collection, plan: Plan) -> int:
    """What `evaluate` counts while it works: questions for each system, and documents for dense."""
    systems = plan.systems or SYSTEMS
    engine = len([s for s in systems if s not in ("dense", "rrf")]) + len(plan.templates)
    if "rrf" in systems:
        engine += len({"words", "latent"} - set(systems))
    documents = len(collection.contents.ids) if "dense" in systems else 0
    return engine * len(collection.queries) + documents


def evaluate(
    client: OpenSearch,
    index: str,
    encoder: LatentEncoder,
    collection: Collection,
    plan: Plan,
    *,
    ingested: IngestReport | None = None,
    tick: Tick = lambda done: None,
) -> tuple[dict[str, Any], dict[str, Run]]:
    """Rank, measure and compare.

    Args:
        client: of the engine.
        index: holds the collection.
        encoder: the model it was made with.
        collection: questions and judgements.
        plan: systems and measures.
        ingested: how it came into the index, if now.
        tick: called with what is done of `work`.

    Returns:
        The collection's part of the report, and the answers of each system.

    Raises:
        InputError: a system needs what there is not: a corpus, or an index of whole documents.
        MismatchError: the index was made by another model.
        EngineError: a search fails.
    """
    queries = QueryEncoder(encoder, cache_size=len(collection.queries))
    rewriter = QueryRewriter.from_index(client, index, queries)
    meta = IndexMeta.read(client, index)
    assert meta is not None
    systems = plan.systems
    if systems is None:
        chunked = rewriter.collapse is not None
        systems = tuple(s for s in SYSTEMS if not (chunked and s.endswith("two_phase")))
    requests = Requests(rewriter, queries, (meta.query_settings or {}).get("query_k"))
    runs = run_systems(client, index, requests, collection, systems, plan, tick)
    values = {
        system: per_query(collection.qrels, run.ranking, plan.measures)
        for system, run in runs.items()
    }
    main = str(plan.measures[0])
    of_main = {
        system: {query: row[main] for query, row in rows.items()} for system, rows in values.items()
    }
    compared = [
        comparison.to_json()
        for reference in REFERENCES
        if reference in runs
        for comparison in compare(of_main, reference, main, collection.queries)
    ]
    n_documents = count_documents(client, index, meta)
    rates = ingested.to_json() if ingested else {}
    measured = {
        system: {"means": means(values[system], plan.measures), **costs(run),
                 "per_query": values[system]}
        for system, run in runs.items()
    }  # fmt: skip
    report = {
        "name": collection.name,
        "split": collection.split,
        "index": index,
        "documents": n_documents,
        "queries": len(collection.queries),
        "left_out": collection.left_out,
        "systems": measured,
        "comparisons": compared,
        "cost": {
            "index_bytes": field_bytes(client, index),
            "index_total_bytes": Index(client, index).size().bytes,
            "documents_per_second": rates.get("documents_per_second"),
            "tokens_per_second": rates.get("tokens_per_second"),
        },
        "published": published(
            collection.name, collection.split, n_documents, len(collection.queries)
        ),
        "overlap": by_overlap(word_overlap(client, index, collection), measured, main)
        if collection.corpus
        else None,
        "texts": collection.queries,
    }
    return report, runs


def run_systems(
    client: OpenSearch,
    index: str,
    requests: Requests,
    collection: Collection,
    systems: Sequence[str],
    plan: Plan,
    tick: Tick,
) -> dict[str, Run]:
    """The answers of each system, and of the templates after them."""
    refused = [system for system in systems if system.endswith("two_phase")]
    refused += [template.name for template in plan.templates if "rescore" in template.content]
    if requests.rewriter.collapse and refused:
        raise InputError(
            f"system {refused[0]}: engines cannot rescore hits of an index of chunks; leave it out"
        )
    fields = read_fields(client, index)
    runs: dict[str, Run] = {}

    def run(system: str) -> Run:
        if system in runs:
            return runs[system]
        if system == "dense":
            backbone = requests.rewriter.encoder.backbone
            return rank_by_dense(collection, backbone, plan.cache, tick)
        if system == "rrf":
            return reciprocal_rank_fusion(run("words"), run("latent"))
        make = partial(requests.of_system, system)
        return ask(system, make, collection, client, index, fields, tick)

    for system in sorted(systems, key=lambda system: system == "rrf"):
        runs[system] = run(system)
    for template in plan.templates:
        make = partial(requests.of_template, template)
        runs[template.name] = ask(template.name, make, collection, client, index, fields, tick)
    names = [*systems, *(template.name for template in plan.templates)]
    return {name: runs[name] for name in names}


def costs(run: Run) -> dict[str, Any]:
    """Times in milliseconds, and means of clauses and hits; none where there are none."""
    return {
        "rewrite_ms": percentiles(run.rewrite_ms),
        "took_ms": percentiles(run.took_ms),
        "client_ms": percentiles(run.client_ms),
        "clauses": float(np.mean(run.clauses)) if run.clauses else None,
        "hits": float(np.mean(run.hits)) if run.hits else None,
    }


def percentiles(times: Sequence[float]) -> dict[str, float] | None:
    """The median, and what 95 of 100 stay below."""
    if not times:
        return None
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


# Ids looked up in one request; engines give at most 10,000 hits.
LOOKED_UP = 5_000


def missing_documents(client: OpenSearch, index: str, ids: Iterable[str]) -> list[str]:
    """Those of some documents that the index does not hold, sorted; raises EngineError."""
    meta = IndexMeta.read(client, index)
    suffix = "#0" if meta and meta.long == "chunks" else ""
    missing: list[str] = []
    for some in chunks(sorted(ids), LOOKED_UP):
        wanted = {"ids": {"values": [id + suffix for id in some]}}
        body = {"query": wanted, "size": len(some), "_source": False}
        with engine_errors(client):
            hits = client.search(index=index, body=body)["hits"]["hits"]
        held = {hit["_id"] for hit in hits}
        missing += [id for id in some if id + suffix not in held]
    return missing


def field_bytes(client: OpenSearch, index: str) -> dict[str, int] | None:
    """Bytes of each field, all its structures; none where the engine does not tell.

    Elasticsearch has told since 7.15; OpenSearch 3.8 does not.

    Raises:
        EngineError: the engine cannot be reached.
    """
    with engine_errors(client):
        try:
            answer = client.transport.perform_request(
                "POST", f"/{index}/_disk_usage", params={"run_expensive_tasks": "true"}
            )
        except TransportError as error:
            if not isinstance(error.status_code, int):  # nothing answers
                raise
            return None
    return fields_in(answer)


def fields_in(answer: dict[str, Any]) -> dict[str, int]:
    """Bytes of each field that anybody searches, in an answer of `_disk_usage`."""
    sizes: dict[str, int] = {}
    for index, content in answer.items():
        if index != "_shards":
            for name, size in content["fields"].items():
                sizes[name] = sizes.get(name, 0) + size["total_in_bytes"]
    return sizes
