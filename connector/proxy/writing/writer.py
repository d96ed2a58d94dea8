"""Writes of documents: their texts are encoded together, and again if the index has moved.

documents → texts of one index → latent terms → documents, for one request
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from latent_ingest.connector.document_text import text_in
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import LatentIngestError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.reading import Stored, source_fields
from latent_ingest.connector.indexing.actions import update_action
from latent_ingest.connector.proxy.bodies import read
from latent_ingest.connector.proxy.caller import Caller, client_of
from latent_ingest.connector.proxy.indices import Entry
from latent_ingest.connector.proxy.messages import Exchange, without
from latent_ingest.connector.proxy.paths import Asked
from latent_ingest.connector.proxy.writing.documents import (
    ENCODED,
    STALE,
    Source,
    Tally,
    document_texts,
    updated_texts,
)

if TYPE_CHECKING:
    from latent_ingest.connector.proxy.app import Proxy

log = logging.getLogger(__name__)

# Bytes of a document that is encoded, and so of what is kept of a request at one time.
MAX_DOCUMENT = 16_000_000

# Seconds for documents that have to be encoded again, after the engine has them.
AGAIN_SECONDS = 30.0


class Writer:
    """Adds latent terms to the documents of one request."""

    def __init__(self, proxy: Proxy, exchange: Exchange, caller: Caller) -> None:
        self._proxy = proxy
        self._exchange = exchange
        self._caller = caller
        self._off = exchange.word(b"x-latent") == "off" or not proxy.settings.documents
        self.tally = Tally()
        self.written: list[tuple[int, Entry, bool]] = []
        """Number of each item with latent terms, its indices as they were known, and whether its
        text is known to the engine alone."""
        self._changed: set[str] = set()
        """Indices that were made again since they were read about."""

    @property
    def watched(self) -> bool:
        """Whether the answer shows what has to be encoded again: where a document is, or its id."""
        return any(only_part or not entry.is_plain for _, entry, only_part in self.written)

    async def has_changed(self) -> bool:
        """Return whether an index is another one than that for which its documents were encoded.

        It is asked once the engine has answered, so that what is written is compared with the index
        that has it, however late the proxy would have looked the index up again.
        """
        entries = {id(entry): entry for _, entry, only_part in self.written if not only_part}
        for entry in entries.values():
            self._changed |= await self._proxy.indices.changed(self._caller, entry)
        if self._changed:
            self._proxy.indices.forget()
        return bool(self._changed)

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
        unnamed = 0
        for number, entry, only_part in self.written:
            item = items[number] if number < len(items) else {}
            place: dict[str, Any] = next(iter(item.values()), {})
            if "error" in place or place.get("result") == "noop":
                continue
            if "_id" not in place:  # left out by filter_path
                unnamed += 1
                continue
            index = str(place.get("_index"))
            known = entry.asked is not None and index in entry.asked.metas
            if not known or index in self._changed or only_part:
                wrong.setdefault(index, {})[place["_id"]] = None
        if unnamed and self._changed:
            log.warning(
                "index %s was made again, and %d documents have latent terms of the old one: the "
                "answer that the client asked for (filter_path) does not name them",
                ", ".join(sorted(self._changed)),
                unnamed,
            )
            self.tally.counts[STALE] += unnamed
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
        """Note a document by its number, if it gets latent terms now or after the answer."""
        partial = source.partial and self._proxy.settings.complete_updates
        if source.entry and (source.texts or partial):
            self.written.append((number, source.entry, partial))

    async def again_in(self, content: bytes) -> None:
        """Encode documents again by the engine's answer to a `_bulk`, as `again`."""
        with suppress(ValueError, AttributeError, TypeError):
            await self.again(json.loads(content).get("items", []))

    def count(self) -> None:
        """Count documents in the metrics, and say in a header what was done."""
        for outcome, number in self.tally.counts.items():
            self._proxy.metrics.documents.labels(outcome).inc(number)
        self.tally.tell(self._exchange)


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
    content, whole = await read(exchange, MAX_DOCUMENT)
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
    if writer.written:
        headers = without(headers, b"accept-encoding")
    answer = await proxy.send(exchange, exchange.target, headers, line)
    async with answer:
        start = b""
        if 200 <= answer.status < 300 and (await writer.has_changed() or writer.watched):
            start = await answer.read()
            await writer.again_in(b'{"items":[{"index":%b}]}' % start)
        writer.count()
        await proxy.relay(exchange, answer, start)
