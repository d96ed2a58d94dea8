"""An invented evaluation report."""

from __future__ import annotations

from typing import Any

MEASURES = ["nDCG@10", "R@100"]


def report(text: str = "who likes quokkas", name: str = "tiny") -> dict[str, Any]:
    """A report of three systems and four questions."""
    values = {"words": (0.5, 0.25, 0.0, 1.0), "dense": (0.125, 0.5, 0, 1), "latent": (1, 0.5, 0, 0)}
    systems = {
        system: {
            "means": {"nDCG@10": sum(own) / 4, "R@100": sum(own) / 5 + number / 1000},
            "rewrite_ms": None if system == "dense" else {"p50": 0.25 + number, "p95": 41.0},
            "took_ms": None if system == "dense" else {"p50": 3 + number, "p95": 81 + number},
            "client_ms": None if system == "dense" else {"p50": 5.5 + number, "p95": 97.5},
            "clauses": None if system == "dense" else 12.3,
            "hits": None if system == "dense" else 4321.0,
            "per_query": {f"q{n}": {"nDCG@10": v, "R@100": v} for n, v in enumerate(own)},
        }
        for number, (system, own) in enumerate(values.items())
    }
    comparison = {
        "system": "latent", "against": "words", "measure": "nDCG@10", "difference": -0.0625,
        "p": 0.0004, "p_holm": 0.012, "won": 2, "lost": 1, "tied": 1,
        "gained": [{"query": "q0", "text": text, "difference": 0.5}],
        "lost_most": [{"query": "q3", "text": f"{text} lost", "difference": -1.0}],
    }  # fmt: skip
    collection = {
        "name": name, "split": "test", "index": "evaluate-tiny", "documents": 5183, "queries": 4,
        "left_out": {"without_judgements": 809}, "systems": systems, "comparisons": [comparison],
        "cost": {
            "index_bytes": {"text": 123_000, "latent": 4_560_000},
            "index_total_bytes": 7_890_000,
            "documents_per_second": 12.5, "tokens_per_second": 3456.0,
        },
        "published": [
            {"system": "SPLADE-v3", "measure": "nDCG@10", "value": 0.7103, "source": "their paper"},
            {"system": "SPLADE-v3", "measure": "RR@10", "value": 0.6999, "source": "their paper"},
        ],
        "overlap": [
            {"overlap": "0 to .25", "queries": 3, "systems": dict.fromkeys(systems, 0.1357)},
        ],
        "texts": {f"q{n}": f"{text} {n}" for n in range(4)},
    }  # fmt: skip
    return {
        "format": 1, "created": "2026-01-02T03:04:05+00:00", "latent_ingest": "0.1.0",
        "engine": {"distribution": "opensearch", "version": "3.8.0"}, "model": "minilm-32k",
        "fingerprint": "0a1b2c", "measures": MEASURES, "collections": [collection],
    }  # fmt: skip
