"""One search, rewritten for the indices that it names, and whether they are still those."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.errors import LatentIngestError
from latent_ingest.connector.proxy.caller import Caller
from latent_ingest.connector.proxy.indices import NO_LATENTS, Entry
from latent_ingest.connector.proxy.searching.chosen import Chosen
from latent_ingest.connector.proxy.searching.left_alone import LeftAlone
from latent_ingest.connector.querying.application.point_in_time import point_in_time
from latent_ingest.connector.querying.report import RewriteReport

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

# Bytes of a body above which a thread rewrites it, so that others do not wait for it.
QUICK = 50_000


@dataclass(frozen=True, slots=True)
class One:
    """A search to be rewritten."""

    body: dict[str, Any]
    name: str
    """Names of indices; empty if a point in time has them."""
    chosen: Chosen
    size: int
    """Bytes of the body."""

    async def entry(self, proxy: Proxy, caller: Caller) -> Entry:
        """Return what is known of its indices."""
        if point := point_in_time(self.body):
            return await proxy.indices.at_point(caller, point)
        return await proxy.indices.find(caller, self.name)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A search that was rewritten."""

    one: One
    entry: Entry
    body: dict[str, Any]
    report: RewriteReport

    @property
    def target(self) -> str | None:
        """The names of indices to search instead of those given; None if those stay."""
        return self.entry.target if self.one.name else None

    @property
    def may_move(self) -> bool:
        """Whether hits may come from other indices than the body was made for."""
        return bool(self.one.name) and self.entry.may_move


async def rewrite(proxy: Proxy, caller: Caller, one: One) -> Rewritten:
    """Return a search with latent terms; raises LeftAlone."""
    entry = await one.entry(proxy, caller)
    rewriter = entry.rewriter
    if rewriter is None:
        raise LeftAlone(NO_LATENTS if proxy.indices.secretive else entry.reason)
    began = time.monotonic()
    work = partial(rewriter.rewrite_and_report, one.body, **one.chosen.options())
    try:
        if rewriter.table and one.size < QUICK:  # faster than to hand it to a thread
            made, report = work()
        else:
            loop = asyncio.get_running_loop()
            made, report = await loop.run_in_executor(proxy.models.pool, work)
    except LatentIngestError as error:
        raise LeftAlone(str(error)) from error
    proxy.metrics.rewriting.observe(time.monotonic() - began)
    if not report.rewritten:
        reasons = [clause.reason for clause in report.untouched]
        raise LeftAlone(reasons[0] if reasons else "no text clause that scores")
    return Rewritten(one, entry, made, report)


async def moved(proxy: Proxy, caller: Caller, made: Rewritten, status: int) -> bool:
    """Look up the indices of a search again; return whether it is to be sent again."""
    if not made.one.name:
        return False
    proxy.indices.forget(caller, made.one.name)
    entry = await made.one.entry(proxy, caller)
    if entry.asked is None or made.entry.asked is None:
        return True
    if entry.asked.key != made.entry.asked.key:
        return True
    if status == 403 and entry.target:  # the caller may ask by the alias alone
        entry.as_given = True
        return True
    return False


def foreign(content: bytes, made: Sequence[Rewritten | str]) -> bool:
    """Return whether an answer has hits of other indices than its bodies were made for.

    `made` are the searches in the order of their answers; those left alone are not looked at.
    """
    try:
        answer = json.loads(content)
        each = answer.get("responses", [answer])
        hits = [
            (one, [hit["_index"] for hit in (part.get("hits") or {}).get("hits") or ()])
            for one, part in zip(made, each, strict=False)
            if isinstance(one, Rewritten)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
    return any(
        not set(names) <= (one.entry.asked.metas.keys() if one.entry.asked else set())
        for one, names in hits
        if one.may_move
    )
