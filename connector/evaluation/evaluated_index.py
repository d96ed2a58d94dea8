"""The index under evaluation: whether it holds the collection, and the size of its fields."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from opensearchpy.exceptions import TransportError

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.engine.client import engine_errors
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.evaluation.rankings import batched
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta

# Ids looked up per request; engines return at most 10,000 hits.
LOOKED_UP = 5_000

# Frequent English words that are rarely words of other languages.
ENGLISH = frozenset({"the", "of", "and", "to", "that", "for", "with", "are", "this", "by", "from"})

# Smallest share of these words in an English text: .18 in SciFact, .05 in LIMIT, whose documents
# are lists of what people like.
LEAST_SHARE = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluatedIndex:
    """An index, and the collection whose documents it holds or is to hold."""

    index: Index
    collection: Collection

    def is_complete(self) -> bool:
        """Whether the index exists and holds as many documents as the corpus has ids.

        Raises:
            MismatchError: the index has no latent terms, or the engine makes its ids.
            EngineError: the engine cannot be asked.
        """
        meta = IndexMeta.read(self.index.client, self.index.name)
        if meta is None:
            return False
        if meta.ids == "engine":
            raise MismatchError(
                f"the engine makes the ids of {self.index.name}, but judgements name the "
                f"collection's ids; name another index with --index"
            )
        if self.collection.corpus is None:
            return True
        return self.n_documents() == len(set(self.collection.contents.ids))

    def n_documents(self) -> int:
        """Number of documents in the index; chunks of one document count once."""
        chunked = self.index.meta().long == "chunks"
        return self.index.count({"term": {"chunk": 0}} if chunked else None)

    def other_documents(self) -> InputError:
        """Return the error for an index that holds other documents than the corpus."""
        return InputError(
            f"index {self.index.name} holds other documents than {self.collection.corpus}; name a "
            f"new index with --index"
        )

    def check_judged(self) -> None:
        """Check that the index holds the judged documents; log a warning if it lacks some.

        Raises:
            MismatchError: it has none of them, or lacks one that is in the corpus.
        """
        judged, corpus = self.collection.judged, self.collection.corpus
        if corpus is not None:
            judged &= set(self.collection.contents.ids)
        missing = self.missing(judged)
        if not missing:
            return
        line = (
            f"index {self.index.name} lacks {len(missing):,} of the {len(judged):,} documents that "
            f"{self.collection.name} judges, such as {missing[0]!r}"
        )
        if corpus is not None or len(missing) == len(judged):
            raise MismatchError(
                f"{line}; it holds other documents, or has other ids; name another with --index"
            )
        log.warning("%s", line)

    def check_language(self) -> None:
        """Log a warning if words are analyzed as English but the corpus seems not to be English."""
        if self.collection.corpus is None or self.index.meta().analyzer != "english":
            return
        if not seems_english(self.collection.contents.sample):
            log.warning(
                "%s does not seem to be English, but %s analyzes its words as English; ingest it "
                "with --analyzer, and name that index with --index",
                self.collection.name,
                self.index.name,
            )

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Return the sorted ids of the documents that the index lacks."""
        client, name = self.index.client, self.index.name
        suffix = "#0" if self.index.meta().long == "chunks" else ""
        missing: list[str] = []
        for some in batched(sorted(ids), LOOKED_UP):
            wanted = {"ids": {"values": [id + suffix for id in some]}}
            body = {"query": wanted, "size": len(some), "_source": False}
            with engine_errors(client):
                hits = client.search(index=name, body=body)["hits"]["hits"]
            held = {hit["_id"] for hit in hits}
            missing += [id for id in some if id + suffix not in held]
        return missing

    def field_bytes(self) -> dict[str, int] | None:
        """Bytes of each field on disk; None if the engine has no such statistics.

        Elasticsearch has them since 7.15; OpenSearch 3.8 does not.

        Raises:
            EngineError: the engine cannot be reached.
        """
        client = self.index.client
        with engine_errors(client):
            try:
                answer = client.transport.perform_request(
                    "POST",
                    f"/{self.index.name}/_disk_usage",
                    params={"run_expensive_tasks": "true"},
                )
            except TransportError as error:
                if not isinstance(error.status_code, int):  # no response at all
                    raise
                return None
        return fields_in(answer)


def fields_in(answer: dict[str, Any]) -> dict[str, int]:
    """Sum the bytes of each field over the indices of a `_disk_usage` response."""
    sizes: dict[str, int] = {}
    for index, content in answer.items():
        if index != "_shards":
            for name, size in content["fields"].items():
                sizes[name] = sizes.get(name, 0) + size["total_in_bytes"]
    return sizes


def seems_english(texts: Iterable[str]) -> bool:
    """Whether texts seem to be English; True if they have no words."""
    words = [word for text in texts for word in re.findall(r"\w+", text)]
    return not words or sum(word.lower() in ENGLISH for word in words) / len(words) >= LEAST_SHARE
