"""Checks of an index: its model, question table, documents, shards and settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.diagnosis.finding import (
    NOTE,
    OK,
    PROBLEM,
    UNKNOWN,
    WARNING,
    Check,
    Finding,
    is_true,
)
from latent_ingest.connector.engine.blocks import LASTING, fix
from latent_ingest.connector.errors import InputError, MismatchError, ModelError
from latent_ingest.connector.index.index import primaries
from latent_ingest.connector.index.listing import list_indices
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.repair import left_note
from latent_ingest.connector.questions.question_table import QuestionTable

# Elastic's and OpenSearch's guides: shards of 10 to 50 GB.
LARGE_SHARD = 50e9
SMALL_SHARD = 1e9

# Deleted documents count in the engine's document frequencies until they are merged away.
MANY_DELETED = 0.3

# Seconds after which writes become searchable that surprise people.
SLOW_REFRESH = 60


class AskedIndex:
    """The checks of the one index that a name or alias stands for; nothing is changed."""

    def __init__(self, client: OpenSearch, name: str, model: str | None = None) -> None:
        """Find the index; `model` is the folder or name of the model that asks it.

        Raises:
            InputError: no index has that name, or several do.
            EngineError: the engine cannot be asked.
        """
        found = list_indices(client, name)
        if not found:
            raise InputError(f"no index or alias {name}; 'latent-ingest indices' lists them")
        if len(found) > 1:
            names = ", ".join(info.name for info in found)
            raise InputError(f"{name}: {len(found)} indices ({names}); name one")
        self._client, self._info, self._model = client, found[0], model

    @property
    def name(self) -> str:
        """Its own name."""
        return self._info.name

    def checks(self) -> dict[str, Check]:
        """The checks by name, in the order of their output; few if it is closed or not ours."""
        checks: dict[str, Check] = {"index": self.state}
        if self._info.closed:
            return checks
        if self._info.stored:
            checks |= {
                "model": self.model,
                "question table": self.question_table,
                "latent terms": self.latent_terms,
            }
        return checks | {
            "shards": self.shards,
            "deleted documents": self.deleted,
            "replicas": self.replicas,
            "refresh": self.refresh,
            "index blocks": self.blocks,
        }

    @cached_property
    def _meta(self) -> IndexMeta:
        return self._info.meta

    @cached_property
    def _found(self) -> dict[str, Any]:
        (content,) = self._client.indices.get(index=self.name, flat_settings=True).values()
        return dict(content)

    def _setting(self, name: str) -> Any:
        return self._found["settings"].get(f"index.{name}")

    def state(self) -> Iterator[Finding]:
        """Whether it is open, complete, and left alone by other runs."""
        info = self._info
        aliases = f" ({', '.join(sorted(info.aliases))})" if info.aliases else ""
        if info.closed:
            advice = f"searches fail; open it (POST /{info.name}/_open)"
            yield Finding("index", PROBLEM, f"{info.name} is closed", advice)
        elif not info.stored:
            advice = f"'latent-ingest enrich --index {info.name}' adds latent terms"
            yield Finding("index", WARNING, f"{info.name}{aliases} has no latent terms", advice)
        elif left_note(self._found["mappings"]):
            advice = "an interrupted run changed its settings; any command with --index restores it"
            yield Finding("index", WARNING, f"{info.name}{aliases} was left changed", advice)
        elif info.guards:
            advice = "a run loads it, or was killed; 'latent-ingest runs' has the command to resume"
            yield Finding("index", NOTE, f"{info.name}{aliases} is being loaded", advice)
        elif info.complete is False:
            advice = "its version has not taken its alias; resume the run, or 'latent-ingest prune'"
            yield Finding("index", NOTE, f"{info.name} is unfinished", advice)
        else:
            yield Finding("index", OK, f"{info.name}{aliases}")

    def model(self) -> Iterator[Finding]:
        """Whether the model that asks is the one that made it."""
        try:
            meta = self._meta
        except MismatchError as error:
            yield Finding("model", PROBLEM, "_meta is incomplete", str(error))
            return
        found = f"{meta.model} ({meta.fingerprint}), made by version {meta.version}"
        try:
            ours = QuestionTable.load(self._model).fingerprint.digest
        except ModelError as error:
            yield Finding("model", UNKNOWN, found, f"not compared with the model here: {error}")
            return
        if ours == meta.fingerprint:
            yield Finding("model", OK, found)
        else:
            advice = (
                f"the model here is another ({ours}): name that of the index with --model, or "
                f"ask by the table of the index (--questions table)"
            )
            yield Finding("model", WARNING, found, advice)

    def question_table(self) -> Iterator[Finding]:
        """Whether plain `match` queries of the latent field find by meaning."""
        table = self._info.stored.get("questions")
        if not table:
            advice = (
                f"'match' of the latent field finds latent terms only; 'latent-ingest questions "
                f"--index {self.name}' adds a table"
            )
            yield Finding("question table", NOTE, "none", advice)
            return
        own = table["origin"] == "index"
        made = "made for its documents" if own else "the most frequent words of its model's"
        yield Finding("question table", OK, f"{table['words']:,} words, {made}")

    def latent_terms(self) -> Iterator[Finding]:
        """Documents that have text and no latent terms; nothing where `_meta` is incomplete."""
        try:
            meta = self._meta
        except MismatchError:
            return
        some_text = [{"exists": {"field": name}} for name in meta.text_fields]
        body = {
            "query": {
                "bool": {
                    "should": some_text,
                    "minimum_should_match": 1,
                    "must_not": [{"exists": {"field": meta.latent_field}}],
                }
            }
        }
        lacking = int(self._client.count(index=self.name, body=body)["count"])
        documents = int(self._client.count(index=self.name)["count"])
        found = f"{documents:,} documents, {lacking:,} of them with text and without latent terms"
        if not documents:
            yield Finding("latent terms", NOTE, found, "nothing can be found")
        elif lacking:
            advice = (
                f"they are found by words alone; 'latent-ingest enrich --index {self.name}' adds "
                f"the terms, and renews those of texts that changed"
            )
            yield Finding("latent terms", WARNING, found, advice)
        else:
            yield Finding("latent terms", OK, found)

    @cached_property
    def _shards(self) -> list[dict[str, Any]]:
        answer = self._client.indices.stats(index=self.name, level="shards")
        return list(primaries(answer["indices"][self.name]))

    def shards(self) -> Iterator[Finding]:
        """Number and sizes of the primary shards."""
        sizes = [shard["store"]["size_in_bytes"] for shard in self._shards]
        if not sizes:
            yield Finding("shards", PROBLEM, "no primary shard is there", "hits are incomplete")
            return
        found = f"{len(sizes)}, the largest of {max(sizes) / 1e6:,.1f} MB"
        if max(sizes) > LARGE_SHARD:
            advice = "slow to move and to search; use more shards (number_of_shards)"
            yield Finding("shards", WARNING, found, advice)
        elif len(sizes) > 1 and sum(sizes) < SMALL_SHARD:
            advice = (
                "one shard would be faster, and each shard has its own document frequencies, so "
                "that scores depend on where a document lies"
            )
            yield Finding("shards", NOTE, found, advice)
        else:
            yield Finding("shards", OK, found)

    def deleted(self) -> Iterator[Finding]:
        """The share of deleted documents that are still in segments."""
        kept, gone = (
            sum(shard["docs"][name] for shard in self._shards) for name in ("count", "deleted")
        )
        share = gone / max(1, kept + gone)
        found = f"{gone:,} of {kept + gone:,} ({share:.0%})"
        if share > MANY_DELETED:
            advice = "they count in document frequencies until a merge (POST /_forcemerge)"
            yield Finding("deleted documents", NOTE, found, advice)
        else:
            yield Finding("deleted documents", OK, found)

    def replicas(self) -> Iterator[Finding]:
        """Whether a lost node would lose documents."""
        nodes = self._client.cluster.health()["number_of_data_nodes"]
        replicas = self._info.replicas
        if replicas == 0 and nodes > 1:
            advice = "a lost node loses documents; set number_of_replicas to 1"
            yield Finding("replicas", WARNING, "none", advice)
        elif replicas >= nodes:
            found = f"{replicas}; data nodes: {nodes}"
            yield Finding("replicas", NOTE, found, "some cannot be placed: the index stays yellow")
        else:
            yield Finding("replicas", OK, str(replicas))

    def refresh(self) -> Iterator[Finding]:
        """When writes become searchable."""
        interval = str(self._setting("refresh_interval") or "1s")
        if interval.startswith("-1"):
            advice = "new documents stay invisible; set index.refresh_interval to null"
            yield Finding("refresh", WARNING, "off", advice)
        elif seconds_in(interval) > SLOW_REFRESH:
            yield Finding("refresh", NOTE, interval, "new documents become visible after that time")
        else:
            yield Finding("refresh", OK, interval)

    def blocks(self) -> Iterator[Finding]:
        """Blocks by which the engine refuses writes or changes."""
        held = [
            f"index.blocks.{block}"
            for block in (*LASTING, "write", "read")
            if is_true(self._setting(f"blocks.{block}"))
        ]
        if held:
            yield Finding("index blocks", WARNING, " and ".join(held), fix(held[0]))
        else:
            yield Finding("index blocks", OK, "none")


def seconds_in(interval: str) -> float:
    """Seconds of an interval as engines write it: 30s, 5m."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", interval)
    return float(found[1]) * units[found[2]] if found else 0.0
