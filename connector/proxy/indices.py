"""What the proxy knows of indices: read with the rights of each caller, for some seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from latent_ingest.connector.errors import EngineError, LatentIngestError, MismatchError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.proxy.caller import JSON_HEADERS, Caller, TooLong, ask_once, client_of
from latent_ingest.connector.proxy.models import Models
from latent_ingest.connector.proxy.settings import Settings
from latent_ingest.connector.proxy.upstream import Unreachable, Upstream
from latent_ingest.connector.querying.application.point_in_time import indices_at
from latent_ingest.connector.querying.indices.asked_indices import ALIKE, AskedIndices
from latent_ingest.connector.querying.rewriter import QueryRewriter

log = logging.getLogger(__name__)

# Names times callers whose indices are remembered; one takes some 100 kB, most of it statistics.
MOST_ENTRIES = 256

# Indices behind one name; more are not described, since their mappings may be large.
MOST_INDICES = 100

Result = TypeVar("Result")

# Parts of the meta by which documents are written.
WRITTEN = (*ALIKE, "long", "text_fields", "hash_field", "id_field")

# Of mappings, the meta alone.
META_ALONE = "filter_path=*.mappings._meta.latent_ingest&ignore_unavailable=true"

NO_LATENTS = "no index of latent terms that can be read"


@dataclass(slots=True)
class Entry:
    """What is known of the indices of a name."""

    asked: AskedIndices | None = None
    rewriter: QueryRewriter | None = None
    reason: str = ""
    """Why searches are not rewritten."""
    read_at: float = field(default_factory=time.monotonic)
    unknown: bool = False
    """Whether it is not known what the indices are: the engine is away or forbids to read it, or
    they are too many."""
    as_given: bool = False
    """Whether the caller may search the name, and not the indices by their own names."""

    @property
    def target(self) -> str | None:
        """The name to search instead of the given one, which may move; None if that must stay."""
        if self.as_given or self.asked is None or self.asked.limited:
            return None
        target = self.asked.target
        return None if target == self.asked.name else target

    @property
    def may_move(self) -> bool:
        """Whether the name that is searched may come to stand for other indices."""
        return self.asked is not None and self.target is None and not self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether the name is that of an index, or of several."""
        return self.asked is not None and set(self.asked.name.split(",")) == set(self.asked.metas)

    @property
    def meta(self) -> IndexMeta | None:
        """The meta by which documents are written to the name; None if its indices differ."""
        if self.asked is None or not self.asked.metas:
            return None
        first, *others = self.asked.metas.values()
        return first if all(written_alike(one, first) for one in others) else None


def written_alike(one: IndexMeta, other: IndexMeta) -> bool:
    """Return whether documents get the same latent terms in two indices."""
    return all(getattr(one, part) == getattr(other, part) for part in WRITTEN)


class Indices:
    """The indices that callers name."""

    def __init__(self, upstream: Upstream, models: Models, settings: Settings) -> None:
        self._upstream = upstream
        self._models = models
        self._settings = settings
        login = settings.connection.login()
        self._own = Caller.of(login) if login.header else None
        self._entries: OrderedDict[tuple[bytes, str], Entry] = OrderedDict()
        self._reading: dict[tuple[bytes, str], asyncio.Future[Entry]] = {}
        self._points: OrderedDict[tuple[bytes, str], str] = OrderedDict()
        self.on_lookup: Callable[[bool], None] = lambda cached: None
        """Called for each name that is asked for, with whether it was cached."""

    @property
    def secretive(self) -> bool:
        """Whether what is known may be more than a caller may read."""
        return self._own is not None

    async def find(self, caller: Caller, name: str) -> Entry:
        """Return what is known of the indices of a name, at most `renew_seconds` old."""
        reader = self._own or caller
        key = (reader.key, name)
        entry = self._entries.get(key)
        fresh = entry and time.monotonic() - entry.read_at < self._settings.renew_seconds
        self.on_lookup(bool(fresh))
        if entry and fresh:
            self._entries.move_to_end(key)
            return entry
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(self._read(reader, name, entry))
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        # A caller that goes away does not end what others wait for.
        return await asyncio.shield(reading)

    async def at_point(self, caller: Caller, point: str) -> Entry:
        """Return what is known of the indices of a point in time."""
        reader = self._own or caller
        key = (caller.key, point)
        if key not in self._points:
            client = client_of(self._upstream, caller, asyncio.get_running_loop())
            try:
                names = await self._in_thread(partial(indices_at, client, point))
            except LatentIngestError as error:
                return Entry(reason=told_callers(error))
            except (KeyError, TypeError):
                return Entry(reason="the indices of the point in time cannot be read")
            self._points[key] = ",".join(names)
            if len(self._points) > MOST_ENTRIES:
                self._points.popitem(last=False)
        if not self._points[key]:
            return Entry(reason="no documents at that point in time")
        return await self.find(reader, self._points[key])

    def forget(self, caller: Caller | None = None, name: str | None = None) -> None:
        """Read again what is known of a name, or of all names."""
        if caller is None or name is None:
            self._entries.clear()
        else:
            self._entries.pop(((self._own or caller).key, name), None)

    async def changed(self, caller: Caller, entry: Entry) -> set[str]:
        """Return which indices of a name now want other latent terms in documents, or none.

        An index that was deleted and made again under its name is noticed by that. Nothing is
        noticed if the engine does not answer, or forbids to read it.
        """
        if entry.asked is None:
            return set()
        names = quote(entry.target or entry.asked.name, safe=",*")
        headers = [*(self._own or caller).headers, *JSON_HEADERS]
        target = f"/{names}/_mapping?{META_ALONE}"
        try:
            status, content = await ask_once(self._upstream, "GET", target, headers, None)
            found = json.loads(content) if status == 200 else None
        except (Unreachable, LatentIngestError, ValueError):
            return set()
        if not isinstance(found, dict):
            return set()
        return {name for name, meta in entry.asked.metas.items() if not still(meta, name, found)}

    async def _read(self, reader: Caller, name: str, before: Entry | None) -> Entry:
        client = client_of(self._upstream, reader, asyncio.get_running_loop())
        try:
            entry = await self._in_thread(partial(self._described, client, name, before))
        except EngineError as error:  # not remembered: the engine may be back at once
            return Entry(reason=told_callers(error), unknown=True)
        except LatentIngestError as error:
            entry = Entry(reason=str(error), unknown=isinstance(error, TooLong))
        except Exception as error:  # the search or the document passes all the same
            log.warning("index %s cannot be read about: %s: %s", name, type(error).__name__, error)
            entry = Entry(reason="what the engine says of the index cannot be read")
        if before:
            entry.as_given = before.as_given
        key = (reader.key, name)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > MOST_ENTRIES:
            self._entries.popitem(last=False)
        return entry

    def _described(self, client: Any, name: str, before: Entry | None) -> Entry:
        """Read about indices, in a thread; raises as `AskedIndices.read`."""
        asked = AskedIndices.read(client, name)
        if len(asked.metas) > MOST_INDICES:
            reason = f"{len(asked.metas)} indices; name at most {MOST_INDICES}"
            return Entry(reason=reason, unknown=True)
        if before and before.rewriter and before.asked and before.asked.key == asked.key:
            return Entry(asked, before.rewriter)
        try:
            asked.check_alike()
            rewriter = QueryRewriter.for_indices(client, asked, self._models.queries(asked))
        except EngineError:
            raise
        except LatentIngestError as error:
            return Entry(asked, None, str(error))
        return Entry(asked, rewriter)

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._models.pool, function)


def still(meta: IndexMeta, name: str, found: dict[str, Any]) -> bool:
    """Return whether documents of an index still get the same latent terms, by its mapping."""
    try:
        return written_alike(meta, IndexMeta.from_mapping(name, found.get(name, {})["mappings"]))
    except (KeyError, TypeError, MismatchError):
        return False


def told_callers(error: LatentIngestError) -> str:
    """Return why indices cannot be read about, in a line for callers."""
    if isinstance(error, EngineError) and not answered(error):
        return "the engine did not answer when it was asked about the index"
    return str(error)


def answered(error: EngineError) -> bool:
    """Return whether the engine answered, if only to refuse."""
    return isinstance(getattr(error.__cause__, "status_code", None), int)
