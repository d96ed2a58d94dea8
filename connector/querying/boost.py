"""How much latent scores count beside those of words."""

from __future__ import annotations

from latent_ingest.connector.engine.client import EngineInfo

# Latent scores are several times word scores, hence a small factor. On the training judgements of
# SciFact and the dev ones of NFCorpus, nDCG@10 at .1, .15 and .2: .732 and .332, .731 and .336,
# .726 and .337; no better with k1 3 instead of 2. `latent-ingest tune` finds no better one outside
# noise.
LATENT_BOOST = 0.15

# BM25's k1 of word fields, in every engine unless set otherwise.
WORDS_K1 = 1.2


def hybrid_boost(engine: EngineInfo, k1: float, boost: float = LATENT_BOOST) -> float:
    """The factor on latent scores that gives the same ranking on every engine.

    Where BM25 keeps its factor k1 + 1, latent scores are k1 + 1 times and word scores 2.2 times
    what they are on OpenSearch 3, on which `boost` was measured.
    """
    return boost * (WORDS_K1 + 1) / (k1 + 1) if engine.keeps_k1_factor else boost
