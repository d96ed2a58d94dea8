"""Figures that others have published for collections of BEIR; published.json says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def published(name: str, split: str, n_documents: int, n_queries: int) -> list[dict[str, Any]]:
    """Figures to compare with, none unless documents and queries are those they were made with.

    Args:
        name: of the collection, as of its folder.
        split: of its judgements.
        n_documents: that it has.
        n_queries: that were asked.

    Returns:
        Objects of `system`, `measure`, `value` and `source`.
    """
    stored = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    sizes = {"documents": n_documents, "queries": n_queries}
    known = [
        key
        for key, size in stored["collections"].items()
        if key in name.lower() and split == stored["split"] and size == sizes
    ]
    return [
        {
            "system": row["system"],
            "measure": stored["measure"],
            "value": row["values"][key],
            "source": row["source"],
        }
        for key in known
        for row in stored["systems"]
    ]
