"""`_bulk`: lines → parts of a few hundred documents → requests to the engine → one answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.document import unique_keys
from latent_ingest.connector.proxy.bodies import plain
from latent_ingest.connector.proxy.caller import Caller
from latent_ingest.connector.proxy.messages import Exchange, one_line, without
from latent_ingest.connector.proxy.paths import Asked
from latent_ingest.connector.proxy.writing.documents import Source
from latent_ingest.connector.proxy.writing.writer import MAX_DOCUMENT, Writer

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

# Documents, and bytes of them, that are encoded together: a request waits for the first of them
# before the engine gets any.
PART_DOCUMENTS = 256
PART_BYTES = 2_000_000

# Bytes of a `_bulk` that go into one request to the engine, which refuses those over 100 MB.
REQUEST_BYTES = 60_000_000

# Parts of the items of an answer that tell where a document is.
PLACES = "items.*._index,items.*._id,items.*._seq_no,items.*.status"


@dataclass(slots=True)
class Action:
    """An action of a `_bulk`: its line, and that of its document, if it has one."""

    name: str
    target: dict[str, Any]
    head: bytes
    line: bytes | None

    def refused(self, status: int, error: object) -> dict[str, Any]:
        """Return the item for an action whose request the engine refused."""
        place = {name: self.target.get(name) for name in ("_index", "_id")}
        return {self.name: {**place, "status": status, "error": error}}


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines with their ends; what has none is the end of the body, or of a long line."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        size += len(first)
        if others:
            yield b"".join(pieces) + b"\n"
            *whole, last = others
            for line in whole:
                yield line + b"\n"
            pieces, size = [last], len(last)
        if size > MAX_DOCUMENT:
            yield b"".join(pieces)
            pieces, size = [], 0
    if rest := b"".join(pieces):
        yield rest


class Bulk:
    """The actions of a `_bulk`, in requests to the engine of limited size."""

    def __init__(
        self,
        writer: Writer,
        chunks: AsyncIterator[bytes],
        index: str | None,
        check: Callable[[str | None], None],
    ) -> None:
        """Take the chunks of a body; `check` refuses indices, or None for an unknown one."""
        self._writer = writer
        self._lines = lines_of(chunks)
        self._index = index
        self._check = check
        self._ahead: list[list[Action]] = []
        """Parts that have been read, two at most."""
        self._unread: list[bytes] | None = None
        """Lines that cannot be read, with which all passes as it is; None while all are read."""
        self.actions: list[Action] = []
        """Those of the current request."""

    async def begin(self) -> bytes | None:
        """Read the first parts; return the whole body if one part is all of it."""
        await self._look_ahead()
        await self._look_ahead()
        if len(self._ahead) > 1 or self._unread:
            return None
        self.actions = self._ahead.pop() if self._ahead else []
        return await self._encoded(self.actions, 0)

    @property
    def more(self) -> bool:
        """Whether there is something for another request."""
        return bool(self._ahead or self._unread)

    async def request(self) -> AsyncIterator[bytes]:
        """Yield the lines of the next request."""
        self.actions, self._writer.written = [], []
        size = 0
        while self._ahead and size < REQUEST_BYTES:
            part = self._ahead.pop(0)
            new = await self._encoded(part, len(self.actions))
            self.actions += part
            size += len(new)
            yield new
            await self._look_ahead()
        if not self._ahead and self._unread:
            lines, self._unread = self._unread, []
            for line in lines:
                yield line
            async for line in self._lines:
                yield line

    async def _look_ahead(self) -> None:
        if self._unread is None and (part := await self._read()) is not None:
            self._ahead.append(part)

    async def _read(self) -> list[Action] | None:
        """Return the next actions; None at the end."""
        found: list[Action] = []
        size = 0
        while len(found) < PART_DOCUMENTS and size < PART_BYTES:
            head = await anext(self._lines, None)
            if head is None:
                return found or None
            action = self._action(head)
            if action is None:
                self._unread = [head]
                return found
            if action.name != "delete":
                line = await anext(self._lines, b"")
                if not line.endswith(b"\n"):
                    self._writer.tally.left("a line is too long, or the last has no end")
                    self._unread = [head, line]
                    return found
                action.line = line
            found.append(action)
            size += len(head) + len(action.line or b"")
        return found

    def _action(self, head: bytes) -> Action | None:
        """Return the action of a line; None if it is none, which the engine will say."""
        try:
            ((name, target),) = json.loads(head, object_pairs_hook=unique_keys).items()
            if name not in ("index", "create", "update", "delete") or not isinstance(target, dict):
                raise ValueError
        except (ValueError, AttributeError, TypeError, RecursionError):
            self._writer.tally.left("a line is no action")
            self._check(None)
            return None
        self._check(target.get("_index") or self._index)
        return Action(name, target, head, None)

    async def _encoded(self, part: list[Action], first: int) -> bytes:
        """Return the lines of actions, with latent terms; the first has a number in its request."""
        writer = self._writer
        sources = []
        for number, action in enumerate(part, first):
            index = action.target.get("_index") or self._index
            source = Source(action.line or b"")
            if action.line is not None and isinstance(index, str):
                source = await writer.source(action.line, index, update=action.name == "update")
            writer.note(number, source)
            sources.append(source)
        new = await writer.encoded(sources)
        parts = []
        for action, line in zip(part, new, strict=True):
            parts += [action.head, line]
            if line and not line.endswith(b"\n"):
                parts.append(b"\n")
        return b"".join(parts)


async def bulk(proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked) -> None:
    """Answer `_bulk`: in one request to the engine, or in several if it is very long."""
    given = exchange.parameters()
    off = proxy.guard.all and exchange.word(b"x-latent") == "off"
    if off or not exchange.is_json or given is None:
        proxy.guard.refuse_unread()
        await proxy.pass_through(exchange)
        return
    index = asked.index or given.get("index")

    def check(name: str | None) -> None:
        if not proxy.guard.all:
            proxy.guard.check(str(name or "*"))

    writer = Writer(proxy, exchange, caller)
    lines = Bulk(writer, plain(exchange, proxy.settings.max_body), index, check)
    headers = proxy.json_headers(exchange)
    whole = await lines.begin()
    answered: list[dict[str, Any]] = []
    if whole is None or writer.written:
        headers = without(headers, b"accept-encoding")
    while True:
        content = lines.request() if whole is None else whole
        target = exchange.target
        if "filter_path" in given and (whole is None or writer.watched):
            target = f"{target}&filter_path={PLACES}"
        answer = await proxy.send(exchange, target, headers, content)
        async with answer:
            changed = answer.status == 200 and await writer.has_changed()
            if whole is not None and not (changed or writer.watched):
                writer.count()
                await proxy.relay(exchange, answer)
                return
            start = await answer.read()
            if (whole is not None or not (lines.more or answered)) or (
                not answered and answer.status != 200
            ):
                await writer.again_in(start)
                writer.count()
                await proxy.relay(exchange, answer, start)
                return
            answered.append(merged_part(answer.status, start, lines.actions))
            await writer.again(answered[-1]["items"])
            if not lines.more:
                break
    writer.count()
    result = {
        "took": sum(one["took"] for one in answered),
        "errors": any(one["errors"] for one in answered),
        "items": [item for one in answered for item in one["items"]],
    }
    json_type = (b"content-type", b"application/json; charset=UTF-8")
    await exchange.answer(200, [json_type], json.dumps(result).encode())


def merged_part(status: int, content: bytes, actions: list[Action]) -> dict[str, Any]:
    """Return the engine's answer to one of several requests; an error is one of each action."""
    try:
        answer = json.loads(content)
    except ValueError:
        answer = {"error": one_line(content.decode("utf-8", "replace")).decode()}
    if status == 200 and isinstance(answer, dict) and "items" in answer:
        return {"took": answer.get("took", 0), "errors": answer["errors"], "items": answer["items"]}
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    items = [action.refused(status, error) for action in actions]
    return {"took": 0, "errors": True, "items": items}
