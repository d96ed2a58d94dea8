"""Writes: documents get their latent terms and the hash of their text on the way in.

lines → parts of a few hundred → texts of one index → latent terms → lines, for one request

A document stays byte for byte what the client sent; the two fields are put before its last brace.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.document import unique_keys
from latent_ingest.connector.document_text import has_field, text_hash, text_in
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import LatentIngestError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.reading import Stored, source_fields
from latent_ingest.connector.indexing.actions import update_action
from latent_ingest.connector.proxy.caller import Caller, client_of
from latent_ingest.connector.proxy.indices import Entry
from latent_ingest.connector.proxy.messages import Exchange, one_line, without
from latent_ingest.connector.proxy.paths import Asked

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

log = logging.getLogger(__name__)

# Bytes of a document that is encoded, and so of what is kept of a request at one time.
MAX_DOCUMENT = 16_000_000

# Documents, and bytes of them, that are encoded together: a request waits for the first of them
# before the engine gets any.
PART_DOCUMENTS = 256
PART_BYTES = 2_000_000

# Bytes of a `_bulk` that go into one request to the engine, which refuses those over 100 MB.
REQUEST_BYTES = 60_000_000

# Seconds for documents that have to be encoded again, after the engine has them.
AGAIN_SECONDS = 30.0

# Parts of the items of an answer that tell where a document is.
PLACES = "items.*._index,items.*._id,items.*._seq_no,items.*.status"

ENCODED, ALREADY, STALE = "encoded", "already", "stale"


@dataclass(slots=True)
class Tally:
    """What documents of a request got."""

    counts: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    """Why the first document without latent terms has none."""

    def left(self, reason: str) -> None:
        """Count a document that goes in without latent terms though it has text."""
        self.counts["without"] += 1
        self.reason = self.reason or reason

    def tell(self, exchange: Exchange) -> None:
        """Say in a header of the answer what was done."""
        parts = [f"{name}={number}" for name, number in self.counts.items() if number]
        if not parts:
            return
        what = "encoded" if self.counts[ENCODED] else "passed through"
        exchange.done(what, *parts, *([self.reason] if self.reason else []))


@dataclass(slots=True)
class Source:
    """A document on its way in: where its latent terms go, and its text."""

    line: bytes
    meta: IndexMeta | None = None
    entry: Entry | None = None
    texts: list[tuple[str, int, int]] = field(default_factory=list)
    """Texts to be encoded, each with the span of its object in the line, in bytes."""
    partial: bool = False
    """Whether a part of the text is updated, so that the whole is known to the engine alone."""

    def with_terms(self, strings: list[str | None]) -> bytes:
        """Return the line with the latent terms of its texts."""
        line = self.line
        assert self.meta
        for (text, start, end), string in reversed(list(zip(self.texts, strings, strict=True))):
            if string is not None:
                new = spliced(line[start:end], self.meta, string, text)
                line = line[:start] + new + line[end:]
        return line


def spliced(document: bytes, meta: IndexMeta, string: str, text: str) -> bytes:
    """Return a document's JSON with latent terms and hash."""
    own = {meta.latent_field: string}
    if meta.hash_field:
        own[meta.hash_field] = text_hash(text)
    if own.keys() & (fields := json.loads(document)).keys():  # those of an earlier text
        return json.dumps({**fields, **own}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return document.rstrip()[:-1] + b"," + json.dumps(own)[1:].encode()


def members(text: str) -> Iterator[tuple[str, Any, int, int]]:
    """Yield key, value and span of each member of a JSON object; raises ValueError."""
    decoder = json.JSONDecoder()
    at = blank(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("not an object")
    at = blank(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = decoder.raw_decode(text, at)
        at = blank(text, at)
        if text[at : at + 1] != ":":
            raise ValueError("no colon")
        start = blank(text, at + 1)
        value, at = decoder.raw_decode(text, start)
        yield key, value, start, at
        at = blank(text, at)
        if text[at : at + 1] == ",":
            at = blank(text, at + 1)
        elif text[at : at + 1] != "}":
            raise ValueError("no comma")


def blank(text: str, at: int) -> int:
    """Return the place of the next character that is no blank."""
    while text[at : at + 1] in (" ", "\t", "\r", "\n") and at < len(text):
        at += 1
    return at


def text_of(fields: Mapping[str, Any], meta: IndexMeta) -> str | None:
    """Return the text of a document; None if it has no text field, or has its latent terms."""
    if not any(has_field(fields, path) for path in meta.text_fields):
        return None
    return text_in(fields, meta.text_fields)


class Writer:
    """Adds latent terms to the documents of one request."""

    def __init__(self, proxy: Proxy, exchange: Exchange, caller: Caller) -> None:
        self._proxy = proxy
        self._exchange = exchange
        self._caller = caller
        self._off = exchange.word(b"x-latent") == "off" or not proxy.settings.documents
        self.tally = Tally()
        self.later: list[tuple[int, Entry, bool]] = []
        """Number of each item that is looked at in the answer, its indices as they were known, and
        whether its text is known to the engine alone."""

    async def source(self, line: bytes, index: str, *, update: bool) -> Source:
        """Return a document, or an update of one, with what is known of its index."""
        if self._off:
            return Source(line)
        entry = await self._proxy.indices.find(self._caller, index)
        if entry.asked is None:
            if entry.unknown:
                hidden = self._proxy.indices.secretive
                self.tally.left("the index cannot be read about" if hidden else entry.reason)
            return Source(line)
        meta = entry.meta
        found = Source(line, meta, entry)
        try:
            if meta is None:
                raise LatentIngestError("the indices of the name differ")
            if meta.long == "chunks":
                raise LatentIngestError("documents in chunks are written by 'ingest'")
            if self._proxy.models.documents(meta) is None:
                raise LatentIngestError("no model here made the index")
            texts = updated_texts if update else document_texts
            texts(found, meta, self.tally)
        except LatentIngestError as error:
            self.tally.left(str(error))
        except (ValueError, RecursionError):
            self.tally.left("not JSON")  # the engine will say so
        return found

    async def encoded(self, sources: list[Source]) -> list[bytes]:
        """Return lines with latent terms, encoded together."""
        lines = [source.line for source in sources]
        groups: dict[int, list[int]] = {}
        for at, source in enumerate(sources):
            if source.texts:
                groups.setdefault(id(source.meta), []).append(at)
        for group in groups.values():
            meta = sources[group[0]].meta
            assert meta
            documents = self._proxy.models.documents(meta)
            assert documents
            texts = [text for at in group for text, _, _ in sources[at].texts]
            work = partial(documents.strings, texts, meta)
            loop = asyncio.get_running_loop()
            try:
                strings = await loop.run_in_executor(self._proxy.models.pool, work)
            except Exception as error:  # a document goes in all the same
                log.warning("documents were not encoded: %s", error)
                strings = [None] * len(texts)
            at_text = 0
            for at in group:
                number = len(sources[at].texts)
                mine = strings[at_text : at_text + number]
                at_text += number
                lines[at] = sources[at].with_terms(mine)
                if None in mine:
                    self.tally.left("the model gives no numbers for its text")
                else:
                    self.tally.counts[ENCODED] += 1
        return lines

    async def again(self, items: list[dict[str, Any]]) -> None:
        """Encode documents again whose latent terms are not those of their text or their index.

        `items` are the engine's, one per action.
        """
        wrong: dict[str, dict[str, None]] = {}
        for number, entry, only_part in self.later:
            if number >= len(items):
                break
            place: dict[str, Any] = next(iter(items[number].values()), {})
            if "error" in place or "_id" not in place or place.get("result") == "noop":
                continue
            index = str(place.get("_index"))
            known = entry.asked is not None and index in entry.asked.metas
            if not known or (only_part and self._proxy.settings.complete_updates):
                wrong.setdefault(index, {})[place["_id"]] = None
        for index, ids in wrong.items():
            self._proxy.indices.forget(self._caller)
            client = client_of(self._proxy.upstream, self._caller, asyncio.get_running_loop())
            routing = (self._exchange.parameters() or {}).get("routing")
            work = partial(encode_stored, self._proxy, client, index, list(ids), routing)
            try:
                loop = asyncio.get_running_loop()
                done = await loop.run_in_executor(self._proxy.models.pool, work)
                self.tally.counts["again"] += done
                self.tally.counts[STALE] += len(ids) - done
            except LatentIngestError as error:
                log.warning("documents of index %s were not encoded again: %s", index, error)
                self.tally.counts[STALE] += len(ids)

    def note(self, number: int, source: Source) -> None:
        """Note a document that is looked at in the answer: its number, and how it is known."""
        entry = source.entry
        moves = entry is not None and not entry.is_plain and bool(source.texts)
        if entry and (moves or (source.partial and self._proxy.settings.complete_updates)):
            self.later.append((number, entry, source.partial))

    async def again_in(self, content: bytes) -> None:
        """Encode documents again by the engine's answer to a `_bulk`, as `again`."""
        if self.later:
            with suppress(ValueError, AttributeError, TypeError):
                await self.again(json.loads(content).get("items", []))

    def count(self) -> None:
        """Count documents in the metrics, and say in a header what was done."""
        for outcome, number in self.tally.counts.items():
            self._proxy.metrics.documents.labels(outcome).inc(number)
        self.tally.tell(self._exchange)


def document_texts(source: Source, meta: IndexMeta, tally: Tally) -> None:
    """Note the text of a document; raises ValueError."""
    fields = json.loads(source.line)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    text = text_of(fields, meta)
    if text is None:
        return
    if has_own(fields, meta, text):
        tally.counts[ALREADY] += 1
        return
    end = len(source.line.rstrip())
    source.texts.append((text, 0, end))


def updated_texts(source: Source, meta: IndexMeta, tally: Tally) -> None:
    """Note the texts of an update: those of `doc` and `upsert`; raises ValueError."""
    line = source.line.decode()
    for key, value, start, end in members(line):
        if key not in ("doc", "upsert") or not isinstance(value, dict):
            continue
        text = text_of(value, meta)
        if text is None:
            continue
        if has_own(value, meta, text):
            tally.counts[ALREADY] += 1
        elif key == "doc" and not all(has_field(value, path) for path in meta.text_fields):
            source.partial = True
            tally.counts["partial"] += 1
        else:
            span = len(line[:start].encode()), len(line[:end].encode())
            source.texts.append((text, *span))


def has_own(fields: Mapping[str, Any], meta: IndexMeta, text: str) -> bool:
    """Return whether a document comes with the latent terms of its text."""
    hashed = meta.hash_field and fields.get(meta.hash_field) == text_hash(text)
    return bool(hashed) and meta.latent_field in fields


def encode_stored(
    proxy: Proxy, client: Any, index: str, ids: list[str], routing: str | None
) -> int:
    """Encode documents as they are stored now, in a thread; return how many are up to date.

    Documents of an index of another model, which is not loaded here, lose their latent terms, so
    that `enrich` adds them. Raises EngineError and MismatchError.
    """
    retry = Retry(client, give_up_after=AGAIN_SECONDS)
    meta = retry.ask(lambda: IndexMeta.read(client, index))
    if meta is None or meta.hash_field is None:
        return 0
    documents = proxy.models.documents(meta)
    wanted = [{"_id": one, **({"routing": routing} if routing else {})} for one in ids]
    params = {"_source_includes": ",".join(source_fields(meta))}
    answer = retry.ask(lambda: client.mget(body={"docs": wanted}, index=index, params=params))
    stored = [Stored.of(found) for found in answer["docs"] if found.get("found")]
    texts = [text_in(one.source, meta.text_fields) for one in stored]
    strings = documents.strings(texts, meta) if documents else [None] * len(texts)
    body = b"".join(
        update_action(one, meta, string or "", text if string is not None else "\0").body
        for one, text, string in zip(stored, texts, strings, strict=True)
    )
    if not body:
        return 0
    answered = retry.ask(lambda: client.bulk(body=body.decode(), index=Index(client, index).name))
    return sum("error" not in next(iter(item.values())) for item in answered["items"])


async def write(proxy: Proxy, exchange: Exchange, caller: Caller, asked: Asked) -> None:
    """Answer a write of one document, or an update."""
    content, whole = await proxy.read(exchange, MAX_DOCUMENT)
    writer = Writer(proxy, exchange, caller)
    if exchange.word(b"x-latent") == "off" or not exchange.is_json or asked.index is None:
        await proxy.pass_through(exchange, exchange.taken)
        return
    if not whole:
        writer.tally.left("the document is too long")
        writer.count()
        await proxy.pass_through(exchange, exchange.taken)
        return
    source = await writer.source(content, asked.index, update=asked.kind == "update")
    (line,) = await writer.encoded([source])
    writer.note(0, source)
    headers = proxy.json_headers(exchange)
    watched = bool(writer.later)
    if watched:
        headers = without(headers, b"accept-encoding")
    answer = await proxy.send(exchange, exchange.target, headers, line)
    async with answer:
        start = b""
        if watched and 200 <= answer.status < 300:
            start = await answer.read()
            await writer.again_in(b'{"items":[{"index":%b}]}' % start)
        writer.count()
        await proxy.relay(exchange, answer, start)


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
        self.actions, self._writer.later = [], []
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
    lines = Bulk(writer, proxy.plain(exchange), index, check)
    headers = proxy.json_headers(exchange)
    whole = await lines.begin()
    answered: list[dict[str, Any]] = []
    if whole is None or writer.later:
        headers = without(headers, b"accept-encoding")
    while True:
        content = lines.request() if whole is None else whole
        target = exchange.target
        if "filter_path" in given and (whole is None or writer.later):
            target = f"{target}&filter_path={PLACES}"
        answer = await proxy.send(exchange, target, headers, content)
        async with answer:
            if whole is not None and not writer.later:
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
