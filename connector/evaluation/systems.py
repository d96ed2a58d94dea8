"""What systems are called, and what becomes of their rankings.

A saved request of the user's own, with a place for the question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.scoring import Form
from latent_ingest.mappings import PARENT_FIELD

SYSTEMS = ("words", "latent", "two_phase", "hybrid", "hybrid_two_phase", "rrf", "dense")

# Systems whose hits are rescored, which engines do not do in an index of chunks.
RESCORED = tuple(form for form in Form if form.two_phases)

# Hits asked for; nDCG@10 needs ten, and one may be left out for being the query itself.
DEPTH = 20

# Searches in one `_msearch`.
SEARCHES = 50

# Of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009).
RRF_K = 60

Ranking = dict[str, dict[str, float]]
"""Query id → document id → score."""

Tick = Callable[[int], None]
"""Called with the number of queries or documents that are done."""


def hits_of(answer: dict[str, Any]) -> dict[str, float]:
    """Documents of an answer and their scores, best first; of several chunks of one, the best.

    Hits that a request sorts have no scores, and get one by their place.
    """
    hits: dict[str, float] = {}
    for place, hit in enumerate(answer["hits"]["hits"]):
        score = -place if hit["_score"] is None else hit["_score"]
        hits.setdefault(document_of(hit), float(score))
    return hits


def document_of(hit: dict[str, Any]) -> str:
    """The id of the document that was hit, or of which a chunk was."""
    parents = hit.get("fields", {}).get(PARENT_FIELD)
    return str(parents[0] if parents else hit["_id"])


def fused(rankings: Sequence[Ranking], depth: int) -> Ranking:
    """Reciprocal rank fusion: a document's score is the sum of 1 / (60 + its rank) over rankings.

    Args:
        rankings: of the same queries, documents best first; ranks count from 1.
        depth: documents kept for each query.
    """
    result: Ranking = {}
    for query in rankings[0]:
        scores: dict[str, float] = {}
        for ranking in rankings:
            for rank, document in enumerate(ranking[query], 1):
                scores[document] = scores.get(document, 0.0) + 1 / (RRF_K + rank)
        result[query] = dict(sorted(scores.items(), key=lambda item: -item[1])[:depth])
    return result


def without_itself(query: str, hits: dict[str, float]) -> dict[str, float]:
    """Hits but for the document that is the query, which BEIR leaves out too."""
    return {document: score for document, score in hits.items() if document != query}


def chunks(items: Any, size: int) -> Iterator[Sequence[Any]]:
    """Lists of `size` items, the last one shorter."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


PLACEHOLDER = "{{question}}"

# What names a system, which files are named by.
NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Template:
    """A request body with `{{question}}` in one of its strings, or in several."""

    name: str
    content: dict[str, Any]

    @classmethod
    def load(cls, spec: str) -> Template:
        """Read `name=body.json`.

        Raises:
            InputError: it is not of that form, or the file is no request with a placeholder.
        """
        name, _, file = spec.partition("=")
        if not file or not NAME.fullmatch(name):
            raise InputError(f"--system {spec}: write NAME=FILE, as in mine=body.json")
        if name in SYSTEMS:
            raise InputError(f"--system {spec}: {name} is there already; take another name")
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{file}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file}: not a request body, which is an object")
        if filled(content, PLACEHOLDER) == filled(content, ""):
            raise InputError(
                f"{file}: no {PLACEHOLDER}; put it in the string where the question belongs"
            )
        return cls(name, content)

    def body(self, question: str, size: int, collapse: str | None = None) -> dict[str, Any]:
        """The request for a question, with as many hits as are measured.

        Args:
            question: in place of the placeholder.
            size: hits wanted.
            collapse: in an index of chunks, the field that names the document of each.
        """
        body: dict[str, Any] = filled(self.content, question)
        body["size"] = size
        if collapse:
            body.setdefault("collapse", {"field": collapse})
            body["docvalue_fields"] = [*body.get("docvalue_fields", []), collapse]
        return body


def filled(part: Any, question: str) -> Any:
    """`part` with the question in place of the placeholder, in all its strings."""
    if isinstance(part, dict):
        return {key: filled(value, question) for key, value in part.items()}
    if isinstance(part, list):
        return [filled(value, question) for value in part]
    return part.replace(PLACEHOLDER, question) if isinstance(part, str) else part
