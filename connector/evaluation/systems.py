"""Systems that are compared, and the requests that they send for a question."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.rankings import HITS
from latent_ingest.connector.querying.feedback.asking import read_expansion
from latent_ingest.connector.querying.request import read_body
from latent_ingest.connector.querying.scoring import Form

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from latent_ingest.connector.querying.query_encoder import QueryEncoder
    from latent_ingest.connector.querying.rewriter import QueryRewriter

# Systems of feedback are hybrid, and take over latent terms of their first hits.
SYSTEMS = (
    "words", "latent", "latent_table", "two_phase", "hybrid", "hybrid_table", "hybrid_two_phase",
    "feedback", "feedback_table", "rrf", "dense",
)  # fmt: skip

# Systems whose questions are encoded by the question table, and their forms.
BY_TABLE = {"latent_table": "latent", "hybrid_table": "hybrid", "feedback_table": "hybrid"}

FEEDBACK = ("feedback", "feedback_table")

# Systems whose hits are rescored, which engines cannot do in an index of chunks.
RESCORED = tuple(form for form in Form if form.two_phases)

# Systems that every other one is compared with.
REFERENCES = ("words", "dense")

PLACEHOLDER = "{{question}}"

# Name of a system, which becomes part of file names.
NAME = re.compile(r"[\w.-]+")

Requested = tuple[dict[str, Any], float]
"""A request body, and the milliseconds that it took to make it from its question."""


def searching(systems: Sequence[str]) -> list[str]:
    """Return the systems to search with: also words and latent for rrf, which fuses them."""
    fused = ("words", "latent") if "rrf" in systems else ()
    return [name for name in dict.fromkeys([*systems, *fused]) if name not in ("dense", "rrf")]


@dataclass(frozen=True, slots=True)
class Template:
    """A user's own system: a request body with `{{question}}` in one or several strings."""

    name: str
    content: dict[str, Any]

    @classmethod
    def load(cls, spec: str) -> Template:
        """Read a template given as `name=body.json`.

        Raises:
            InputError: the spec is malformed, or the file is not a request with a placeholder.
        """
        name, _, file = spec.partition("=")
        if not file or not NAME.fullmatch(name):
            raise InputError(f"--system {spec}: write NAME=FILE, as in mine=body.json")
        if name in SYSTEMS:
            raise InputError(f"--system {spec}: the name {name} is taken; choose another")
        try:
            content = read_body(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{file}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file}: not a request body, which is a JSON object")
        if filled(content, PLACEHOLDER) == filled(content, ""):
            raise InputError(
                f"{file}: no {PLACEHOLDER}; put it in the string where the question belongs"
            )
        return cls(name, content)

    def body(self, question: str, size: int, collapse: str | None = None) -> dict[str, Any]:
        """Return the request body for a question, for `size` hits.

        In an index of chunks, `collapse` is the field that names each chunk's parent.
        """
        body: dict[str, Any] = filled(self.content, question)
        body["size"] = size
        if collapse:
            body.setdefault("collapse", {"field": collapse})
            body["docvalue_fields"] = [*body.get("docvalue_fields", []), collapse]
        return body


def filled(part: Any, question: str) -> Any:
    """Replace the placeholder by the question in all strings of a JSON value, except keys."""
    if isinstance(part, dict):
        return {key: filled(value, question) for key, value in part.items()}
    if isinstance(part, list):
        return [filled(value, question) for value in part]
    return part.replace(PLACEHOLDER, question) if isinstance(part, str) else part


class Requests:
    """Makes the requests of all systems for one index, and times each.

    Questions are encoded in batches, once for all systems. The time of encoding a question is
    measured on that question alone, as users ask, and counts for every system that needs it.
    """

    def __init__(
        self,
        rewriter: QueryRewriter,
        encoder: QueryEncoder,
        client: OpenSearch,
        query_k: int | None = None,
        by_table: QueryRewriter | None = None,
    ) -> None:
        """Take the rewriter of the index, its encoder with a cache for all questions, and a client.

        `query_k` is the number of latents per token of a question; None for the model's k. The
        client sends the first requests of feedback. `by_table` is the rewriter of the systems in
        `BY_TABLE`.
        """
        self._by_table = by_table
        self._client = client
        self.rewriter = rewriter
        self._encoder = encoder
        self._query_k = query_k
        self._encoding_ms: dict[str, float] = {}

    def of_system(self, system: str, texts: Sequence[str]) -> list[Requested]:
        """Make the requests of a system for some questions."""
        if system == "words":
            return [timed(self.rewriter.words_only, text, size=HITS) for text in texts]
        rewriter = self._by_table if system in BY_TABLE else self.rewriter
        assert rewriter is not None
        form = BY_TABLE.get(system, "hybrid" if system in FEEDBACK else system)
        make = partial(self._with_feedback, rewriter) if system in FEEDBACK else rewriter.rewrite
        if system not in BY_TABLE:
            self._encode([text for text in texts if text not in self._encoding_ms])
        made = [timed(make, text, form=form, size=HITS) for text in texts]
        if system in BY_TABLE:
            return made
        return [
            (body, self._encoding_ms[text] + ms)
            for text, (body, ms) in zip(texts, made, strict=True)
        ]

    def of_template(self, template: Template, texts: Sequence[str]) -> list[Requested]:
        """Make the requests of a template for some questions."""
        return [timed(template.body, text, HITS, self.rewriter.collapse) for text in texts]

    def _with_feedback(self, rewriter: QueryRewriter, text: str, **options: Any) -> dict[str, Any]:
        """Make the second request; the first one, which is sent, is in its time."""
        expansion = read_expansion(self._client, rewriter, text, **options)
        return rewriter.rewrite(text, **options, expansion=expansion)

    def _encode(self, texts: Sequence[str]) -> None:
        """Fill the encoder's cache, and measure how long each question takes by itself."""
        self._encoder.encode(texts, self._query_k)
        for text in texts:
            started = time.perf_counter()
            self._encoder.load().encode([text], kind="query", k=self._query_k)
            # A question too long for the cache is encoded, and timed, with each request.
            kept = self._encoder.keeps(text, self._query_k)
            self._encoding_ms[text] = milliseconds_since(started) if kept else 0.0


def timed(make: Callable[..., dict[str, Any]], *arguments: Any, **named: Any) -> Requested:
    """Call a function that makes a request body; leave `_source` out of the hits."""
    started = time.perf_counter()
    body = make(*arguments, **named)
    return {**body, "_source": False}, milliseconds_since(started)


def milliseconds_since(started: float) -> float:
    """Return the milliseconds since a reading of `time.perf_counter`."""
    return (time.perf_counter() - started) * 1000
