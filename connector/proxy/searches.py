"""Searches: bodies are rewritten by the library's rewriter, answers are the engine's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from latent_ingest.connector.errors import LatentIngestError
from latent_ingest.connector.proxy import paths
from latent_ingest.connector.proxy.caller import JSON_HEADERS, Caller, ask_once
from latent_ingest.connector.proxy.indices import NO_LATENTS, Entry
from latent_ingest.connector.proxy.messages import Exchange, Refused, without
from latent_ingest.connector.proxy.paths import Asked
from latent_ingest.connector.proxy.upstream import Answer
from latent_ingest.connector.querying.application.point_in_time import point_in_time
from latent_ingest.connector.querying.report import RewriteReport
from latent_ingest.connector.querying.request import read_body
from latent_ingest.connector.querying.scoring import AUTO, MATCHINGS, Form

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

# Bytes of the longest body that is rewritten.
MAX_SEARCH = 4_000_000

# Bytes of a body above which a thread rewrites it, so that others do not wait for it.
QUICK = 50_000

# Bytes of the longest answer that is looked at for hits of other indices.
MAX_ANSWER = 64_000_000

# Searches of one `_msearch` that are rewritten, and templates that are rendered for it.
MOST_SEARCHES = 1000
MOST_TEMPLATES = 100

# Times that a search is sent while its index keeps moving.
ROUNDS = 3

# Status codes after which an index is looked up again: it is gone, or may not be named.
MOVED = (403, 404)

# Parameters of a `q=` search → options of the query that engines make of it.
QUERY_STRING = {
    "q": "query",
    "df": "default_field",
    "default_operator": "default_operator",
    "analyzer": "analyzer",
    "analyze_wildcard": "analyze_wildcard",
    "lenient": "lenient",
}

# Parameters that replace numbers of the body, so that the rewriter has to see them.
COUNTS = ("size", "from")

# Parts of the request for a template that belong to the search.
OF_SEARCH = ("explain", "profile")

GONE = b"index_not_found_exception"


class Attempts:
    """Requests to the engine, of which the answer to the last one is for the client."""

    def __init__(self, proxy: Proxy, exchange: Exchange) -> None:
        self._proxy = proxy
        self._exchange = exchange
        self._answer: Answer | None = None
        self.status = 0
        self.content = b""
        """The beginning of the answer, or all of it."""

    async def __aenter__(self) -> Attempts:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._answer:
            self._answer.close()

    async def send(self, target: str, content: bytes, *, read: bool) -> bool:
        """Send a request; return whether the whole answer was read.

        It is if `read`, unless it is very long; and if the index may have moved.
        """
        if self._answer:
            self._answer.close()
        headers = self._proxy.json_headers(self._exchange)
        if read:
            headers = without(headers, b"accept-encoding")
        self._answer = await self._proxy.send(self._exchange, target, headers, content, again=True)
        self.status = self._answer.status
        self.content = b""
        if not read and self.status not in MOVED:
            return False
        parts = []
        size = 0
        async for chunk in self._answer.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER:
                break
        self.content = b"".join(parts)
        return size <= MAX_ANSWER

    async def relay(self) -> None:
        """Send the last answer to the client."""
        assert self._answer
        await self._proxy.relay(self._exchange, self._answer, self.content)


class LeftAlone(Exception):
    """A search that is passed through; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the headers of a request choose."""

    form: str = AUTO
    matching: str | None = None

    @classmethod
    def of(cls, exchange: Exchange) -> Chosen:
        """Read the headers; raises LeftAlone if they turn rewriting off, and Refused."""
        word = exchange.word(b"x-latent") or "on"
        form = exchange.word(b"x-latent-form") or AUTO
        matching = exchange.word(b"x-latent-matching")
        forms = (AUTO, *(one.value for one in Form))
        for name, value, known in (
            ("X-Latent", word, ("on", "off")),
            ("X-Latent-Form", form, forms),
            ("X-Latent-Matching", matching or MATCHINGS[0], MATCHINGS),
        ):
            if value not in known:
                raise Refused(
                    400,
                    "illegal_argument_exception",
                    f"header {name}: {value[:50]!r}; use one of {', '.join(known)}",
                )
        if word == "off":
            raise LeftAlone("X-Latent: off")
        return cls(form, matching or None)

    def in_one_phase(self) -> Chosen:
        """Return the choice for a request whose hits engines do not rescore."""
        form = Form.HYBRID if self.form == AUTO else Form(self.form).one_phase
        return replace(self, form=form.value)

    def options(self) -> dict[str, Any]:
        """Return options of the rewriter."""
        return {"form": self.form, "matching": self.matching}


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


def parsed(content: bytes) -> Any:
    """Return the JSON of a body, as engines read it; raises LeftAlone."""
    try:
        return read_body(content.decode())
    except (ValueError, RecursionError) as error:
        raise LeftAlone("the body is not JSON") from error


def written(body: Any) -> bytes:
    """Return a body as JSON; raises LeftAlone if it holds a number that JSON has not."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise LeftAlone("the body has a number or a depth that JSON cannot hold") from error


def asked_body(body: object, given: dict[str, str]) -> dict[str, Any]:
    """Return a body with what the parameters of the URL say in the place of its parts.

    Raises:
        LeftAlone: the body is no object, or a parameter is not understood.
    """
    if not isinstance(body, dict):
        raise LeftAlone("the body is not an object")
    if "source" in given:
        raise LeftAlone("the body is in the URL")
    made: dict[str, Any] = {**body}
    if "q" in given:
        options = {QUERY_STRING[name]: given[name] for name in QUERY_STRING if name in given}
        made["query"] = {"query_string": options}
    for name in COUNTS:
        if name in given:
            if not (given[name].isascii() and given[name].isdigit()):
                raise LeftAlone(f"parameter {name} is not a number")
            made[name] = int(given[name])
    if "sort" in given:
        made["sort"] = [sorted_by(part) for part in given["sort"].split(",")]
    if "track_total_hits" in given:
        value = given["track_total_hits"]
        made["track_total_hits"] = int(value) if value.isdecimal() else value != "false"
    if "stored_fields" in given:
        made["stored_fields"] = given["stored_fields"].split(",")
    return made


def sorted_by(part: str) -> Any:
    """Return a part of `sort=` as a body has it."""
    field, colon, order = part.rpartition(":")
    return {field: {"order": order}} if colon else part


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


async def search(proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked) -> None:
    """Answer a search of any kind."""
    content, whole = await proxy.read(exchange, MAX_SEARCH)
    if not whole:
        proxy.guard.refuse_unread()
        await proxy.leave_alone(exchange, "the body is too long to be parsed")
        return
    proxy.guard.check_body(asked, exchange, content)
    if not proxy.guard.all and asked.kind in (paths.TEMPLATE, paths.MULTI_TEMPLATE):
        if asked.kind == paths.MULTI_TEMPLATE or not exchange.is_json:
            raise paths.not_served("templates of several searches")
        try:  # what a stored template searches shows only then
            await rendered(proxy, exchange, parsed(content))
        except LeftAlone as error:
            raise paths.not_served(f"this template: {error}") from error
    several = asked.kind in (paths.MULTI_SEARCH, paths.MULTI_TEMPLATE)
    answer = multi_search if several else single_search
    try:
        if content.strip() and not exchange.is_json:
            raise LeftAlone("the body is not JSON by its Content-Type")
        await answer(proxy, exchange, caller, asked, content)
    except LeftAlone as error:
        await proxy.leave_alone(exchange, str(error))


async def single_search(
    proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked, content: bytes
) -> None:
    """Answer a search; raises LeftAlone before anything is answered."""
    chosen = Chosen.of(exchange)
    given = exchange.parameters()
    if given is None:
        raise LeftAlone("a parameter of the URL is given twice")
    body = parsed(content) if content.strip() else {}
    if asked.kind == paths.TEMPLATE:
        body = await rendered(proxy, exchange, body)
    body = asked_body(body, given)
    if "scroll" in given:
        chosen = chosen.in_one_phase()
    name = "" if point_in_time(body) else asked.index or given.get("index") or "_all"
    one = One(body, name, chosen, len(content))
    async with Attempts(proxy, exchange) as attempts:
        for last in (False,) * (ROUNDS - 1) + (True,):
            made = await rewrite(proxy, caller, one)
            if made.may_move and (asked.kind == paths.ASYNC_SEARCH or "filter_path" in given):
                raise LeftAlone("the alias may move, and the answer would not show it")
            target = target_of(exchange, asked, given, made)
            new = written(made.body)
            whole = await attempts.send(target, new, read=made.may_move)
            wrong = made.may_move and (not whole or foreign(attempts.content, [made]))
            stale = (wrong or attempts.status in MOVED) and not last
            if stale and await moved(proxy, caller, made, attempts.status):
                continue
            if wrong:
                raise LeftAlone("the answer may be of other indices than those looked up")
            exchange.done(
                "rewritten",
                f"form={made.report.form.value}",
                f"clauses={len(made.report.rewritten)}",
            )
            await attempts.relay()
            return


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


def target_of(exchange: Exchange, asked: Asked, given: dict[str, str], made: Rewritten) -> str:
    """Return path and query for a rewritten search."""
    path, query = exchange.path, exchange.query
    dropped = {*QUERY_STRING} if "q" in given else set()
    if made.one.name and asked.kind != paths.ASYNC_SEARCH:
        names = quote(made.target, safe=",") if made.target else None
        if names is None and asked.index is None:
            names = quote(made.one.name, safe=",*")
        written_index = names or exchange.path.split("/")[1]
        path = f"/{written_index}/_search"
        dropped |= {"index"}
    elif made.target and asked.index:
        path = f"/{quote(made.target, safe=',')}{asked.raw_rest}"
    elif made.target:
        given = {**given, "index": made.target}
        query = urlencode(given)
    if dropped & given.keys():
        query = urlencode({name: v for name, v in given.items() if name not in dropped})
    return f"{path}?{query}" if query else path


async def rendered(proxy: Proxy, exchange: Exchange, body: object) -> Any:
    """Return the body that a search template makes, by the engine; raises LeftAlone."""
    if not isinstance(body, dict):
        raise LeftAlone("the body is not an object")
    wanted = {name: body[name] for name in ("id", "source", "params") if name in body}
    caller = Caller(proxy.forwarded(exchange))
    status, answer = await ask_once(
        proxy.upstream,
        "POST",
        "/_render/template",
        [*caller.headers, *JSON_HEADERS],
        written(wanted),
    )
    if status != 200:
        raise LeftAlone(f"the engine did not render the template (status {status})")
    try:
        made = json.loads(answer)["template_output"]
    except (ValueError, KeyError, TypeError) as error:
        raise LeftAlone("the engine did not render the template") from error
    proxy.guard.check_value(made)
    if not isinstance(made, dict):
        raise LeftAlone("the template makes no object")
    return {**made, **{name: body[name] for name in OF_SEARCH if name in body}}


async def multi_search(
    proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked, content: bytes
) -> None:
    """Answer `_msearch`; raises LeftAlone before anything is answered."""
    chosen = Chosen.of(exchange)
    given = exchange.parameters() or {}
    default = asked.index or given.get("index") or "_all"
    lines = content.removesuffix(b"\n").split(b"\n")
    templates = asked.kind == paths.MULTI_TEMPLATE
    if len(lines) % 2 or len(lines) > 2 * (MOST_TEMPLATES if templates else MOST_SEARCHES):
        raise LeftAlone("the lines are not pairs, or too many")
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    async with Attempts(proxy, exchange) as attempts:
        for last in (False,) * (ROUNDS - 1) + (True,):
            results = await asyncio.gather(
                *(
                    rewritten_pair(proxy, exchange, caller, default, chosen, *pair, templates)
                    for pair in pairs
                )
            )
            made = [one for _, one in results if isinstance(one, Rewritten)]
            if not made:
                raise LeftAlone(next(str(why) for _, why in results))
            if len(made) < len(results):
                proxy.refuse_if_strict(next(w for _, w in results if isinstance(w, str)))
            new = b"".join(part for part, _ in results)
            target = exchange.target
            if templates:
                target = target.replace("/_msearch/template", "/_msearch", 1)
            whole = await attempts.send(target, new, read=True)
            movable = any(one.may_move for one in made)
            wrong = movable and (
                not whole or foreign(attempts.content, [one for _, one in results])
            )
            gone = GONE in attempts.content or attempts.status in MOVED
            stale = (wrong or gone) and not last
            if stale and any([await moved(proxy, caller, one, attempts.status) for one in made]):
                continue
            if wrong:
                raise LeftAlone("the answers may be of other indices than those looked up")
            clauses = sum(len(one.report.rewritten) for one in made)
            exchange.done(
                "rewritten",
                f"form={made[0].report.form.value}",
                f"clauses={clauses}",
                f"searches={len(made)} of {len(results)}",
            )
            await attempts.relay()
            return


async def rewritten_pair(
    proxy: Proxy,
    exchange: Exchange,
    caller: Caller,
    default: str,
    chosen: Chosen,
    head: bytes,
    body: bytes,
    template: bool,
) -> tuple[bytes, Rewritten | str]:
    """Return the two lines of a search of `_msearch`, and what was done or why nothing was."""
    given = parsed(body) if template else None
    if template:
        given = await rendered(proxy, exchange, given)
        body = written(given)
    try:
        header = parsed(head) if head.strip() else {}
        if not isinstance(header, dict):
            raise LeftAlone("a header of the searches is not an object")
        given = parsed(body) if given is None else given
        named = header.get("index", header.get("indices")) or default
        name = ",".join(map(str, named)) if isinstance(named, list) else str(named)
        if point_in_time(given):
            name = ""
        made = await rewrite(proxy, caller, One(asked_body(given, {}), name, chosen, len(body)))
        if made.target:
            header = {**header, "index": made.target.split(",")}
            header.pop("indices", None)
            head = written(header)
        return b"%b\n%b\n" % (head, written(made.body)), made
    except LeftAlone as error:
        return b"%b\n%b\n" % (head, body), str(error)


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
