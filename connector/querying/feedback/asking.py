"""Asking with feedback: first hits, or documents by their ids → expansion → the answer.

Requests block, or an event loop waits for them, by what `Asking` is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.feedback.expansion import Expansion
from latent_ingest.connector.querying.feedback.first_hits import (
    Hit,
    Send,
    at_once,
    documents_request,
    finished,
    first_hits_request,
    no_feedback_because,
    with_term_vectors,
)
from latent_ingest.connector.querying.request import check_body

if TYPE_CHECKING:
    from latent_ingest.connector.querying.report import RewriteReport
    from latent_ingest.connector.querying.rewriter import QueryRewriter

Rewritten = tuple[dict[str, Any], "RewriteReport"]
Rewrite = Callable[["QueryRewriter", "Expansion | None"], Awaitable[Rewritten]]
"""Rewrites what is asked, by a rewriter and with an expansion."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked, and the requests by which it is answered."""

    asked: str | dict[str, Any]
    """A question, or a request body; "" for documents like the relevant ones."""
    rewrite: Rewrite
    search: Send
    """The client's `search`."""
    vectors: Send
    """The client's `mtermvectors`."""
    feedback: bool | str = False
    """True for feedback from the first hits, or the token of an earlier answer."""
    relevant: Sequence[str] = ()
    """Ids of documents whose latent terms are taken over instead."""
    not_relevant: Sequence[str] = ()
    """Ids of documents whose latent terms are taken away."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Size and filter, for documents like the relevant ones."""

    def __post_init__(self) -> None:
        if self.relevant and self.feedback:
            raise InputError("feedback and relevant: use one of them")
        if self.not_relevant and not self.relevant:
            raise InputError("not_relevant: give ids of relevant documents too")
        others = sorted(self.options.keys() - {"size", "filter"})
        if self.relevant and not self.asked and others:
            raise InputError(f"{others[0]}: without a question, only size and filter are used")

    async def answer(self, rewriter: QueryRewriter, **where: Any) -> dict[str, Any]:
        """Search, and return the engine's answer, with `feedback` if that was asked for.

        `where` is the index to search, if the body does not name a point in time.
        """
        expansion = await self.expansion(rewriter, **where)
        if self.relevant and not self.asked:
            assert expansion is not None
            body = rewriter.like(expansion, **self.options)
        else:
            body, report = await self.rewrite(rewriter, expansion)
            expansion = report.feedback
        answer: dict[str, Any] = await self.search(body=body, **where)
        if expansion is not None:
            answer = {**answer, "feedback": expansion.to_json()}
        return answer

    async def expansion(self, rewriter: QueryRewriter, **where: Any) -> Expansion | None:
        """Return the latent terms to take over; None if none were asked for."""
        if self.relevant:
            hits = await self._documents(rewriter, self.relevant, **where)
            against = await self._documents(rewriter, self.not_relevant, **where)
            return rewriter.expansion_of(hits, against=against, by_rank=False)
        if isinstance(self.feedback, str):
            expansion = Expansion.read(self.feedback)
            if rewriter.is_of_its_model(expansion):
                return expansion
        elif not self.feedback:
            return None
        if not isinstance(self.asked, str) and (why := no_feedback_because(check_body(self.asked))):
            return Expansion(notes=(why,))
        body, report = await self.rewrite(rewriter, None)
        if not report.rewritten:
            return Expansion(notes=("none, since no clause has latent terms",))
        request = first_hits_request(body, rewriter.field)
        found = await self.search(body=request, **where)
        hits = await with_term_vectors(found["hits"]["hits"], rewriter.field, self.vectors)
        return rewriter.expansion_of(hits)

    async def _documents(
        self, rewriter: QueryRewriter, ids: Sequence[str], **where: Any
    ) -> Sequence[Hit]:
        """Return documents by their ids; raises InputError if there is none of them."""
        if not ids:
            return []
        request = documents_request(ids, rewriter.field, rewriter.collapse)
        if isinstance(self.asked, dict) and "pit" in self.asked:
            request["pit"] = self.asked["pit"]
        hits: Sequence[Hit] = (await self.search(body=request, **where))["hits"]["hits"]
        if not hits:
            named = ", ".join(map(repr, ids))
            raise InputError(f"no document {named} in index {rewriter.index}; give its _id")
        return await with_term_vectors(hits, rewriter.field, self.vectors)


def read_expansion(
    client: OpenSearch,
    rewriter: QueryRewriter,
    asked: str | dict[str, Any] = "",
    *,
    relevant: Sequence[str] = (),
    not_relevant: Sequence[str] = (),
    **options: Any,
) -> Expansion:
    """Return the latent terms that a question takes over, from its first hits or from documents.

    Args:
        client: a client of opensearch-py.
        rewriter: made by `QueryRewriter.from_index`.
        asked: a question, or a request body.
        relevant: ids of documents; without them, the first hits are asked for.
        not_relevant: ids of documents whose latent terms are taken away.
        options: as for `QueryRewriter.rewrite`, or as for `rewrite_body`.

    Raises:
        InputError: as `Searcher.search`.
        EngineError: the engine cannot be reached, or refuses.
    """

    async def rewrite(rewriter: QueryRewriter, expansion: Expansion | None) -> Rewritten:
        more = {} if expansion is None else {"expansion": expansion}
        return rewriter.rewrite_and_report(asked, **options, **more)

    search, vectors = (partial(at_once, send) for send in (client.search, client.mtermvectors))
    asking = Asking(asked, rewrite, search, vectors, not relevant, relevant, not_relevant)
    with engine_errors(client):
        found = finished(asking.expansion(rewriter, index=rewriter.index))
    assert found is not None
    return found
