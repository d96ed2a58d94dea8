"""Latent terms in OpenSearch and Elasticsearch. The public names, by task:

connect             Connection (URL and credentials → client), LocalEngine (a local OpenSearch)
encode texts        LatentEncoder → LatentVectors; terms (counts and spellings)
index documents     IngestJob, Reading (of files), OnRay → JobResult; open_index → IndexMeta;
                    Ingest → IngestReport
enrich an index     EnrichJob → JobResult
search              Searcher, AsyncSearcher; QueryEncoder shares a model and caches encodings
rewrite requests    QueryRewriter → RewriteReport; Expansion (feedback); hybrid_boost
explain results     explain → Explanation; Highlighter
handle errors       LatentIngestError: InputError, ModelError, MismatchError, EngineError
in memory           LatentIndex
other libraries     latent_ingest.connector.sentence_transformers, .frameworks

Names are imported on first use: `import latent_ingest.connector` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latent_ingest.connector import terms as terms
    from latent_ingest.connector.corpus.reading import Reading as Reading
    from latent_ingest.connector.encoding.encoder import LatentEncoder as LatentEncoder
    from latent_ingest.connector.encoding.vectors import LatentVectors as LatentVectors
    from latent_ingest.connector.engine.client import Connection as Connection
    from latent_ingest.connector.engine.local import LocalEngine as LocalEngine
    from latent_ingest.connector.errors import EngineError as EngineError
    from latent_ingest.connector.errors import InputError as InputError
    from latent_ingest.connector.errors import LatentIngestError as LatentIngestError
    from latent_ingest.connector.errors import MismatchError as MismatchError
    from latent_ingest.connector.errors import ModelError as ModelError
    from latent_ingest.connector.frameworks.latent_index import LatentIndex as LatentIndex
    from latent_ingest.connector.index.meta import IndexMeta as IndexMeta
    from latent_ingest.connector.index.opening import open_index as open_index
    from latent_ingest.connector.indexing.ingest import Ingest as Ingest
    from latent_ingest.connector.indexing.jobs.enrich_job import EnrichJob as EnrichJob
    from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob as IngestJob
    from latent_ingest.connector.indexing.jobs.job import JobResult as JobResult
    from latent_ingest.connector.indexing.on_ray.settings import OnRay as OnRay
    from latent_ingest.connector.indexing.outcomes import IngestReport as IngestReport
    from latent_ingest.connector.inspection.explain import Explanation as Explanation
    from latent_ingest.connector.inspection.explain import explain as explain
    from latent_ingest.connector.inspection.highlight import Highlighter as Highlighter
    from latent_ingest.connector.querying.feedback.expansion import Expansion as Expansion
    from latent_ingest.connector.querying.query_encoder import QueryEncoder as QueryEncoder
    from latent_ingest.connector.querying.report import RewriteReport as RewriteReport
    from latent_ingest.connector.querying.rewriter import QueryRewriter as QueryRewriter
    from latent_ingest.connector.querying.scoring import hybrid_boost as hybrid_boost
    from latent_ingest.connector.querying.searcher import AsyncSearcher as AsyncSearcher
    from latent_ingest.connector.querying.searcher import Searcher as Searcher

# Module → its public names.
_MODULES = {
    "corpus.reading": ["Reading"],
    "encoding.encoder": ["LatentEncoder"],
    "encoding.vectors": ["LatentVectors"],
    "engine.client": ["Connection"],
    "engine.local": ["LocalEngine"],
    "errors": ["EngineError", "InputError", "LatentIngestError", "MismatchError", "ModelError"],
    "frameworks.latent_index": ["LatentIndex"],
    "index.meta": ["IndexMeta"],
    "index.opening": ["open_index"],
    "indexing.ingest": ["Ingest"],
    "indexing.jobs.enrich_job": ["EnrichJob"],
    "indexing.jobs.ingest_job": ["IngestJob"],
    "indexing.jobs.job": ["JobResult"],
    "indexing.on_ray.settings": ["OnRay"],
    "indexing.outcomes": ["IngestReport"],
    "inspection.explain": ["Explanation", "explain"],
    "inspection.highlight": ["Highlighter"],
    "querying.feedback.expansion": ["Expansion"],
    "querying.query_encoder": ["QueryEncoder"],
    "querying.report": ["RewriteReport"],
    "querying.rewriter": ["QueryRewriter"],
    "querying.scoring": ["hybrid_boost"],
    "querying.searcher": ["AsyncSearcher", "Searcher"],
    "terms": ["terms"],
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return module if name == "terms" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
