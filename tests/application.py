"""An application that writes to an index at random, and the check of what became of it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, TransportError

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import passes
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.actions import term_strings
from latent_ingest.connector.indexing.verify import Verification

Row = dict[str, Any]


class Application:
    """Inserts, replaces, updates and deletes documents; knows what the index has to hold."""

    def __init__(
        self, client: OpenSearch, index: str, seed: int, texts: Sequence[str], most: int = 120
    ) -> None:
        """Write nothing yet; there are about `most` documents in the end."""
        self.rows: dict[str, Row] = {}
        self.since: dict[str, float] = {}
        """When the text of each document was written, by `time.monotonic`; not while it is."""
        self.writes = 0
        self._client = client
        self._index = index
        self._chance = random.Random(seed)
        self._texts = texts
        self._most = most
        self._stop = threading.Event()

    def write(self) -> None:
        """Make one change."""
        chance = self._chance
        kinds = ["insert"] * 3 + ["replace", "update", "update", "other", "delete"]
        if len(self.rows) > self._most:
            kinds += ["delete"] * 4
        kind = chance.choice(kinds) if self.rows else "insert"
        name = f"d{chance.getrandbits(40)}" if kind == "insert" else chance.choice([*self.rows])
        text = f"{chance.choice(self._texts)[:60]} {chance.randrange(1000)}"
        if kind != "other":
            self.since.pop(name, None)
        match kind:
            case "delete":
                self._ask(self._client.delete, id=name, ignore=404)
                del self.rows[name]
            case "update":
                change = {"body": text}
                self._ask(self._client.update, id=name, body={"doc": change}, retry_on_conflict=20)
                self.rows[name] |= change
            case "other":  # no text
                change = {"year": chance.randrange(3000)}
                self._ask(self._client.update, id=name, body={"doc": change}, retry_on_conflict=20)
                self.rows[name] |= change
            case _:
                row = {"title": text[:10], "body": text, "year": 1}
                row["notes"] = [{"text": "a nested document"}, {"text": "another"}]
                self._ask(self._client.index, id=name, body=row)
                self.rows[name] = row
        if kind in ("insert", "replace", "update"):
            self.since[name] = time.monotonic()
        self.writes += 1

    def _ask(self, call: Any, **arguments: Any) -> None:
        """Repeat until the engine answers: each change is the same if it is made twice."""
        began = time.monotonic()
        while True:
            try:
                call(index=self._index, **arguments)
                return
            except NotFoundError:
                # While a replica becomes the primary copy, `_update` may miss a document that is
                # there; updates by `_bulk` do not. A lost document stays missing.
                if time.monotonic() - began > 30:
                    raise
            except TransportError as error:
                # The index is closed for a moment at first.
                if not passes(error):
                    raise
            time.sleep(0.2)

    @contextmanager
    def writing(self, pause: float) -> Iterator[None]:
        """Within it, another thread writes, with a pause after each change."""
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not self._stop.wait(pause * self._chance.random() * 2):
                    self.write()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        assert not failed, failed

    def late(self, seconds: float) -> list[str]:
        """Documents without the terms of their text, which was written so long ago or longer."""
        now, since = time.monotonic(), dict(self.since)
        old = [name for name, written in since.items() if now - written > seconds]
        if not old:
            return []
        answer = self._client.mget(
            index=self._index,
            body={"ids": old},
            params={"_source_includes": "latent_hash,title,body"},
        )
        found = {doc["_id"]: doc["_source"] for doc in answer["docs"] if doc.get("found")}
        # One that has been changed meanwhile is judged the next time.
        return [
            name
            for name in old
            if self.since.get(name) == since[name]
            and found[name].get("latent_hash") != text_hash(text_of(found[name]))
        ]

    def check(self, encoder: LatentEncoder) -> None:
        """Assert that the index holds these documents, each with the terms of its text."""
        corpus = Path("expected.jsonl")
        lines = [json.dumps({"_id": name, **row}) + "\n" for name, row in self.rows.items()]
        corpus.write_text("".join(lines))
        index = Index(self._client, self._index)
        report = Verification(index, corpus).run()
        assert report.ok, report
        assert report.same == len(self.rows) > 10
        names = [*self.rows]
        vectors = encoder.encode([text_of(row) for row in self.rows.values()])
        hits = self._client.search(index=self._index, body={"size": 1000})["hits"]["hits"]
        stored = {hit["_id"]: hit["_source"]["latent"] for hit in hits}
        for name, string in zip(names, term_strings(vectors, index.meta()), strict=True):
            # Batches of other texts differ in the last bit, which moves a count at the edge.
            found, expected = {*stored[name].split()}, {*string.split()}
            assert len(found ^ expected) <= 0.02 * len(expected) + 1, name


def text_of(row: Row) -> str:
    return f"{row['title']} {row['body']}"
