"""Checks of a cluster: versions, limits, disks, settings that concern latent terms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from latent_ingest.connector.diagnosis.finding import (
    NOTE,
    OK,
    PROBLEM,
    WARNING,
    Check,
    Finding,
    is_true,
    setting,
)
from latent_ingest.connector.engine.client import EngineInfo, reason_of
from latent_ingest.connector.querying.clause_limit import ENGINE_CLAUSES, read_clause_limit

# Versions that the tests run on, by distribution: the major ones.
TESTED = {"opensearch": (2, 3), "elasticsearch": (7, 8, 9)}

# Plugins that change what a login may do, or how text is analyzed or searched.
PLUGINS = re.compile(r"security|analysis-|asynchronous-search|neural-search|knn")

# A bulk request of the default size fits in this many bytes, and so does a table of 30,000 words.
REQUEST_BYTES = 10 << 20

# A share of the cluster's shards above which a new version may be the one that is refused.
MANY_SHARDS = 0.9

UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}

CLOSING = "cluster.indices.close.enable"
REWRITING = "search.query_rewriting.enabled"
CONCURRENT = "search.concurrent_segment_search.mode"
WATERMARK = "cluster.routing.allocation.disk.watermark"
MOST_SHARDS = "cluster.max_shards_per_node"
BLOCKS = ("cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete")


class Cluster:
    """The checks of a cluster; nothing is changed."""

    def __init__(self, client: OpenSearch) -> None:
        self._client = client

    def checks(self) -> dict[str, Check]:
        """The checks by name, in the order of their output."""
        return {
            "version": self.version,
            "plugins": self.plugins,
            "health": self.health,
            "blocks": self.blocks,
            "disk": self.disk,
            "clause limit": self.clause_limit,
            "request size": self.request_size,
            "delimited filter": self.delimited,
            "closing": self.closing,
            "query rewriting": self.query_rewriting,
            "concurrent search": self.concurrent_search,
        }

    @cached_property
    def _settings(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.cluster.get_settings(
            include_defaults=True, flat_settings=True
        )
        return answer

    def version(self) -> Iterator[Finding]:
        """Distribution and version, and whether tests cover it."""
        info = EngineInfo.read(self._client)
        found = f"{info.distribution} {'.'.join(map(str, info.version))}"
        if info.version[0] in TESTED.get(info.distribution, ()):
            yield Finding("version", OK, found)
        else:
            yield Finding("version", NOTE, found, "not among the versions that are tested")

    def plugins(self) -> Iterator[Finding]:
        """Plugins that matter; none is needed."""
        rows = self._client.cat.plugins(format="json", h="component")
        names = sorted({row["component"] for row in rows})
        matter = [name for name in names if PLUGINS.search(name)]
        yield Finding("plugins", OK, ", ".join(matter) or "none that matters; none is needed")

    def health(self) -> Iterator[Finding]:
        """Colour, nodes, and room for further shards."""
        health = self._client.cluster.health()
        nodes, shards = health["number_of_data_nodes"], health["active_shards"]
        found = f"{health['status']}; data nodes: {nodes}, active shards: {shards}"
        if health["status"] == "red":
            yield Finding("health", PROBLEM, found, "shards are missing: hits are incomplete")
        else:
            yield Finding("health", OK, found)
        most = int(setting(self._settings, MOST_SHARDS) or 0) * nodes
        if most and shards > MANY_SHARDS * most:
            yield Finding(
                "health",
                WARNING,
                f"{shards} of at most {most} shards",
                f"a new index may be refused; delete some, or raise {MOST_SHARDS}",
            )

    def blocks(self) -> Iterator[Finding]:
        """Blocks of the whole cluster."""
        held = [name for name in BLOCKS if is_true(setting(self._settings, name))]
        if held:
            advice = "nothing can be written; set it to null once its reason is gone"
            yield Finding("blocks", PROBLEM, " and ".join(held), advice)
        else:
            yield Finding("blocks", OK, "none")

    def disk(self) -> Iterator[Finding]:
        """How full the fullest disk is, against the watermarks."""
        nodes = self._client.nodes.stats(metric="fs")["nodes"].values()
        disks = [node["fs"]["total"] for node in nodes if node.get("fs", {}).get("total")]
        if not disks:
            yield Finding("disk", NOTE, "no node tells its disk")
            return
        fullest = min(disks, key=lambda disk: disk["available_in_bytes"] / disk["total_in_bytes"])
        free, total = fullest["available_in_bytes"], fullest["total_in_bytes"]
        found = f"{free / 1e9:,.1f} GB of {total / 1e9:,.1f} GB free on the fullest node"
        flood, high = (
            required_free(setting(self._settings, f"{WATERMARK}.{name}"), total)
            for name in ("flood_stage", "high")
        )
        if free < flood:
            advice = "above the flood stage: indices become read-only; free disk space"
            yield Finding("disk", PROBLEM, found, advice)
        elif free < high:
            advice = "above the high watermark: a new index may get no shards; free disk space"
            yield Finding("disk", WARNING, found, advice)
        else:
            yield Finding("disk", OK, found)

    def clause_limit(self) -> Iterator[Finding]:
        """How many terms a question may have."""
        limit = read_clause_limit(self._client)
        found = f"{limit:,} clauses in a query"
        if limit < ENGINE_CLAUSES:
            advice = "long questions lose their weakest latent terms; the default is 1,024"
            yield Finding("clause limit", WARNING, found, advice)
        else:
            yield Finding("clause limit", OK, found)

    def request_size(self) -> Iterator[Finding]:
        """The largest request that every node takes."""
        nodes = self._client.nodes.info(metric="http")["nodes"].values()
        sizes = [node["http"]["max_content_length_in_bytes"] for node in nodes if node.get("http")]
        least = min(sizes, default=0)
        found = f"{least / (1 << 20):,.0f} MB"
        if sizes and least < REQUEST_BYTES:
            advice = "requests are divided, and a question table needs fewer --question-words"
            yield Finding("request size", WARNING, found, advice)
        else:
            yield Finding("request size", OK, found)

    def delimited(self) -> Iterator[Finding]:
        """Whether the engine has the filter of `--spelling delimited`."""
        body = {"tokenizer": "whitespace", "filter": ["delimited_term_freq"], "text": "f1|2"}
        try:
            self._client.indices.analyze(body=body)
        except RequestError as error:
            advice = "use --spelling repeat, the default"
            yield Finding("delimited filter", NOTE, f"not there ({reason_of(error)})", advice)
        else:
            yield Finding("delimited filter", OK, "there")

    def closing(self) -> Iterator[Finding]:
        """Whether indices may be closed, which changes of analyzers and similarities need."""
        allowed = setting(self._settings, CLOSING)
        if allowed is None or is_true(allowed):
            yield Finding("closing", OK, "allowed by the cluster")
        else:
            advice = (
                "a new index keeps the question table of its model; 'tune --apply', 'questions "
                "--index' and a first 'enrich' need --alias or another index"
            )
            yield Finding("closing", WARNING, f"{CLOSING} is false", advice)

    def query_rewriting(self) -> Iterator[Finding]:
        """Whether the engine merges terms of equal boost."""
        on = is_true(setting(self._settings, REWRITING))
        advice = "latent terms have boosts that differ, so their scores stay" if on else ""
        yield Finding("query rewriting", NOTE if on else OK, "on" if on else "off", advice)

    def concurrent_search(self) -> Iterator[Finding]:
        """How many segments a search reads at once."""
        mode = setting(self._settings, CONCURRENT)
        yield Finding("concurrent search", OK, str(mode or "not in this version"))


def required_free(watermark: Any, total: int) -> float:
    """Bytes that a watermark wants free: `85%` and `0.85` are shares used, `10gb` is free space."""
    text = str(watermark or "").strip().lower()
    if found := re.fullmatch(r"([\d.]+)%", text):
        return total * (1 - float(found[1]) / 100)
    if found := re.fullmatch(r"([\d.]+)(b|kb|mb|gb|tb)", text):
        return float(found[1]) * UNITS[found[2]]
    if re.fullmatch(r"[01]?\.\d+|1", text):
        return total * (1 - float(text))
    return 0.0
