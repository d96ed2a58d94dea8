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
from latent_ingest.connector.querying.rewriter import QueryRewriter

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from latent_ingest.connector.querying.report import RewriteReport


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls by which a question is answered; they block, or an event loop waits for them."""

    rewrite: Callable[..., Awaitable[tuple[dict[str, Any], RewriteReport]]]
    """`QueryRewriter.rewrite_and_report`, of a rewriter that is the first argument."""
    search: Send
    """The client's `search`."""
    vectors: Send
    """The client's `mtermvectors`."""

    @classmethod
    def blocking(cls, client: OpenSearch) -> Calls:
        """Calls of a client that block, for `finished`."""
        calls = (QueryRewriter.rewrite_and_report, client.search, client.mtermvectors)
        return cls(*(partial(at_once, call) for call in calls))

    @classmethod
    def on_loop(cls, client: AsyncOpenSearch) -> Calls:
        """Calls of an asynchronous client."""
        return cls(QueryRewriter.rewrite_and_report_async, client.search, client.mtermvectors)


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked, and the calls by which it is answered."""

    calls: Calls
    asked: str | dict[str, Any]
    """A question, or a request body; "" for documents like the relevant ones."""
    feedback: bool | str = False
    """True for feedback from the first hits, or the token of an earlier answer."""
    relevant: Sequence[str] = ()
    """Ids of documents whose latent terms are taken over instead."""
    not_relevant: Sequence[str] = ()
    """Ids of documents whose latent terms are taken away."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """As for `QueryRewriter.rewrite`, or as for `rewrite_body`."""

    def __post_init__(self) -> None:
        if self.relevant and self.feedback:
            raise InputError("feedback and relevant: use one of them")
        if self.not_relevant and not self.relevant:
            raise InputError("not_relevant: give ids of relevant documents too")

    async def answer(self, rewriter: QueryRewriter, **where: Any) -> dict[str, Any]:
        """Search, and return the engine's answer, with `feedback` if that was asked for.

        `where` is the index to search, if the body does not name a point in time.
        """
        like = self.relevant and not self.asked
        if like and (others := sorted(self.options.keys() - {"size", "filter"})):
            raise InputError(f"{others[0]}: without a question, only size and filter are used")
        expansion = await self.expansion(rewriter, **where)
        if like:
            assert expansion is not None
            body = rewriter.feedback.like(expansion, **self.options)
        else:
            given = {} if expansion is None else {"expansion": expansion}
            body, report = await self.calls.rewrite(rewriter, self.asked, **self.options, **given)
            expansion = report.feedback
        answer: dict[str, Any] = await self.calls.search(body=body, **where)
        if expansion is not None:
            answer = {**answer, "feedback": expansion.to_json()}
        return answer

    async def expansion(self, rewriter: QueryRewriter, **where: Any) -> Expansion | None:
        """Return the latent terms to take over; None if none were asked for."""
        if self.relevant:
            hits = await self._documents(rewriter, self.relevant, **where)
            against = await self._documents(rewriter, self.not_relevant, **where)
            return rewriter.feedback.of_hits(hits, against=against, by_rank=False)
        if isinstance(self.feedback, str):
            expansion = Expansion.read(self.feedback)
            if rewriter.feedback.suits(expansion):
                return expansion
        elif not self.feedback:
            return None
        if not isinstance(self.asked, str) and (why := no_feedback_because(check_body(self.asked))):
            return Expansion(notes=(why,))
        body, report = await self.calls.rewrite(rewriter, self.asked, **self.options)
        if not report.rewritten:
            return Expansion(notes=("none, since no clause has latent terms",))
        request = first_hits_request(body, rewriter.field)
        found = await self.calls.search(body=request, **where)
        hits = await with_term_vectors(found["hits"]["hits"], rewriter.field, self.calls.vectors)
        return rewriter.feedback.of_hits(hits)

    async def _documents(
        self, rewriter: QueryRewriter, ids: Sequence[str], **where: Any
    ) -> Sequence[Hit]:
        """Return documents by their ids; raises InputError if there is none of them."""
        if not ids:
            return []
        request = documents_request(ids, rewriter.field, rewriter.collapse)
        if isinstance(self.asked, dict) and "pit" in self.asked:
            request["pit"] = self.asked["pit"]
        hits: Sequence[Hit] = (await self.calls.search(body=request, **where))["hits"]["hits"]
        if not hits:
            named = ", ".join(map(repr, ids))
            raise InputError(f"no document {named} in index {rewriter.index}; give its _id")
        return await with_term_vectors(hits, rewriter.field, self.calls.vectors)


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
    calls = Calls.blocking(client)
    asking = Asking(calls, asked, not relevant, relevant, not_relevant, options)
    with engine_errors(client):
        found = finished(asking.expansion(rewriter, index=rewriter.index))
    assert found is not None
    return found
